"""Candidates from a template and a substitution."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache
from math import gcd, isnan
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pymatgen.core import Composition, Element
from pymatgen.core.composition import reduce_formula

from cryslator_flows.crystals.moments import moments_of
from cryslator_flows.crystals.substitution import Substitution, rescale, substitute
from cryslator_flows.documents.candidates import Candidate, Template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymatgen.core import Structure
    from pymatgen.core.structure_prediction.volume_predictor import DLSVolumePredictor


@dataclass(frozen=True)
class CandidateRow:
    """Description of a candidate without its structure.

    Parameters
    ----------
    template : Template
        The template.
    substitution : Substitution
        New elements of the template.
    """

    template: Template
    substitution: Substitution


def candidate_id(structure: Structure, mapping: dict[str, str], rescale_volume: bool) -> str:
    """Return the stable identifier of a candidate.

    Parameters
    ----------
    structure : Structure
        The template structure.
    mapping : dict
        Template element to new element.
    rescale_volume : bool
        True if the candidate is scaled to a predicted volume.

    Returns
    -------
    str
        16 hexadecimal digits, equal on every machine.
    """
    moments = moments_of(structure)
    content = {
        "lattice": (np.round(structure.lattice.matrix, 5) + 0.0).tolist(),
        "frac": (np.round(structure.frac_coords, 5) + 0.0).tolist(),
        "species": [site.species_string for site in structure],
        "substitution": sorted(mapping.items()),
        "rescale_volume": rescale_volume,
        **({} if moments is None else {"magmom": moments}),
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


class ReducedFormula(NamedTuple):
    """Reduced formula in pymatgen's notation, and the number of atoms of each element, by symbol."""

    text: str
    amounts: dict[str, int]


@cache
def _electronegativity(symbol: str) -> tuple[float, str]:
    """Return the key by which pymatgen orders elements in reduced formulas."""
    value = Element(symbol).X
    return (float("inf") if isnan(value) else value, symbol)


# Patterns of formulas by amounts and last two elements, as in "{0}3({1}{2}4)2": pymatgen puts polyanions in brackets.
_patterns: dict[tuple[tuple[int, ...], tuple[str, ...]], str] = {}


def substituted_formula(amounts: Mapping[str, float], mapping: dict[str, str]) -> ReducedFormula:
    """Return the reduced formula after a substitution.

    Parameters
    ----------
    amounts : dict
        Number of atoms of each element of the template, by symbol.
    mapping : dict
        Template element to new element.
    """
    new: dict[str, int] = {}
    for symbol, amount in amounts.items():
        new[mapping[symbol]] = new.get(mapping[symbol], 0) + round(amount)
    symbols = sorted(new, key=_electronegativity)
    divisor = gcd(*new.values())
    reduced = {symbol: new[symbol] // divisor for symbol in symbols}
    key = (tuple(reduced.values()), tuple(symbols[-2:]))
    if key not in _patterns:
        places = {symbol: f"{{{place}}}" for place, symbol in enumerate(symbols)}
        _patterns[key] = re.sub("[A-Z][a-z]*", lambda match: places[match[0]], reduce_formula(reduced)[0])
    text = _patterns[key].format(*symbols)
    if text in Composition.special_formulas:
        text = Composition.special_formulas[text]
        reduced = {symbol: round(amount) for symbol, amount in Composition(text).get_el_amt_dict().items()}
    return ReducedFormula(text, reduced)


def make_candidate(row: CandidateRow, predictor: DLSVolumePredictor | None) -> Candidate:
    """Make the unrelaxed structure of a candidate.

    Parameters
    ----------
    row : CandidateRow
        Template and substitution.
    predictor : DLSVolumePredictor or None
        Predictor of the volume to which the candidate is scaled; None for no scaling.

    Raises
    ------
    StructureError
        The substitution lacks an element of the template.
    """
    template, mapping = row.template, row.substitution.mapping
    structure = substitute(template.structure, mapping)
    return Candidate(
        candidate_id=candidate_id(template.structure, mapping, predictor is not None),
        template_id=template.template_id,
        substitution=mapping,
        structure=structure if predictor is None else rescale(structure, predictor),
        reduced_formula=structure.composition.reduced_formula,
        chemsys=structure.chemical_system,
        probability=row.substitution.probability,
        magnetic_moments="template" if "magmom" in structure.site_properties else "input set",
    )
