"""Candidates per second and peak memory of enumerating small cells, a thousand to a million; plain pymatgen beside it.

Example: python -m tests.benchmarks.enumerate --plot enumeration.png
         python -m tests.benchmarks.enumerate --any-charges

Templates are all ternary and quaternary AFLOW prototypes of at most 20 atoms; metals and metalloids, more of them in
each size, take the places of the cations in every order. Each size runs on one thread in a process of its own, from
reading the templates to packing the candidates into chunks, as in a campaign. All but the first time is of the
processor, so that others on the machine matter less. Stages: reading the templates; substituting, with charge balance;
telling equivalents apart, without and in StructureMatcher; sorting by chemical system and packing. Exponents are slopes
of the logarithm of seconds over that of candidates: 1 is linear. StructureMatcher is asked about templates, not
candidates, so that its part does not grow with the number of elements.

Plain pymatgen, for the smallest size: `Structure.copy` and `replace_species`, `Composition.oxi_state_guesses`,
`StructureMatcher.group_structures`.
"""

from __future__ import annotations

import argparse
from itertools import permutations
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.core import Element
from pymatgen.core.structure_matcher import StructureMatcher
from rich.console import Console
from rich.table import Table

from cryslator_flows.crystals.enumeration import DuplicateFilter, Enumeration
from cryslator_flows.crystals.substitution import RolePools, template_elements
from cryslator_flows.crystals.templates import AflowTemplates
from cryslator_flows.system.look import TEMPLATE
from tests.benchmarks.million import CHUNK, METALS, measure

if TYPE_CHECKING:
    from collections.abc import Callable

CATIONS = METALS + [element.symbol for element in Element if element.is_metalloid and element.symbol not in METALS]
TEMPLATES = AflowTemplates(max_atoms=20)
STAGES = ("templates", "substitute", "equivalents", "StructureMatcher", "pack")


def timed(owner: type, name: str, spent: dict[str, float], stage: str) -> None:
    """Add the time inside a method to a stage."""
    method: Callable[..., Any] = getattr(owner, name)

    def run(*arguments: Any, **options: Any) -> Any:
        began = process_time()
        result = method(*arguments, **options)
        spent[stage] += process_time() - began
        return result

    setattr(owner, name, run)


def enumerate_cells(n_elements: int, charge_balanced: bool) -> dict[str, Any]:
    """Enumerate, drop equivalents and pack, as a campaign does; seconds of each stage."""
    spent = dict.fromkeys(STAGES, 0.0)
    timed(DuplicateFilter, "find_equivalent", spent, "equivalents")
    timed(StructureMatcher, "fit", spent, "StructureMatcher")
    began = process_time()
    templates = list(TEMPLATES.load())
    spent["templates"] = process_time() - began
    spaces = [RolePools(kind="roles", cations=[CATIONS[:n_elements]] * cations) for cations in (2, 3)]
    enumeration = Enumeration(templates, spaces, charge_balanced)
    one_size, enumerated = DuplicateFilter.one_size, 0.0

    def all_enumerated(seen: DuplicateFilter) -> bool:
        nonlocal enumerated
        enumerated = process_time()
        return one_size(seen)

    DuplicateFilter.one_size = all_enumerated  # type: ignore[method-assign]
    for _ in enumeration.chunks(CHUNK):
        pass
    ended = process_time()
    spent["pack"] = ended - enumerated
    spent["substitute"] = enumerated - began - spent["templates"] - spent["equivalents"]
    spent["equivalents"] -= spent["StructureMatcher"]
    counts = enumeration.counts
    return {"candidates": counts.unique, "substitutions": counts.enumerated, "cpu": ended - began, "stages": spent}


def plain_pymatgen(n_elements: int, charge_balanced: bool) -> dict[str, Any]:
    """The same candidates by pymatgen alone; seconds of each stage, after the templates are read."""
    structures = [template.structure for template in TEMPLATES.load()]
    began = process_time()
    kept = []
    for structure in structures:
        *cations, anion = template_elements(structure)
        for choice in permutations(CATIONS[:n_elements], len(cations)) if len(cations) in (2, 3) else ():
            if anion not in choice:
                candidate = structure.copy()
                candidate.replace_species(dict(zip(cations, choice, strict=True)))
                if not charge_balanced or candidate.composition.reduced_composition.oxi_state_guesses():
                    kept.append(candidate)
    substituted = process_time()
    candidates = len(StructureMatcher().group_structures(kept))
    return {"candidates": candidates, "stages": (substituted - began, process_time() - substituted)}


def exponent(candidates: list[int], seconds: list[float]) -> float:
    """Slope of log(seconds) over log(candidates)."""
    return float(np.polyfit(np.log(candidates), np.log(seconds), 1)[0])


def plot(results: list[dict[str, Any]], file: Path) -> None:
    """Time of each stage and peak memory against the number of candidates, log-log."""
    from matplotlib import pyplot

    pyplot.rcParams["axes.prop_cycle"] = pyplot.cycler(color=TEMPLATE["layout"]["colorway"])
    candidates = [result["candidates"] for result in results]
    figure, (time, memory) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    time.plot(candidates, [result["cpu"] for result in results], "ko-", label="all")
    for stage in STAGES:
        time.plot(candidates, [result["stages"][stage] for result in results], ".--", label=stage)
    time.plot(candidates, [number / 5000 for number in candidates], ":", color="grey", label="5,000 candidates/s")
    time.set(xscale="log", yscale="log", xlabel="candidates", ylabel="processor time (s)")
    time.legend(fontsize=8)
    memory.plot(candidates, [result["peak"] for result in results], "ko-")
    memory.set(xscale="log", yscale="log", xlabel="candidates", ylabel="peak memory (MiB)", ylim=(100, 1000))
    figure.savefig(file, dpi=110)


def beside(ours: dict[str, Any], plain: dict[str, Any]) -> Table:
    """What plain pymatgen takes for the same candidates."""
    table = Table("", "candidates", "substitute, CPU s", "drop equivalents, CPU s", "both, CPU s", "candidates/CPU s")
    stages = ours["stages"]
    mine = (stages["substitute"], stages["equivalents"] + stages["StructureMatcher"])
    sums = []
    for name, result, parts in (("cryslator-flows", ours, mine), ("plain pymatgen", plain, plain["stages"])):
        sums.append((*parts, sum(parts)))
        row = (f"{seconds:.2f}" for seconds in sums[-1])
        table.add_row(name, f"{result['candidates']:,}", *row, f"{result['candidates'] / sum(parts):,.0f}")
    table.add_row("ratio", "", *(f"{theirs / own:.0f}" for own, theirs in zip(*sums, strict=True)))
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, nargs="+", default=[9, 17, 36, 84], help="sizes, as numbers of cations")
    parser.add_argument("--any-charges", action="store_true", help="keep candidates that no charges balance")
    parser.add_argument("--plot", type=Path, help="write a figure of time and memory")
    arguments = parser.parse_args()
    console = Console(width=160)
    table = Table("elements", "substitutions", "candidates", "s", "CPU s", "candidates/CPU s", *STAGES, "peak MiB")
    for column in table.columns:
        column.justify = "right"
    results = []
    for n_elements in arguments.elements:
        result = measure(enumerate_cells, n_elements, not arguments.any_charges)
        results.append(result)
        table.add_row(
            str(n_elements),
            *(f"{result[name]:,}" for name in ("substitutions", "candidates")),
            *(f"{result[name]:.2f}" for name in ("seconds", "cpu")),
            f"{result['candidates'] / result['cpu']:,.0f}",
            *(f"{seconds:.2f}" for seconds in result["stages"].values()),
            f"{result['peak']:.0f}",
        )
        console.print(f"{n_elements} elements: {result['candidates']:,} candidates, {result['seconds']:.2f} s")
    console.print(table)
    for first in range(len(results) - 1):
        candidates = [result["candidates"] for result in results[first:]]
        found = {"all": exponent(candidates, [result["cpu"] for result in results[first:]])}
        for stage in STAGES:
            found[stage] = exponent(candidates, [result["stages"][stage] for result in results[first:]])
        words = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
        console.print(f"exponents from {candidates[0]:,} candidates: {words}")
    plain = measure(plain_pymatgen, arguments.elements[0], not arguments.any_charges)
    console.print(beside(results[0], plain))
    if arguments.plot:
        plot(results, arguments.plot)


if __name__ == "__main__":
    main()
