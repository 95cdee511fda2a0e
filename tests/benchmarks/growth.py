"""Time and peak memory of translation, as cells and as numbers of structures grow, as a table and a plot.

Example: python -m tests.benchmarks.growth --plot growth.png

Every size runs in a process of its own. For the sizes of cells, structures are supercells of mixed oxides, cut to size,
strained and their atoms moved at random: no symmetry is left, which is the slowest case; each size has 10,000 atoms in
all. For the numbers, structures are mixed oxides of 5 to 20 atoms, each strained at random while they stream.
"""

from __future__ import annotations

import argparse
import os
from collections import deque
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from cryslator_flows.system.look import TEMPLATE
from cryslator_flows.translator.translator import Translator
from tests.benchmarks.million import measure
from tests.benchmarks.translate import oxides

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymatgen.core import Structure

ATOMS = (5, 10, 20, 50, 100, 200, 500)
ATOMS_IN_ALL = 10_000


def cells(atoms: int) -> list[Structure]:
    """Structures of so many atoms without any symmetry."""
    rng = np.random.default_rng(atoms)
    smallest = [structure for structure in oxides(300) if len(structure) == 5]
    made = []
    for number in range(ATOMS_IN_ALL // atoms):
        times = np.ones(3, dtype=int)
        while 5 * times.prod() < atoms:
            times[times.argmin()] += 1
        structure = smallest[number % len(smallest)] * times
        structure.remove_sites(range(atoms, len(structure)))
        structure.perturb(0.05)
        structure.apply_strain(rng.uniform(-0.03, 0.03, 3))
        made.append(structure)
    return made


def stream(number: int) -> Iterator[Structure]:
    """So many mixed oxides, one after another."""
    rng = np.random.default_rng(1)
    pool = oxides(1000)
    for index in range(number):
        structure = pool[index % len(pool)].copy()
        structure.apply_strain(rng.uniform(-0.03, 0.03, 3))
        yield structure


def of_cells(atoms: int) -> dict[str, Any]:
    """Translate cells of a size on one core."""
    return translated(cells(atoms), 1)


def of_numbers(number: int, cores: int) -> dict[str, Any]:
    """Translate so many structures on so many cores."""
    return translated(stream(number), cores)


def translated(structures: Any, cores: int) -> dict[str, Any]:
    """Seconds that translating them takes, each forgotten at once."""
    torch.set_num_threads(cores)
    os.environ["LOKY_MAX_CPU_COUNT"] = str(cores)
    translator = Translator.from_pretrained()
    translator.translate_many(oxides(20))
    began = perf_counter()
    deque(translator.translate_stream(structures), maxlen=0)
    return {"translating": perf_counter() - began}


def plot(sizes: dict[int, dict[str, Any]], numbers: dict[int, dict[int, dict[str, Any]]], path: Path) -> None:
    """Four panels: time and memory against atoms in a cell and against structures."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["axes.prop_cycle"] = plt.cycler(color=TEMPLATE["layout"]["colorway"])
    figure, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
    atoms = np.array(list(sizes))
    each = [1000 * row["translating"] / (ATOMS_IN_ALL // n) for n, row in sizes.items()]
    axes[0, 0].loglog(atoms, each, "o-", label="1 core, no symmetry")
    axes[0, 0].loglog(atoms, each[0] * atoms / atoms[0], ":", color="gray", label="linear")
    axes[0, 0].set(xlabel="atoms in a cell", ylabel="ms a structure")
    axes[1, 0].semilogx(atoms, [row["peak"] for row in sizes.values()], "o-")
    axes[1, 0].set(xlabel="atoms in a cell", ylabel="peak memory, MiB")
    for cores, rows in numbers.items():
        name = f"{cores} core{'s' * (cores > 1)}"
        axes[0, 1].loglog(list(rows), [row["translating"] for row in rows.values()], "o-", label=name)
        axes[1, 1].semilogx(list(rows), [row["peak"] for row in rows.values()], "o-", label=f"{name}, first process")
    first = next(iter(numbers.values()))
    start, end = min(first), max(first)
    linear = first[start]["translating"] * np.array([1, end / start])
    axes[0, 1].loglog([start, end], linear, ":", color="gray", label="linear")
    axes[0, 1].set(xlabel="structures of 5 to 20 atoms", ylabel="s")
    axes[1, 1].set(xlabel="structures of 5 to 20 atoms", ylabel="peak memory, MiB")
    for panel in (axes[0, 0], axes[0, 1], axes[1, 1]):
        panel.legend(frameon=False)
    for panel in axes[1]:
        panel.set_ylim(0, 1.2 * panel.dataLim.ymax)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--numbers", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="of structures")
    parser.add_argument("--plot", type=Path, help="PNG file to draw")
    arguments = parser.parse_args()
    table = Table("", "structures", "s", "ms each", "peak MiB, first process")
    for column in table.columns[1:]:
        column.justify = "right"

    def add(name: str, number: int, row: dict[str, Any]) -> dict[str, Any]:
        spent = row["translating"]
        table.add_row(name, f"{number:,}", f"{spent:.1f}", f"{1000 * spent / number:.2f}", f"{row['peak']:.0f}")
        return row

    sizes = {n: add(f"{n} atoms, 1 core", ATOMS_IN_ALL // n, measure(of_cells, n)) for n in ATOMS}
    numbers = {
        cores: {
            number: add(f"5 to 20 atoms, {cores} core{'s' * (cores > 1)}", number, measure(of_numbers, number, cores))
            for number in arguments.numbers
        }
        for cores in sorted({1, torch.get_num_threads()})
    }
    Console(width=110).print(table)
    if arguments.plot:
        plot(sizes, numbers, arguments.plot)


if __name__ == "__main__":
    main()
