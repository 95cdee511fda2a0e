"""Translations per second, side by side: in batches, one at a time, against relaxations with CHGNet; where time goes.

Example: python tests/benchmarks/translate.py

Structures are mixed oxides of 5 to 20 atoms: all ternary AFLOW prototypes of that size, metals drawn at random, every
cell strained at random by some per cent along its own axes, so that no two share cell and positions and nothing that is
kept for templates helps. Times are of the second run of two, so that nothing is loaded any more.
"""

from __future__ import annotations

import argparse
from itertools import cycle, islice
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pymatgen.core import Structure
from rich.console import Console
from rich.table import Table

from cryslator_flows.crystals.check import check_structure
from cryslator_flows.crystals.symmetry import symmetrize_like
from cryslator_flows.crystals.templates import AflowTemplates
from cryslator_flows.relaxation.engines import build_relax_maker
from cryslator_flows.translator.loaded import to_crystals, to_structures
from cryslator_flows.translator.translator import ATOMS_PER_BATCH, Translator

if TYPE_CHECKING:
    from collections.abc import Callable

METALS = ["Li", "Na", "K", "Mg", "Ca", "Sr", "Ba", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Zn", "Al", "Ga", "Y", "La"]


def oxides(number: int) -> list[Structure]:
    """Mixed oxides of 5 to 20 atoms, no two with the same cell."""
    rng = np.random.default_rng(0)
    templates = [
        template.structure
        for template in AflowTemplates(n_elements=3, elements=["O"], max_atoms=20).load()
        if len(template.structure) >= 5
    ]
    made = []
    for template in islice(cycle(templates), number):
        cations = [element.symbol for element in template.composition.elements if element.symbol != "O"]
        structure = template.copy()
        structure.replace_species(dict(zip(cations, rng.choice(METALS, len(cations), replace=False), strict=True)))
        structure.apply_strain(rng.uniform(-0.03, 0.03, 3))
        made.append(structure)
    return made


def seconds_each(run: Callable[[list[Structure]], Any], structures: list[Structure]) -> float:
    """Seconds for each structure, of the second run."""
    run(structures[: max(1, len(structures) // 10)])
    began = perf_counter()
    run(structures)
    return (perf_counter() - began) / len(structures)


def stages(translator: Translator, structures: list[Structure]) -> dict[str, float]:
    """Seconds for each structure of each stage, on this thread."""
    model = translator.model
    size = max(1, round(ATOMS_PER_BATCH * len(structures) / sum(map(len, structures))))
    spent = dict.fromkeys(("check and read", "neighbours, first pass", "network and neighbours", "symmetry"), 0.0)

    def timed(name: str, run: Callable[[], Any]) -> Any:
        began = perf_counter()
        result = run()
        spent[name] += perf_counter() - began
        return result

    def check(batch: list[Structure]) -> Any:
        for structure in batch:
            check_structure(structure)
        return to_crystals(batch)

    for start in range(0, len(structures), size):
        batch = structures[start : start + size]
        crystals = timed("check and read", lambda batch=batch: check(batch))
        timed("neighbours, first pass", lambda crystals=crystals: model.network.find_edges(crystals.to(model.device)))
        outcome = timed("network and neighbours", lambda crystals=crystals: model.predict(crystals))
        after = to_structures(outcome.translated, batch)
        timed("symmetry", lambda after=after, batch=batch: [*map(symmetrize_like, after, batch)])
    whole = seconds_each(translator.translate_many, structures)
    parts = spent["check and read"] + spent["network and neighbours"] + spent["symmetry"]
    return {name: value / len(structures) for name, value in spent.items()} | {
        "writing and the rest": whole - parts / len(structures),
        "all": whole,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=int, default=1000)
    parser.add_argument("--relaxations", type=int, default=8, help="structures that CHGNet relaxes")
    arguments = parser.parse_args()
    console = Console(width=110)
    structures = oxides(arguments.structures)
    n_atoms = np.mean([len(structure) for structure in structures])
    translator = Translator.from_pretrained()
    cores = torch.get_num_threads()
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{cores} threads"
    console.print(f"{len(structures)} mixed oxides, {n_atoms:.1f} atoms each on average, {where}")

    rows: dict[str, float] = {}
    rows[f"in batches, {cores} threads"] = seconds_each(translator.translate_many, structures)
    few = structures[:: max(1, len(structures) // 100)]
    rows[f"one at a time, {cores} threads"] = seconds_each(lambda batch: [*map(translator.translate, batch)], few)
    maker = build_relax_maker("chgnet", {})
    relaxed = structures[:: max(1, len(structures) // arguments.relaxations)]
    rows[f"CHGNet relaxation, {cores} threads"] = seconds_each(
        lambda batch: [maker.make.original(maker, structure) for structure in batch], relaxed
    )
    torch.set_num_threads(1)
    rows["in batches, 1 thread"] = seconds_each(translator.translate_many, structures)
    parts = stages(translator, structures)

    table = Table("how", "ms each", "structures/s", "ratio")
    first = next(iter(rows.values()))
    for name, seconds in rows.items():
        table.add_row(name, f"{1000 * seconds:.2f}", f"{1 / seconds:.1f}", f"{seconds / first:.1f}")
    console.print(table)
    table = Table("stage, 1 thread", "ms each", "share")
    for name, seconds in parts.items():
        table.add_row(name, f"{1000 * seconds:.2f}", f"{seconds / parts['all']:.0%}")
    console.print(table)


if __name__ == "__main__":
    main()
