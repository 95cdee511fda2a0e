"""What the atoms of a batch see of each other, laid out so that a network's messages cost little.

What depends on the length of a bond and on the elements at its ends alone is computed once for all bonds of a crystal
that share them: both directions, and all bonds that symmetry makes equivalent. Messages are summed for a few atoms at
a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryslator_flows.translator.graph import Crystals, Edges
    from cryslator_flows.translator.orbits import Orbits

# Atoms whose messages a processor keeps in its cache.
ATOMS_IN_CACHE = 64


@dataclass(frozen=True)
class Neighbors:
    """What one atom of some orbits sees: as many places for each as the most crowded one has neighbours.

    Sums over neighbours are then sums over an axis, which processors do faster than sums by index. Places without a
    neighbour have weight zero.

    Parameters
    ----------
    senders : Tensor
        Atom at each place, [orbits x places].
    orbits : Tensor
        Orbit of the atom at each place, [orbits x places].
    bonds : Tensor
        Bond that leads to each place, [orbits x places].
    weight : Tensor
        Weight of each place, [orbits, 1, places].
    direction : Tensor
        Unit vectors from receiver to sender, [orbits, places, 3].
    """

    senders: Tensor
    orbits: Tensor
    bonds: Tensor
    weight: Tensor
    direction: Tensor

    def split(self, orbits: int) -> Iterator[Neighbors]:
        """Parts of so many orbits."""
        places = self.weight.shape[-1] * orbits
        parts = (
            self.senders.split(places),
            self.orbits.split(places),
            self.bonds.split(places),
            self.weight.split(orbits),
            self.direction.split(orbits),
        )
        return map(Neighbors, *parts)

    def of_senders(self, values: Tensor) -> Tensor:
        """What the sender at each place has, [atoms, F] -> [orbits, places, F]."""
        return self._place(values, self.senders)

    def of_orbits(self, values: Tensor) -> Tensor:
        """What the orbit of the sender at each place has, [all orbits, F] -> [orbits, places, F]."""
        return self._place(values, self.orbits)

    def of_bonds(self, values: Tensor) -> Tensor:
        """What the bond to each place has, [bonds, F] -> [orbits, places, F]."""
        return self._place(values, self.bonds)

    def sum(self, values: Tensor) -> Tensor:
        """Weighted sum over the places, [orbits, places, F] -> [orbits, F]."""
        return (self.weight @ values)[:, 0]

    def sum_along(self, values: Tensor) -> Tensor:
        """Weighted sum over the places of directions times values, [orbits, places, F] -> [orbits, 3, F]."""
        return (self.weight * self.direction.transpose(1, 2)) @ values

    def _place(self, values: Tensor, index: Tensor) -> Tensor:
        return values.index_select(0, index).view(len(self.weight), -1, values.shape[-1])


@dataclass(frozen=True)
class Surroundings:
    """What the atoms of a batch see.

    Parameters
    ----------
    orbits : Orbits
        Which atoms are equivalent; one of each orbit sees the others.
    bonds : Tensor
        Features of each distinct bond, [bonds, width].
    parts : tuple of Neighbors
        The neighbours of all orbits, so few at a time that a processor keeps their messages in its cache.
    """

    orbits: Orbits
    bonds: Tensor
    parts: tuple[Neighbors, ...]


def distinct_bonds(length: Tensor, edges: Edges, crystals: Crystals, cutoff: float) -> tuple[Tensor, Tensor]:
    """Edges of a crystal with the same length and the same elements at their ends, as one bond.

    Parameters
    ----------
    length : Tensor
        Lengths of the edges, [edges] in angstrom.
    edges : Edges
        The edges.
    crystals : Crystals
        The batch, at most 65,536 crystals.
    cutoff : float
        Largest length in angstrom.

    Returns
    -------
    bonds, shown : Tensor
        Bond of each edge, [edges], and an edge that shows each bond, [bonds].
    """
    # Equal lengths differ by rounding: 19 bits for them, 33 in double precision; 7 for an element, 16 for the crystal.
    steps = 2**33 if length.dtype == torch.double else 2**19
    ends = crystals.numbers[edges.receivers], crystals.numbers[edges.senders]
    key = crystals.owner[edges.receivers]
    for values, size in (
        (torch.minimum(*ends), 128),
        (torch.maximum(*ends), 128),
        ((length / cutoff * (steps - 1)).round().long(), steps),
    ):
        key = key * size + values
    key, order = key.sort(stable=True)
    new = torch.cat([key.new_ones(1), key.diff().clamp(max=1)])[: len(key)]
    return torch.empty_like(order).index_copy_(0, order, new.cumsum(0) - 1), order[new.bool()]
