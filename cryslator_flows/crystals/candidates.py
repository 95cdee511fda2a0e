"""From a template and a substitution to a candidate."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Composition

from cryslator_flows.crystals.substitution import Substitution, rescale, substitute
from cryslator_flows.schemas import Candidate, Template

if TYPE_CHECKING:
    from pymatgen.core import Structure
    from pymatgen.core.structure_prediction.volume_predictor import DLSVolumePredictor


@dataclass(frozen=True)
class CandidateRow:
    """What makes a candidate, without its structure.

    Parameters
    ----------
    template : Template
        The template.
    substitution : Substitution
        Its new elements.
    """

    template: Template
    substitution: Substitution


def candidate_id(structure: Structure, mapping: dict[str, str], rescale_volume: bool) -> str:
    """Stable identifier of a candidate.

    Parameters
    ----------
    structure : Structure
        The template structure.
    mapping : dict
        Template element to new element.
    rescale_volume : bool
        Whether the candidate is scaled to a predicted volume.

    Returns
    -------
    str
        16 hexadecimal digits; the same on every machine.
    """
    content = {
        "lattice": (np.round(structure.lattice.matrix, 5) + 0.0).tolist(),
        "frac": (np.round(structure.frac_coords, 5) + 0.0).tolist(),
        "species": [site.species_string for site in structure],
        "substitution": sorted(mapping.items()),
        "rescale_volume": rescale_volume,
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def substituted_formula(composition: Composition, mapping: dict[str, str]) -> str:
    """Reduced formula after a substitution.

    Parameters
    ----------
    composition : Composition
        Of the template, by element.
    mapping : dict
        Template element to new element.
    """
    amounts: Counter[str] = Counter()
    for element, amount in composition.items():
        amounts[mapping[element.symbol]] += amount
    return str(Composition(amounts).reduced_formula)


def make_candidate(row: CandidateRow, predictor: DLSVolumePredictor | None) -> Candidate:
    """Make the unrelaxed structure of a candidate.

    Parameters
    ----------
    row : CandidateRow
        Template and substitution.
    predictor : DLSVolumePredictor or None
        Scales the candidate to the volume it predicts.

    Raises
    ------
    StructureError
        The substitution leaves out an element of the template.
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
