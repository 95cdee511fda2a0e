"""Judge a model as a screen: how well it tells stable from unstable test targets.

Example: python workflows/test-set/hull.py DATA/mp_pairs_test.jsonl.gz

The hull has the known compounds of the Materials Project without the target's own formula, as for a new compound. A
target is stable if its energy is at most --above eV/atom over this hull. The printed numbers are those of
matbench-discovery: precision, recall, F1, and the discovery acceleration factor. This factor is the precision over the
share of stable targets.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from pymatgen.core import Composition
from rich.progress import track

from cryslator_flows.crystals.compound_classes import CLASSES, compound_class
from cryslator_flows.screening.hulls import Competition, hull_energies, symbols_of
from cryslator_flows.system.console import markdown_table
from cryslator_flows.training.evaluate import first_of_each_target
from cryslator_flows.training.records import PairRecord, read_records
from cryslator_flows.translator.translator import Translator


def hull_without(formula: str, competition: Competition) -> float:
    """Return the energy of the hull of all other known compounds at a formula, in eV/atom; NaN without compounds."""
    phases = competition.within([symbols_of(formula)])
    others = {name: energy for name, energy in phases.items() if name != formula}
    if not any(len(symbols_of(name)) > 1 for name in others):
        return float("nan")
    return hull_energies([formula], others, {})[formula]


def scores(true: np.ndarray, predicted: np.ndarray) -> list[str]:
    """Return number, share of stable ones, precision, recall, F1 and discovery factor of a screen."""
    hits = int((true & predicted).sum())
    precision, recall = hits / max(1, predicted.sum()), hits / max(1, true.sum())
    f1 = 2 * precision * recall / max(1e-9, precision + recall)
    numbers = precision, recall, f1, precision / max(1e-9, true.mean())
    return [str(len(true)), f"{true.mean():.1%}", *(f"{number:.3f}" for number in numbers)]


def main() -> None:
    """Judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--model", default="cryslator-universal")
    parser.add_argument("--above", type=float, nargs="+", default=[0.0, 0.05])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    records = [
        item
        for item in first_of_each_target(read_records(arguments.pairs, PairRecord))
        if item.formation_energy_per_atom is not None
    ]
    competition = Competition({})
    formulas = [Composition(" ".join(record.species)).reduced_formula for record in records]
    hull = np.array([hull_without(formula, competition) for formula in track(formulas, "hulls")])
    translations = Translator.from_pretrained(arguments.model).translate_many(
        record.structure("unrelaxed") for record in records
    )
    known = ~np.isnan(hull)
    true = np.array([record.formation_energy_per_atom for record in records], dtype=float) - hull
    predicted = np.array([item.formation_energy_per_atom for item in translations]) - hull
    classes = np.array([compound_class(record.species) for record in records])
    rows = []
    for above in arguments.above:
        for name in ("all", *CLASSES):
            mine = known if name == "all" else known & (classes == name)
            if mine.any():
                rows.append([f"{above:g}", name, *scores(true[mine] <= above, predicted[mine] <= above)])
    header = ["eV/atom above", "class", "targets", "stable", "precision", "recall", "F1", "DAF"]
    print(f"{arguments.model}, {known.sum()} of {len(known)} targets in systems with other known compounds:\n")
    print(markdown_table(header, rows))


if __name__ == "__main__":
    main()
