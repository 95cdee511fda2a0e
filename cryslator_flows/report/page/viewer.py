"""Crystals for the page's viewer: the same atoms before and after translation and relaxation."""

from __future__ import annotations

from functools import cache
from itertools import combinations_with_replacement, product
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from pymatgen.analysis.local_env import CutOffDictNN
from pymatgen.core import Element
from scipy.linalg import polar

from cryslator_flows.crystals.displacement import displacements

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from cryslator_flows.documents.relaxations import RelaxationComparison

MOST_STRUCTURES = 200
# Atoms nearer than this to a face of the cell appear on the opposite face too, in fractional coordinates.
FACE = 0.01


def viewed(comparisons: list[RelaxationComparison]) -> dict[str, dict[str, Any]]:
    """Return the structures of the first `MOST_STRUCTURES` relaxed candidates, by candidate and by start.

    Parameters
    ----------
    comparisons : list of RelaxationComparison
        The relaxed candidates; digests are skipped.

    Returns
    -------
    dict
        For each candidate its ``formula``; its unrelaxed, translated and relaxed ``structures``; and their names from
        the unrelaxed to a relaxed one as ``path``. Atoms move along it, so all its structures have the same sites.
    """
    found = {}
    for item in comparisons[:MOST_STRUCTURES]:
        kinds = {"unrelaxed": item.unrelaxed_structure, "translated": item.translated_structure}
        # The start that a campaign is about, or else the first that ended.
        relaxed = {f"relaxed, {part.start} start": part.structure for part in item.relaxations}
        present = {name: structure for name, structure in (kinds | relaxed).items() if structure is not None}
        if not present:
            continue
        first = next(iter(present.values()))
        ends = sorted(relaxed.keys() & present.keys(), key=lambda name: name != "relaxed, translated start")
        way = [name for name in (*kinds, *ends[:1]) if name in present and _same_sites(first, present[name])]
        found[item.candidate_id] = {
            "formula": item.reduced_formula,
            "structures": {name: _describe(structure, first) for name, structure in present.items()},
            "path": way,
        }
    return found


def atom_styles(symbols: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return colours and radii of elements, and the longest bond of each pair of them.

    Parameters
    ----------
    symbols : iterable of str
        Symbols of the elements.

    Returns
    -------
    dict
        ``colors`` as Jmol has them, and ``radii`` of the balls in angstrom, by symbol. ``bonds`` in angstrom, as VESTA
        draws them, by both symbols with a hyphen, alphabetically.
    """
    chosen = sorted(set(symbols))
    numbers = {symbol: Element(symbol).Z for symbol in chosen}
    lengths = _longest_bonds()
    pairs = combinations_with_replacement(chosen, 2)
    return {
        "colors": {
            symbol: "#" + "".join(f"{round(255 * part):02x}" for part in jmol_colors[number])
            for symbol, number in numbers.items()
        },
        "radii": {symbol: round(0.45 * float(covalent_radii[number]), 3) for symbol, number in numbers.items()},
        "bonds": {"-".join(pair): lengths[pair] for pair in pairs if pair in lengths},
    }


@cache
def _longest_bonds() -> dict[tuple[str, str], float]:
    bonds = CutOffDictNN.from_preset("vesta_2019").cut_off_dict
    return {**bonds, **{(second, first): length for (first, second), length in bonds.items()}}


def _same_sites(first: Structure, second: Structure) -> bool:
    return [site.specie for site in first] == [site.specie for site in second]


def _describe(structure: Structure, first: Structure) -> dict[str, Any]:
    """Describe one cell: cell and sites as of `first` if it has the same sites, images on faces, and words.

    The sites are displaced from those of `first` without drift; with the ``drift`` they are those of the structure.
    """
    cell, sites, reference = structure.lattice.matrix, structure.frac_coords, first.frac_coords
    if not _same_sites(first, structure):
        reference = sites
    else:
        # Without a turn of the whole crystal, as structures are drawn beside each other.
        _, stretch = polar(np.linalg.solve(first.lattice.matrix, cell), side="left")
        cell = first.lattice.matrix @ stretch
    inside = reference % 1
    inside[inside > 1 - FACE] -= 1
    places = inside + displacements(reference, sites)
    lattice = structure.lattice
    return {
        "symbols": [site.specie.symbol for site in structure],
        "cell": cell.round(6).tolist(),
        "sites": places.round(6).tolist(),
        "drift": (sites - places)[0].round(6).tolist(),
        "images": _images(inside),
        "words": f"a, b, c {' '.join(f'{length:.3f}' for length in lattice.abc)} Å, "
        f"{structure.volume / len(structure):.2f} Å³/atom",
    }


def _images(inside: NDArray[np.floating]) -> list[list[int]]:
    """Return index and cell of the atoms to draw: those of the cell, and again on all its faces, edges and corners."""
    return [
        [index, *shift]
        for index, site in enumerate(inside)
        for shift in product(*((0, 1) if value < FACE else (0,) for value in site))
    ]
