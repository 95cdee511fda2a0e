"""Translations per second, side by side: in batches, one at a time, against relaxations with CHGNet; where time goes.

Example: python tests/benchmarks/translate.py

Structures are mixed oxides of 5 to 20 atoms: all ternary AFLOW prototypes of that size, metals drawn at random. Every
cell is scaled at random by some per cent, so that no two share a cell; they share the symmetry of their templates, as
candidates do. ``--low-symmetry`` strains every axis by itself instead: nothing that is kept for templates helps then.
"""

from __future__ import annotations

import argparse
from contextlib import chdir, suppress
from itertools import cycle, islice
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import torch
from ase.neighborlist import neighbor_list
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from rich.console import Console
from rich.table import Table

from cryslator_flows.crystals.check import check_structure
from cryslator_flows.crystals.templates import AflowTemplates
from cryslator_flows.engines.by_name import build_relax_maker
from cryslator_flows.translator import graph
from cryslator_flows.translator.equivalents import _equivalent, find_symmetry
from cryslator_flows.translator.loaded import to_crystals
from cryslator_flows.translator.translator import WORTH_PROCESSES, Translator, in_batches

if TYPE_CHECKING:
    from collections.abc import Callable

METALS = ["Li", "Na", "K", "Mg", "Ca", "Sr", "Ba", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Zn", "Al", "Ga", "Y", "La"]


def oxides(number: int, seed: int = 0, low_symmetry: bool = False) -> list[Structure]:
    """Mixed oxides of 5 to 20 atoms, no two with the same cell."""
    rng = np.random.default_rng(seed)
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
        structure.apply_strain(rng.uniform(-0.03, 0.03, 3 if low_symmetry else None))
        made.append(structure)
    return made


def seconds_each(run: Callable[[list[Structure]], Any], structures: list[Structure], warm: int = 100) -> float:
    """Seconds for each structure, once others have been translated and nothing is loaded any more."""
    run(oxides(warm, seed=1))
    _equivalent.cache_clear()
    began = perf_counter()
    run(structures)
    return (perf_counter() - began) / len(structures)


def stages(translator: Translator, structures: list[Structure]) -> dict[str, float]:
    """Seconds for each structure of each stage, on this thread."""
    network = translator.model.network
    spent: dict[str, float] = {}

    def timed(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            began = perf_counter()
            result = run(*arguments, **options)
            spent[name] = spent.get(name, 0.0) + perf_counter() - began
            return result

        return wrapped

    here = "cryslator_flows.translator.translator"
    with (
        patch(f"{here}.check_structure", timed("check", check_structure)),
        patch(f"{here}.to_crystals", timed("read", to_crystals)),
        patch.object(network, "find_edges", timed("neighbours", network.find_edges)),
        patch.object(network, "look_around", timed("graph", network.look_around)),
        patch.object(translator.model, "predict", timed("predict", translator.model.predict)),
        patch("cryslator_flows.translator.loaded.find_symmetry", timed("symmetry", find_symmetry)),
        patch.object(Structure, "__init__", timed("new structure", Structure.__init__)),
    ):
        _equivalent.cache_clear()
        began = perf_counter()
        for batch in in_batches(("", structure) for structure in structures):
            translator.translate_batch(batch)
        spent["all"] = perf_counter() - began
    spent["network, calibration"] = spent.pop("predict") - spent["symmetry"] - spent["neighbours"] - spent["graph"]
    spent["the rest"] = 2 * spent["all"] - sum(spent.values())
    spent["all"] = spent.pop("all")
    return {name: value / len(structures) for name, value in spent.items()}


def neighbour_searches(translator: Translator, structures: list[Structure]) -> dict[str, float]:
    """Seconds for each structure to find its neighbours within the cutoff, one thread; libraries if they are there."""
    network = translator.model.network
    cutoff = network.config.cutoff
    batches = [to_crystals(structures[start : start + 100]) for start in range(0, len(structures), 100)]
    atoms = [AseAtomsAdaptor.get_atoms(structure) for structure in structures]
    found: dict[str, float] = {}

    def add(name: str, run: Callable[[Any], Any], items: list[Any]) -> None:
        run(items[0])
        began = perf_counter()
        for item in items:
            run(item)
        found[name] = (perf_counter() - began) / len(structures)

    add("cryslator-flows: pymatgen's compiled search, cut to the reach", network.find_edges, batches)
    with patch.object(graph, "compiled_search", lambda: None):
        add("cryslator-flows: torch alone, cut to the reach", network.find_edges, batches)
    add("pymatgen: Structure.get_neighbor_list", lambda s: s.get_neighbor_list(cutoff), structures)
    add("ase: neighbor_list", lambda a: neighbor_list("ijSd", a, cutoff), atoms)
    with suppress(ImportError):
        from matscipy.neighbours import neighbour_list

        add("matscipy: neighbour_list", lambda a: neighbour_list("ijSd", a, cutoff), atoms)
    with suppress(ImportError):
        from vesin import NeighborList

        vesin = NeighborList(cutoff=cutoff, full_list=True)
        add("vesin: NeighborList", lambda a: vesin.compute(a.positions, a.cell[:], True, "ijSd"), atoms)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=int, default=1000)
    parser.add_argument("--relaxations", type=int, default=4, help="structures that CHGNet relaxes")
    parser.add_argument("--low-symmetry", action="store_true", help="strain every axis by itself")
    arguments = parser.parse_args()
    console = Console(width=110)
    structures = oxides(arguments.structures, low_symmetry=arguments.low_symmetry)
    crystals = find_symmetry(to_crystals(structures))
    n_atoms = np.mean([len(structure) for structure in structures])
    translator = Translator.from_pretrained()
    cores = torch.get_num_threads()
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{cores} threads"
    console.print(f"{len(structures)} mixed oxides, {n_atoms:.1f} atoms each on average, {where}")
    console.print(f"{len(crystals.frac) / len(crystals.orbits.shown):.2f} atoms an orbit")

    few = structures[:: max(1, len(structures) // 100)]
    relaxed = structures[:: -(-len(structures) // arguments.relaxations)]
    maker = build_relax_maker("chgnet", {})

    def relax(batch: list[Structure]) -> None:
        for structure in batch:
            maker.make.original(maker, structure)

    rows: dict[str, float] = {}

    def add(name: str, seconds: float) -> None:
        rows[name] = seconds
        console.print(f"{name}: {1000 * seconds:.2f} ms")

    add("one at a time, on one thread", seconds_each(lambda batch: [*map(translator.translate, batch)], few))
    for threads in sorted({1, cores}):
        torch.set_num_threads(threads)
        name = f"{threads} thread{'s' * (threads > 1)}"
        add(f"in batches, {name}", seconds_each(translator.translate_many, structures))
        if threads > 1:
            in_processes = Translator.from_pretrained()
            in_processes._n_translated = WORTH_PROCESSES
            seconds = seconds_each(in_processes.translate_many, structures, warm=1000)
            add(f"in batches, {threads} processes that have started", seconds)
        with TemporaryDirectory() as folder, chdir(folder):  # relaxations leave files where they run
            add(f"CHGNet relaxation, {name}", seconds_each(relax, relaxed, warm=1))
    first = min(rows.values())
    table = Table("how", "ms each", "structures/s", "ratio")
    for name, seconds in rows.items():
        table.add_row(name, f"{1000 * seconds:.2f}", f"{1 / seconds:.1f}", f"{seconds / first:.1f}")
    console.print(table)

    torch.set_num_threads(1)
    parts = stages(translator, structures)
    table = Table("stage, 1 thread", "ms each", "share")
    for name, seconds in parts.items():
        table.add_row(name, f"{1000 * seconds:.2f}", f"{seconds / parts['all']:.0%}")
    console.print(table)
    table = Table("neighbours within 6 A, 1 thread", "ms each")
    for name, seconds in neighbour_searches(translator, structures).items():
        table.add_row(name, f"{1000 * seconds:.3f}")
    console.print(table)


if __name__ == "__main__":
    main()
