"""Bring the unrelaxed and the relaxed crystal of a pair to the same sites, axes, images and orientation."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Element, Lattice, Structure
from pymatgen.util.coord import pbc_shortest_vectors
from scipy.optimize import linear_sum_assignment

from cryslator_flows.crystals.check import check_structure
from cryslator_flows.crystals.displacement import without_drift
from cryslator_flows.errors import StructureError
from cryslator_flows.pairs.raw import Dropped
from cryslator_flows.translator.records import Geometry, PairRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from cryslator_flows.pairs.raw import RawPair

    Array = NDArray[np.floating]

# Sites and axes as given are not doubted where they differ less than this from the unrelaxed crystal's: strain, and
# displacement over the cube root of the volume per atom.
SURE = 0.02
# Other axes are looked for among lattices of up to this much strain, the nearest first.
STRAINS = (0.1, 0.2, 0.4)
# What is nearer by less than this is not worth another order of sites: rounding of files.
NOISE = 1e-6
DECIMALS = 8


@dataclass(frozen=True)
class PairLimits:
    """How far apart an unrelaxed and a relaxed crystal may be to count as one relaxation.

    Parameters
    ----------
    max_strain : float
        Largest absolute principal logarithmic strain.
    max_volume : float
        Largest absolute logarithm of the ratio of volumes.
    max_shift : float
        Farthest that an atom moves, strain and drift apart, in angstrom.
    """

    max_strain: float = 0.35
    max_volume: float = 0.6
    max_shift: float = 1.5


@dataclass(frozen=True)
class Alignment:
    """A way to read the relaxed crystal in terms of the unrelaxed one.

    Parameters
    ----------
    strain : array
        Logarithmic strain from the unrelaxed to the relaxed cell, [3, 3], symmetric.
    shift : array
        Fractional displacements of the sites of the unrelaxed crystal, drift removed, [atoms, 3].
    distances : array
        How far each atom moves in the unrelaxed cell, [atoms] in angstrom.
    length : float
        Cube root of the unrelaxed volume per atom, in angstrom.
    """

    strain: Array
    shift: Array
    distances: Array
    length: float

    @property
    def cost(self) -> float:
        """Squared deformation: of the cell, and of the sites in units of `length`."""
        return float((self.strain**2).sum() + (self.distances**2).mean() / self.length**2)

    def excess(self, limits: PairLimits) -> str | None:
        """Which limit it exceeds; None if none."""
        principal = np.linalg.eigvalsh(self.strain)
        if abs(principal.sum()) > limits.max_volume:
            return f"ln of the volume ratio over {limits.max_volume:g}"
        if abs(principal).max() > limits.max_strain:
            return f"strain over {limits.max_strain:g}"
        if self.distances.max() > limits.max_shift:
            return f"an atom moves over {limits.max_shift:g} A"
        return None


def align(pair: RawPair, limits: PairLimits | None = None, alignment: Alignment | None = None) -> PairRecord | Dropped:
    """Align the relaxed crystal of a pair with the unrelaxed one.

    Of all choices of equivalent lattice vectors (mirrored ones included), orders of sites of one element, images and
    origins, the relaxed crystal is described by those that deform the unrelaxed crystal least; what is given is kept
    where nothing is nearer. With rows as lattice vectors F = L_u^-1 L_r = V R (polar decomposition), the relaxed cell
    is written as L_u V: the unrelaxed one strained without rotation.

    Parameters
    ----------
    pair : RawPair
        The pair as its source holds it.
    limits : PairLimits or None
        How far apart the two may be.
    alignment : Alignment or None
        The result of `best_alignment` for the pair, where it is known.

    Returns
    -------
    PairRecord or Dropped
        The pair with the same atoms in the same order, sites as in the unrelaxed crystal; or why there is none.
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
    alignment = alignment or best_alignment(unrelaxed, relaxed)
    if (reason := alignment.excess(limits or PairLimits())) is not None:
        return Dropped(pair.name, reason)
    values, vectors = np.linalg.eigh(alignment.strain)
    stretch = (vectors * np.exp(values)) @ vectors.T
    return PairRecord.model_validate(
        {
            **pair.columns,
            "target": pair.target,
            "species": [site.specie.symbol for site in unrelaxed],
            "unrelaxed": _geometry(unrelaxed.lattice.matrix, unrelaxed.frac_coords),
            "relaxed": _geometry(unrelaxed.lattice.matrix @ stretch, unrelaxed.frac_coords + alignment.shift),
        }
    )


def align_all(
    pairs: Iterable[RawPair | PairRecord | Dropped], limits: PairLimits | None = None
) -> Iterator[PairRecord | Dropped]:
    """Align pairs one by one; what a source aligned or dropped passes through."""
    for pair in pairs:
        yield pair if isinstance(pair, PairRecord | Dropped) else align(pair, limits)


def to_records(
    pairs: Iterable[RawPair | Dropped], limits: PairLimits | None = None
) -> tuple[list[PairRecord], Counter[str]]:
    """Align pairs and count why others are none.

    Parameters
    ----------
    pairs : iterable of RawPair or Dropped
        What a source yields.
    limits : PairLimits or None
        How far apart an unrelaxed and a relaxed crystal may be.

    Returns
    -------
    tuple
        The records, and how many were dropped for which reason.
    """
    records: list[PairRecord] = []
    reasons: Counter[str] = Counter()
    for item in align_all(pairs, limits):
        if isinstance(item, Dropped):
            reasons[item.reason] += 1
        else:
            records.append(item)
    return records, reasons


def best_alignment(unrelaxed: Structure, relaxed: Structure) -> Alignment:
    """The alignment that deforms the unrelaxed crystal least.

    Parameters
    ----------
    unrelaxed, relaxed : Structure
        Crystals of the same elements, each with the same number of atoms.
    """
    start, end = _Crystal.of(unrelaxed), _Crystal.of(relaxed)
    best = _given_order(start, end)
    if best is not None and best.cost < SURE**2:
        return best
    for reach in STRAINS:
        for lattice, strain in _lattices_near(start.lattice, end.lattice, reach):
            if best is not None and (strain**2).sum() > best.cost - NOISE:
                break
            other = replace(end, lattice=lattice, frac=lattice.get_fractional_coords(relaxed.cart_coords))
            for shift in _matched_sites(start, other):
                found = start.moved_by(strain, shift)
                if best is None or found.cost < best.cost - NOISE:
                    best = found
        if best is not None and best.cost < reach**2:
            return best
    if best is None:
        strain = _strains(start.lattice.matrix, end.lattice.matrix)
        best = min((start.moved_by(strain, shift) for shift in _matched_sites(start, end)), key=lambda item: item.cost)
    return best


@dataclass(frozen=True)
class _Crystal:
    """A crystal as arrays.

    Parameters
    ----------
    lattice : Lattice
        Its lattice.
    frac : array
        Fractional coordinates, [atoms, 3].
    numbers : array
        Atomic numbers, [atoms].
    """

    lattice: Lattice
    frac: Array
    numbers: NDArray[np.integer]

    @classmethod
    def of(cls, structure: Structure) -> _Crystal:
        return cls(structure.lattice, structure.frac_coords, np.array(structure.atomic_numbers))

    def moved_by(self, strain: Array, shift: Array) -> Alignment:
        matrix = self.lattice.matrix
        distances = np.linalg.norm(shift @ matrix, axis=1)
        return Alignment(strain, shift, distances, float(abs(np.linalg.det(matrix)) / len(shift)) ** (1 / 3))


def _elements_only(structure: Structure) -> Structure:
    """The structure without oxidation states, properties and labels."""
    symbols = [Element.from_Z(site.specie.Z).symbol for site in structure]
    return Structure(structure.lattice, symbols, structure.frac_coords)


def _geometry(lattice: Array, frac: Array) -> Geometry:
    return Geometry.model_validate(
        {"lattice": np.round(lattice, DECIMALS).tolist(), "frac": np.round(frac, DECIMALS).tolist()}
    )


def _strains(start: Array, ends: Array) -> Array:
    """H = log V of F = L_start^-1 L_end = V R for one or many cells, [..., 3, 3]."""
    gradients = np.linalg.solve(start, ends)
    values, vectors = np.linalg.eigh(gradients @ np.swapaxes(gradients, -1, -2))
    return np.asarray((vectors * (0.5 * np.log(values))[..., None, :]) @ np.swapaxes(vectors, -1, -2))


def _given_order(start: _Crystal, end: _Crystal) -> Alignment | None:
    """Sites and axes as they are given; None if the elements are in another order."""
    if not np.array_equal(start.numbers, end.numbers):
        return None
    change = end.frac - start.frac
    # As if each atom in turn stood still: one of them stands nearly still in the right images.
    shifts = (without_drift(change, change[atom]) for atom in range(len(change)))
    strain = _strains(start.lattice.matrix, end.lattice.matrix)
    return min((start.moved_by(strain, shift) for shift in shifts), key=lambda item: item.cost)


def _lattices_near(start: Lattice, end: Lattice, reach: float) -> list[tuple[Lattice, Array]]:
    """Lattice vectors of `end` like those of `start` up to a strain of about `reach`, least strained first."""
    mappings = end.find_all_mappings(
        start.scale(end.volume), math.expm1(reach), math.degrees(1.5 * reach), skip_rotation_matrix=True
    )
    lattices = [mapped for mapped, _, numbers in mappings if abs(round(np.linalg.det(numbers))) == 1]
    if not lattices:
        return []
    strains = _strains(start.matrix, np.array([lattice.matrix for lattice in lattices]))
    sizes = np.round((strains**2).sum(axis=(1, 2)), 9)
    return [(lattices[number], strains[number]) for number in np.argsort(sizes, kind="stable")]


def _matched_sites(start: _Crystal, end: _Crystal) -> Iterator[Array]:
    """Fractional displacements for each origin that puts one atom of the rarest element upon another."""
    counts = Counter(start.numbers.tolist())
    rarest = min(counts, key=lambda number: (counts[number], number))
    anchor = int(np.argmax(start.numbers == rarest))
    for candidate in np.flatnonzero(end.numbers == rarest):
        drift = end.frac[candidate] - start.frac[anchor]
        for _ in range(2):
            moved = end.frac - drift
            change = moved[_assign(start, replace(end, frac=moved))] - start.frac
            drift = drift + (change - np.round(change)).mean(axis=0)
        yield without_drift(change, np.zeros(3))


def _assign(start: _Crystal, end: _Crystal) -> NDArray[np.intp]:
    """For each site of `start` the site of its element in `end`, squared distances least in total."""
    order = np.empty(len(start.numbers), dtype=np.intp)
    for number in np.unique(start.numbers):
        rows, columns = np.flatnonzero(start.numbers == number), np.flatnonzero(end.numbers == number)
        _, squares = pbc_shortest_vectors(start.lattice, start.frac[rows], end.frac[columns], return_d2=True)
        order[rows] = columns[linear_sum_assignment(squares)[1]]
    return order
