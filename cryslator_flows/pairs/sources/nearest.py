"""Index of templates, sorted to find the templates with elements near to a target's elements."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Set

    from numpy.typing import NDArray

# Axes of reduced cells of equal volume that StructureMatcher can map on each other differ by less than this factor.
ALIKE = 1.25
# Number of templates that are checked for each result, and maximum number of formulas that are checked.
LOOK_AT, FORMULAS = 8, 512
DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Entry:
    """A relaxed crystal in the index.

    Parameters
    ----------
    name : str
        Its identifier.
    formula : str
        Its reduced formula.
    elements : tuple of float
        Mendeleev numbers times the shares of the elements, in the order of `ranked_elements`.
    axes : tuple of float
        Lengths of the reduced cell over the cube root of its volume, shortest first.
    file, place : int
        Number of its chunk, and the byte where it begins there.
    part : str or None
        Its part of the split in its source.
    """

    name: str
    formula: str
    elements: tuple[float, ...]
    axes: tuple[float, ...]
    file: int
    place: int
    part: str | None = None


def reduced_axes(cell: NDArray[np.floating]) -> tuple[float, ...]:
    """Return the lengths of a cell over the cube root of its volume, shortest first."""
    lengths = np.linalg.norm(cell, axis=1) / abs(np.linalg.det(cell)) ** (1 / 3)
    return tuple(np.sort(lengths).tolist())


class NearestTemplates:
    """Crystals of one kind, to search for crystals with elements near to a target's elements.

    Nearness is the difference of Mendeleev numbers (D. G. Pettifor, Solid State Commun. 51, 31 (1984)), averaged over
    the atoms. The time of a search hardly grows with the number of crystals.

    Parameters
    ----------
    entries : iterable of Entry
        The crystals.
    seed : int
        Decides between equally near templates.
    held_out : set of str
        Formulas of validation and test: their crystals are templates for each other alone.
    """

    def __init__(self, entries: Iterable[Entry], seed: int, held_out: Set[str] = frozenset()) -> None:
        by_formula: dict[tuple[tuple[float, ...], str], list[Entry]] = {}
        for entry in entries:
            by_formula.setdefault((entry.elements, entry.formula), []).append(entry)
        keys = sorted(by_formula)
        self.seed, self.held_out = seed, held_out
        self.formulas = [formula for _, formula in keys]
        self.members = [sorted(by_formula[key], key=lambda entry: draw(seed, entry.name)) for key in keys]
        self.points = np.array([elements for elements, _ in keys], dtype=float)
        self.tree = KDTree(self.points)

    def near(self, target: Entry, most: int) -> list[Entry]:
        """Return templates of other formulas for a target, the nearest first.

        Templates whose reduced cell cannot be mapped on the target's reduced cell are left out.

        Parameters
        ----------
        target : Entry
            The target.
        most : int
            Maximum number of templates.
        """
        found: list[Entry] = []
        looked_at = 0
        for row in self._rows_by_distance(target):
            formula = self.formulas[row]
            if formula == target.formula or (formula in self.held_out and target.formula not in self.held_out):
                continue
            members = self.members[row]
            first = int(draw(self.seed, target.name)[:8], 16) % len(members)
            for step in range(len(members)):
                template = members[(first + step) % len(members)]
                looked_at += 1
                if _alike(template.axes, target.axes):
                    found.append(template)
                if len(found) == most or looked_at == LOOK_AT * most:
                    return found
        return found

    def _rows_by_distance(self, target: Entry) -> Iterator[int]:
        """Yield rows of `points`, the nearest first; a draw decides between equally near ones."""
        number, total, done = 16, len(self.points), 0
        while done < min(total, FORMULAS):
            number = min(number, total)
            distances, rows = self.tree.query(target.elements, number, p=1)
            distances, rows = np.atleast_1d(distances).round(DECIMALS), np.atleast_1d(rows)
            # Beyond the last row there may be other rows at the same distance.
            whole = number if number == total or number >= FORMULAS else int((distances < distances[-1]).sum())
            ties = [draw(self.seed, target.name, self.formulas[row]) for row in rows[:whole]]
            order = sorted(range(whole), key=lambda index: (distances[index], ties[index]))
            yield from (int(rows[index]) for index in order[done:])
            done, number = max(done, whole), 4 * number


def draw(seed: int, *names: str) -> str:
    """Return a number, as text, that depends only on a seed and some names."""
    return hashlib.sha256("\n".join((str(seed), *names)).encode()).hexdigest()


def _alike(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return all(1 / ALIKE < one / other < ALIKE for one, other in zip(first, second, strict=True))
