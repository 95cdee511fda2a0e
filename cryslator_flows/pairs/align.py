"""Alignment of the two crystals of a pair: the same sites, axes, images and orientation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.core import Element, Structure

from cryslator_flows.crystals.check import check_structure
from cryslator_flows.crystals.displacement import without_drift
from cryslator_flows.errors import StructureError
from cryslator_flows.pairs.deformation import SitesOfCell, lattices_near, least_deformation, strains_between
from cryslator_flows.pairs.raw import Dropped, checked_pair
from cryslator_flows.training.records import PairRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cryslator_flows.pairs.deformation import Alignment, Array
    from cryslator_flows.pairs.raw import RawPair


# Given sites and axes are kept if they differ by less than this from the unrelaxed crystal: strain, and displacement
# over the cube root of the volume per atom.
SURE = 0.02
# Other axes are searched among lattices of up to this strain, the nearest first.
STRAINS = (0.1, 0.2, 0.4)
DECIMALS = 8


# Largest differences of two crystals that count as one relaxation: absolute principal logarithmic strain, absolute
# logarithm of the ratio of volumes, and displacement of an atom without strain and drift, in angstrom.
MAX_STRAIN, MAX_VOLUME, MAX_SHIFT = 0.35, 0.6, 1.5


def too_different(alignment: Alignment) -> str | None:
    """Return the limit that an alignment exceeds; None if it exceeds none."""
    principal = np.linalg.eigvalsh(alignment.strain)
    if abs(principal.sum()) > MAX_VOLUME:
        return f"ln of the volume ratio over {MAX_VOLUME:g}"
    if abs(principal).max() > MAX_STRAIN:
        return f"strain over {MAX_STRAIN:g}"
    if alignment.distances.max() > MAX_SHIFT:
        return f"an atom moves over {MAX_SHIFT:g} A"
    return None


def align(pair: RawPair) -> PairRecord | Dropped:
    """Align the relaxed crystal of a pair with the unrelaxed one.

    The relaxed crystal has many equivalent descriptions: choices of lattice vectors (also mirrored), orders of sites of
    one element, images and origins. The description that deforms the unrelaxed crystal least is taken; the given one is
    kept if none is nearer. Rows are lattice vectors, and F = L_u^-1 L_r = V R is the polar decomposition. The relaxed
    cell is written as L_u V: the unrelaxed cell strained without rotation.

    Parameters
    ----------
    pair : RawPair
        The pair from its source.

    Returns
    -------
    PairRecord or Dropped
        The pair with the same atoms in the same order, sites as in the unrelaxed crystal; or the reason to drop it.
    """
    for which, structure in (("unrelaxed", pair.unrelaxed), ("relaxed", pair.relaxed)):
        try:
            check_structure(structure)
        except StructureError as error:
            return Dropped(pair.name, f"{which} crystal: {error.cause}")
    unrelaxed, relaxed = _elements_only(pair.unrelaxed), _elements_only(pair.relaxed)
    if unrelaxed.reduced_formula != relaxed.reduced_formula:
        return Dropped(pair.name, "another composition")
    if unrelaxed.composition != relaxed.composition:
        return Dropped(pair.name, "another number of atoms")
    alignment = best_alignment(unrelaxed, relaxed)
    if (reason := too_different(alignment)) is not None:
        return Dropped(pair.name, reason)
    return checked_pair(
        pair.name,
        {
            **pair.columns,
            "target": pair.target,
            "species": [site.specie.symbol for site in unrelaxed],
            **geometries(unrelaxed.lattice.matrix, unrelaxed.frac_coords, alignment.strain, alignment.shift),
        },
    )


def align_all(pairs: Iterable[RawPair | PairRecord | Dropped]) -> Iterator[PairRecord | Dropped]:
    """Align pairs one by one; pairs that a source aligned or dropped pass through."""
    for pair in pairs:
        yield pair if isinstance(pair, PairRecord | Dropped) else align(pair)


def best_alignment(unrelaxed: Structure, relaxed: Structure) -> Alignment:
    """Find the alignment that deforms the unrelaxed crystal least.

    Parameters
    ----------
    unrelaxed, relaxed : Structure
        Crystals of the same elements, each with the same number of atoms.
    """
    start, end = SitesOfCell.of(unrelaxed), SitesOfCell.of(relaxed)
    best = _given_order(start, end)
    if best is not None and best.cost < SURE**2:
        return best
    labels = start.numbers[None]
    for reach in STRAINS:
        lattices = lattices_near(start.matrix, end.matrix, math.expm1(reach), math.degrees(1.5 * reach))
        best = least_deformation(start, end, *lattices, labels, best)
        if best is not None and best.cost < reach**2:
            return best
    if best is None:
        best = least_deformation(start, end, end.matrix[None], strains_between(start.matrix, end.matrix[None]), labels)
    assert best is not None
    return best


def _elements_only(structure: Structure) -> Structure:
    """Return the structure without oxidation states, properties and labels."""
    symbols = [Element.from_Z(site.specie.Z).symbol for site in structure]
    return Structure(structure.lattice, symbols, structure.frac_coords)


def geometries(matrix: Array, frac: Array, strain: Array, shift: Array) -> dict[str, Any]:
    """Return unrelaxed and relaxed crystal of a pair, with the fields of `PairRecord`.

    Parameters
    ----------
    matrix, frac : array
        The unrelaxed cell, [3, 3] in angstrom, and its fractional coordinates, [atoms, 3].
    strain, shift : array
        See `Alignment`.
    """
    values, vectors = np.linalg.eigh(strain)
    stretch = (vectors * np.exp(values)) @ vectors.T
    sides = {"unrelaxed": (matrix, frac), "relaxed": (matrix @ stretch, frac + shift)}
    return {
        side: {"lattice": np.round(lattice, DECIMALS).tolist(), "frac": np.round(sites, DECIMALS).tolist()}
        for side, (lattice, sites) in sides.items()
    }


def _given_order(start: SitesOfCell, end: SitesOfCell) -> Alignment | None:
    """Align sites and axes as given; None if the elements are in another order."""
    if not np.array_equal(start.numbers, end.numbers):
        return None
    change = end.frac - start.frac
    # Fix each atom in turn: in the right images one of them hardly moves.
    shifts = (without_drift(change, change[atom]) for atom in range(len(change)))
    strain = strains_between(start.matrix, end.matrix)
    return min((start.moved_by(strain, shift) for shift in shifts), key=lambda item: item.cost)
