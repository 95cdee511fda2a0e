"""Draw the candidates of protocol 2 from the spaces in spaces-2.yaml, and write them to candidates-2.jsonl.

Example: python workflows/dft-savings/draw.py DATA/mp_pairs_train.jsonl.gz DATA/nrel_pairs.jsonl.gz

The software enumerates each space, and a seeded generator puts it in random order. In this order a candidate is taken
if it passes all rules of PROTOCOL-2.md. No rule looks at a translation, a potential or a relaxation.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import spglib
from monty.json import MontyEncoder
from pydantic import Field
from pymatgen.core import Composition, Element, Structure
from pymatgen.core.structure_prediction.volume_predictor import DLSVolumePredictor

from cryslator_flows.config import StrictModel, YamlFile
from cryslator_flows.crystals.candidate_rows import CandidateRow, make_candidate, substituted_formula
from cryslator_flows.crystals.compound_classes import compound_class
from cryslator_flows.crystals.enumeration import Enumeration
from cryslator_flows.crystals.substitution import (
    AnySubstitutionSpace,
    Symbol,
    rescale,
    site_elements,
    template_elements,
)
from cryslator_flows.crystals.symmetry import SYMPREC
from cryslator_flows.crystals.templates import AnyTemplateSource
from cryslator_flows.documents.candidates import Candidate, Template
from cryslator_flows.engines.kpoints import mesh
from cryslator_flows.training.records import read_lines

HERE = Path(__file__).parent
# Largest logarithm of predicted volume over template volume.
MISMATCH = 0.3
# Longest estimated time of an electronic step, in s.
MAX_SECONDS = 2.0
# Fewest and most parameters of cell and positions that symmetry leaves free.
FREE = range(2, 21)
# Starts of all candidates with BFGS, and of every third that is drawn with conjugate gradients too.
BFGS = ["unrelaxed", "scaled", "translated", "mlip", "translated_mlip"]
CG = ["unrelaxed", "translated", "mlip"]
EVERY = 3


class Space(StrictModel):
    """A space of candidates."""

    name: str = Field(description="Name of the space")
    kind: str = Field(description="Class of its compounds and of its templates, see `compound_class`")
    count: int = Field(ge=1, description="Number of candidates to draw")
    kspacing: float = Field(gt=0, description="Largest distance of k-points, in 1/angstrom")
    speed: float = Field(gt=0, description="Time of an electronic step by A^3, irreducible k-point and spin, in s")
    templates: list[AnyTemplateSource] = Field(description="Sources of templates")
    substitutions: list[AnySubstitutionSpace] = Field(description="Elements and their substitutes")


class Spaces(StrictModel):
    """All spaces, and what their draws share."""

    seed: int = Field(description="Seed of the generators")
    states: dict[Symbol, Annotated[list[int], Field(min_length=1)]] = Field(description="Oxidation states")
    spaces: list[Space] = Field(min_length=1, description="The spaces, in the order they are drawn")


def training_formulas(paths: list[Path]) -> set[str]:
    """Return the reduced formulas of all rows but those of validation and test."""
    formulas = set()
    for path in paths:
        for _, row in read_lines(path):
            if row.get("split", "train") == "train":
                formulas.add(str(Composition(Counter(row["species"])).reduced_formula))
    return formulas


def fits(template: Template, kind: str) -> bool:
    """Return True for a template of a class whose elements, but for the anion, are metals or metalloids."""
    symbols = template_elements(template.structure)
    cations = [Element(symbol) for symbol in (symbols if kind == "intermetallics" else symbols[:-1])]
    return compound_class(symbols) == kind and all(element.is_metal or element.is_metalloid for element in cations)


def is_neutral(amounts: dict[str, int], states: dict[str, list[int]]) -> bool:
    """Return True if one oxidation state of each element makes the formula neutral."""
    choices = product(*(states[symbol] for symbol in amounts))
    return any(not np.dot(list(amounts.values()), choice) for choice in choices)


def free_parameters(structure: Structure) -> int:
    """Count the parameters of cell and positions that symmetry leaves free: traces of the operations, averaged."""
    frac = structure.frac_coords
    found = spglib.get_symmetry_dataset((structure.lattice.matrix, frac, structure.atomic_numbers), SYMPREC)
    traces = found.rotations.trace(axis1=1, axis2=2)
    squares = (found.rotations @ found.rotations).trace(axis1=1, axis2=2)
    moved = frac @ found.rotations.transpose(0, 2, 1) + found.translations[:, None, :] - frac
    fixed = (np.abs(moved - np.round(moved)).max(axis=2) < 1e-3).sum(axis=1)
    return round(float(np.mean((traces**2 + squares) / 2 + traces * (fixed - 1))))


def seconds_per_step(structure: Structure, space: Space) -> float:
    """Estimate the time of an electronic step from volume, irreducible k-points and spins."""
    cell = structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers
    mapping, _ = spglib.get_ir_reciprocal_mesh(mesh(structure, space.kspacing), cell, symprec=SYMPREC)
    spins = 2 if "Mn" in structure.symbol_set else 1
    return space.speed * structure.volume * len(set(mapping.tolist())) * spins


def mismatch(candidate: Candidate, template: Template, predictor: DLSVolumePredictor) -> float:
    """Return the logarithm of predicted over unrelaxed volume: by bond lengths, in intermetallics by molar volumes."""
    if compound_class(candidate.chemsys.split("-")) != "intermetallics":
        return math.log(rescale(candidate.structure, predictor).volume / candidate.structure.volume)
    volumes = [
        sum(float(element.molar_volume) * amount for element, amount in crystal.composition.items())
        for crystal in (candidate.structure, template.structure)
    ]
    return math.log(volumes[0] / volumes[1])


def draw(spaces: Spaces, known: set[str]) -> list[dict[str, Any]]:
    """Draw from each space; returns the lines of candidates-2.jsonl."""
    predictor, lines = DLSVolumePredictor(), []
    formulas, templates = set(known), set()
    for space in spaces.spaces:
        metallic = space.kind == "intermetallics"
        sources = (template for source in space.templates for template in source.load())
        fitting = [item for item in sources if isinstance(item, Template) and fits(item, space.kind)]
        rows = list(Enumeration(fitting, space.substitutions, charge_balanced=not metallic).rows())
        random.Random(f"{spaces.seed} {space.name}").shuffle(rows)
        taken, seen = [], Counter(templates=len(fitting), enumerated=len(rows))
        for row in rows:
            candidate = examine(row, space, spaces.states, formulas, predictor, seen)
            if candidate is None or row.template.template_id in templates:
                continue
            formulas.add(candidate.reduced_formula)
            templates.add(row.template.template_id)
            taken.append(candidate)
            if len(taken) == space.count:
                break
        print(space.name, dict(seen), len(taken))
        for candidate in taken:
            lines.append(
                {
                    "space": space.name,
                    "kspacing": space.kspacing,
                    "runs": {"BFGS": BFGS} if len(lines) % EVERY else {"BFGS": BFGS, "CG": CG},
                    "seconds_per_step": round(seconds_per_step(candidate.structure, space), 3),
                    "candidate": candidate,
                }
            )
    return sorted(lines, key=lambda line: (line["seconds_per_step"], line["candidate"].candidate_id))


def examine(
    row: CandidateRow,
    space: Space,
    states: dict[str, list[int]],
    known: set[str],
    predictor: DLSVolumePredictor,
    seen: Counter[str],
) -> Candidate | None:
    """Return the candidate if it passes the rules, and count why it does not."""
    amounts = Counter(site_elements(row.template.structure))
    formula = substituted_formula(amounts, row.substitution.mapping)
    if formula.text in known:
        seen["known"] += 1
    elif space.kind != "intermetallics" and not is_neutral(formula.amounts, states):
        seen["not neutral"] += 1
    else:
        candidate = make_candidate(row, None)
        if seconds_per_step(candidate.structure, space) > MAX_SECONDS:
            seen["too expensive"] += 1
        elif free_parameters(candidate.structure) not in FREE:
            seen["freedom"] += 1
        elif abs(mismatch(candidate, row.template, predictor)) > MISMATCH:
            seen["size"] += 1
        else:
            return candidate
    return None


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training", type=Path, nargs="+", help="pairs and crystals that the model learnt from")
    parser.add_argument("--measured", type=Path, default=HERE / "results.jsonl", help="rows of protocol 1")
    parser.add_argument("--spaces", type=Path, default=HERE / "spaces-2.yaml")
    parser.add_argument("--candidates", type=Path, default=HERE / "candidates-2.jsonl", help="file to write")
    arguments = parser.parse_args()
    measured = {row["formula"] for _, row in read_lines(arguments.measured)}
    lines = draw(YamlFile(arguments.spaces).parse(Spaces), measured | training_formulas(arguments.training))
    arguments.candidates.write_text("".join(json.dumps(line, cls=MontyEncoder) + "\n" for line in lines))


if __name__ == "__main__":
    main()
