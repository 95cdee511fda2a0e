"""Search on arrays for the lattice vectors, origin and order of sites that deform one crystal into another least."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from moyopy import niggli_reduce
from scipy.optimize import linear_sum_assignment

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core import Structure

    Array = NDArray[np.floating]
    Integers = NDArray[np.integer]

# Another choice must be nearer by more than this, since files are rounded.
NOISE = 1e-6
# Distances between atoms that are computed at once; more are useless if the first choices are the best.
AT_ONCE = 5000


@dataclass(frozen=True)
class Alignment:
    """A description of the relaxed crystal by the unrelaxed crystal.

    Parameters
    ----------
    strain : array
        Logarithmic strain from the unrelaxed to the relaxed cell, [3, 3], symmetric.
    shift : array
        Fractional displacements of the sites of the unrelaxed crystal, drift removed, [atoms, 3].
    distances : array
        Displacement of each atom in the unrelaxed cell, [atoms] in angstrom.
    length : float
        Cube root of the unrelaxed volume per atom, in angstrom.
    labels : int
        Index of the labels of the sites, see `least_deformation`.
    """

    strain: Array
    shift: Array
    distances: Array
    length: float
    labels: int = 0

    @property
    def cost(self) -> float:
        """Squared deformation of the cell, plus the squared displacement of the sites in units of `length`."""
        return float((self.strain**2).sum() + (self.distances**2).mean() / self.length**2)


@dataclass(frozen=True)
class SitesOfCell:
    """A crystal as arrays.

    Parameters
    ----------
    matrix : array
        Rows are lattice vectors, [3, 3] in angstrom.
    frac : array
        Fractional coordinates, [atoms, 3].
    numbers : array
        Atomic numbers, [atoms].
    """

    matrix: Array
    frac: Array
    numbers: Integers

    @classmethod
    def of(cls, structure: Structure) -> SitesOfCell:
        """Make the arrays from a structure."""
        return cls(structure.lattice.matrix, structure.frac_coords, np.array(structure.atomic_numbers))

    @property
    def length(self) -> float:
        """Cube root of the volume per atom, in angstrom."""
        return float(abs(np.linalg.det(self.matrix)) / len(self.frac)) ** (1 / 3)

    def moved_by(self, strain: Array, shift: Array, labels: int = 0) -> Alignment:
        """Return the alignment of a strain and of fractional displacements."""
        return Alignment(strain, shift, np.linalg.norm(shift @ self.matrix, axis=1), self.length, labels)


def strains_between(start: Array, ends: Array) -> Array:
    """Compute H = log V of F = L_start^-1 L_end = V R for one or many cells, [..., 3, 3]."""
    gradients = np.linalg.solve(start, ends)
    values, vectors = np.linalg.eigh(gradients @ np.swapaxes(gradients, -1, -2))
    return np.asarray((vectors * (0.5 * np.log(values))[..., None, :]) @ np.swapaxes(vectors, -1, -2))


def lattices_near(start: Array, end: Array, longer: float, wider: float) -> tuple[Array, Array]:
    """Return the choices of lattice vectors of a cell that resemble the vectors of another cell of the same volume.

    Parameters
    ----------
    start, end : array
        The cells, [3, 3] in angstrom; lattice vectors of `end` are chosen to resemble the vectors of `start`.
    longer : float
        Largest relative difference of lengths.
    wider : float
        Largest difference of angles, in degrees.

    Returns
    -------
    tuple of arrays
        The chosen vectors, [choices, 3, 3] in angstrom, and the strains from `start` to them, of the same shape. The
        least strain comes first.
    """
    wanted = start * abs(np.linalg.det(end) / np.linalg.det(start)) ** (1 / 3)
    lengths = np.linalg.norm(wanted, axis=1)
    most = np.floor(lengths.max() * (1 + longer) * np.linalg.norm(np.linalg.inv(end), axis=0)).astype(int)
    steps = np.indices(2 * most + 1).reshape(3, -1).T - most
    vectors = steps @ end
    sizes = np.linalg.norm(vectors, axis=1)
    ratios = sizes / lengths[:, None]
    sides = [row.nonzero()[0] for row in (ratios < 1 + longer) & (ratios > 1 / (1 + longer))]
    units, wanted = [vectors[side] / sizes[side, None] for side in sides], wanted / lengths[:, None]

    def alike(one: int, other: int) -> NDArray[np.bool_]:
        angles = np.arccos(np.clip(units[one] @ units[other].T, -1, 1))
        return np.asarray(abs(angles - np.arccos(wanted[one] @ wanted[other])) <= math.radians(wider))

    found = np.nonzero(alike(0, 1)[:, :, None] & alike(0, 2)[:, None, :] & alike(1, 2)[None])
    rows = np.stack([side[index] for side, index in zip(sides, found, strict=True)], axis=1)  # [choices, 3]
    rows = rows[abs(abs(np.linalg.det(steps[rows])) - 1) < 0.5]
    strains = strains_between(start, vectors[rows])
    order = np.argsort(np.round((strains**2).sum(axis=(1, 2)), 9), kind="stable")
    return vectors[rows[order]], strains[order]


def least_deformation(
    start: SitesOfCell,
    end: SitesOfCell,
    lattices: Array,
    strains: Array,
    labels: Integers,
    best: Alignment | None = None,
    most: float = math.inf,
) -> Alignment | None:
    """Find the lattice vectors, origin, labels and order of sites that deform a crystal least.

    Parameters
    ----------
    start, end : SitesOfCell
        The crystals, each with the same number of atoms.
    lattices, strains : array
        Choices of lattice vectors of `end`, see `lattices_near`.
    labels : array
        Atomic numbers of `end` that the sites of `start` may have, [labels, atoms]. One row, or all orders of
        elements that may replace each other. Of rows that deform equally the first is taken.
    best : Alignment or None
        A known alignment.
    most : float
        Largest root mean square displacement, in units of `Alignment.length`.

    Returns
    -------
    Alignment or None
        The alignment of least cost; `best` if none is better.
    """
    search = _SiteSearch(start, end.numbers, labels, most**2)
    floors = (strains**2).sum(axis=(1, 2))
    for place in range(0, len(lattices), search.at_once):
        least = math.inf if best is None else best.cost
        # An alignment of equal deformation may have earlier labels.
        if floors[place] > least + (NOISE if best and best.labels else -NOISE):
            break
        some = slice(place, place + search.at_once)
        frac = end.frac @ end.matrix @ np.linalg.inv(lattices[some])
        costs, choices, shifts, labelled = search.nearest(frac, floors[some], least + NOISE)
        if not len(costs):
            continue
        near = np.flatnonzero(costs < costs.min() + NOISE)
        first = near[labelled[near].argmin()]
        if (
            best is None
            or costs[first] < least - NOISE
            or (costs[first] < least + NOISE and labelled[first] < best.labels)
        ):
            best = start.moved_by(strains[place + choices[first]], shifts[first], int(labelled[first]))
    return best


class _SiteSearch:
    """Search for the sites of one crystal that are near to the sites of another crystal.

    Parameters
    ----------
    start : SitesOfCell
        The crystal.
    numbers : array
        Atomic numbers of the other crystal.
    labels : array
        See `least_deformation`.
    most : float
        Squared displacement that is too large, see `least_deformation`.
    """

    def __init__(self, start: SitesOfCell, numbers: Integers, labels: Integers, most: float) -> None:
        # In the reduced cell the nearest image is found by rounding.
        reduced, change_of_axes = niggli_reduce(start.matrix.tolist())
        self.matrix, self.back = np.array(reduced), np.array(change_of_axes).T
        self.into = np.linalg.inv(self.back)
        self.frac, self.scale = start.frac @ self.into, len(start.frac) * start.length**2
        self.numbers, self.labels, self.most = numbers, labels, most
        # Sites that may have the same atomic numbers, and the sites of the other crystal that have them.
        groups: dict[tuple[int, ...], list[int]] = {}
        for site, some in enumerate(np.sort(labels, axis=0).T.tolist()):
            groups.setdefault(tuple(some), []).append(site)
        self.groups = [
            (np.array(rows), np.flatnonzero(np.isin(numbers, some))) for some, rows in sorted(groups.items())
        ]
        rows, self.candidates = min(self.groups, key=lambda group: len(group[0]))
        self.anchor = rows[0]
        distances = len(rows) * sum(len(rows) ** 2 for rows, _ in self.groups)
        self.at_once = max(1, AT_ONCE // distances)

    def nearest(self, frac: Array, floors: Array, best: float) -> tuple[Array, Integers, Array, Integers]:
        """Match sites, for each origin that puts one of the rarest atoms on another.

        Parameters
        ----------
        frac : array
            Fractional coordinates of the other crystal for some choices of lattice vectors, [choices, atoms, 3].
        floors : array
            Squared strain of each choice, [choices].
        best : float
            The cost that is too large.

        Returns
        -------
        tuple of arrays
            Cost, number of the choice, fractional displacements and number of the labels of each match.
        """
        frac = frac @ self.into
        moved = frac[:, None] - (frac[:, self.candidates] - self.frac[self.anchor])[:, :, None]
        moved = moved.reshape(-1, *self.frac.shape)
        choices = np.repeat(np.arange(len(frac)), len(self.candidates))
        for _ in range(2):
            kept, change, labelled = self._assign(moved, floors[choices], best)
            drift = change.mean(axis=1, keepdims=True)
            choices, moved = choices[kept], moved[kept] - drift
        squares = self._squares(change)
        near = squares < self.most
        return (floors[choices] + squares)[near], choices[near], (change - drift)[near] @ self.back, labelled[near]

    def _assign(self, moved: Array, floors: Array, best: float) -> tuple[Integers, Array, Integers]:
        """Assign to each site of each match a site of the other crystal, with the least sum of squared distances.

        Returns
        -------
        tuple of arrays
            Indices of the matches that can be the best, their fractional displacements and their numbers of labels.
        """
        matches, sites = moved.shape[:2]
        change, order = np.empty_like(moved), np.empty((matches, sites), dtype=int)
        each = np.arange(matches)[:, None]
        tables: list[tuple[Integers, Integers, Array, Array]] = []
        for rows, columns in self.groups:
            vectors = moved[:, None, columns] - self.frac[rows, None]
            vectors -= np.round(vectors)
            far = vectors.reshape(-1, 3) @ self.matrix
            squares = np.einsum("ij,ij->i", far, far).reshape(vectors.shape[:3])
            nearest = squares.argmin(axis=2)
            change[:, rows] = vectors[each, np.arange(len(rows)), nearest]
            order[:, rows] = columns[nearest]
            tables.append((rows, columns, vectors, squares))
        fits = (self.numbers[order][:, None] == self.labels).all(axis=2)  # [matches, labels]
        labelled = fits.argmax(axis=1)
        whole = fits.any(axis=1) & (np.sort(order, axis=1) == np.arange(sites)).all(axis=1)
        # With two atoms on one nearest site this sum is usually too small. So it shows which matches need no search.
        least = self._squares(change)
        costs = floors + least
        best = min(best, costs[whole].min(initial=math.inf) + NOISE)
        for match in np.argsort(np.where(whole, math.inf, costs), kind="stable")[: matches - whole.sum()]:
            if costs[match] > best:
                break
            if least[match] < self.most:
                change[match], labelled[match] = self._assign_one(match, tables)
                costs[match], whole[match] = floors[match] + self._squares(change[match]), True
                best = min(best, costs[match] + NOISE)
        kept = np.flatnonzero(whole)
        return kept, change[kept], labelled[kept]

    def _assign_one(self, match: int, tables: list[tuple[Integers, Integers, Array, Array]]) -> tuple[Array, int]:
        """Assign the sites of one match in which two sites have the same nearest site."""
        found, least = [], []
        for numbers in self.labels:
            change = np.empty_like(self.frac)
            for rows, columns, vectors, squares in tables:
                for number in np.unique(numbers[rows]):
                    here = np.flatnonzero(numbers[rows] == number)
                    there = np.flatnonzero(self.numbers[columns] == number)
                    nearest = there[linear_sum_assignment(squares[match][np.ix_(here, there)])[1]]
                    change[rows[here]] = vectors[match, here, nearest]
            found.append(change)
            least.append(self._squares(change))
        first = int(np.argmin(np.round(least, 9)))
        return found[first], first

    def _squares(self, change: Array) -> Array:
        """Compute mean squared displacements of the atoms without drift, in units of `Alignment.length`."""
        far = (change - change.mean(axis=-2, keepdims=True)).reshape(-1, 3) @ self.matrix
        return np.asarray(np.einsum("ij,ij->i", far, far).reshape(change.shape[:-1]).sum(axis=-1) / self.scale)
