"""Neighbours of the atoms of a batch, in a layout for fast messages of a network.

Values that depend on the length of a bond and the elements at its ends are computed once for all equal bonds of
a crystal. Equal bonds are both directions, and all bonds that symmetry makes equivalent. Messages are summed for
a few atoms at a time.
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

# Number of atoms whose messages fit into a processor's cache.
ATOMS_IN_CACHE = 64


@dataclass(frozen=True)
class Neighbors:
    """Neighbours of one atom of some orbits, in a table.

    Each row has as many places as the largest number of neighbours.

    Sums over neighbours are sums over an axis, which processors do faster than sums by index. Places without a
    neighbour have weight zero.

    Parameters
    ----------
    senders : Tensor
        Atom at each place, [orbits x places].
    orbits : Tensor
        Orbit of the atom at each place, [orbits x places].
    bonds : Tensor
        Bond to the atom at each place, [orbits x places].
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
        """Yield parts of so many orbits."""
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
        """Return the values of the sender at each place, [atoms, F] -> [orbits, places, F]."""
        return self._place(values, self.senders)

    def of_orbits(self, values: Tensor) -> Tensor:
        """Return the values of the sender's orbit at each place, [all orbits, F] -> [orbits, places, F]."""
        return self._place(values, self.orbits)

    def of_bonds(self, values: Tensor) -> Tensor:
        """Return the values of the bond at each place, [bonds, F] -> [orbits, places, F]."""
        return self._place(values, self.bonds)

    def sum(self, values: Tensor) -> Tensor:
        """Return the weighted sum over the places, [orbits, places, F] -> [orbits, F]."""
        return (self.weight @ values)[:, 0]

    def sum_along(self, values: Tensor) -> Tensor:
        """Return the weighted sum over the places of directions times values, [orbits, places, F] -> [orbits, 3, F]."""
        return (self.weight * self.direction.transpose(1, 2)) @ values

    def _place(self, values: Tensor, index: Tensor) -> Tensor:
        return values.index_select(0, index).view(len(self.weight), -1, values.shape[-1])


@dataclass(frozen=True)
class Surroundings:
    """Neighbours and bonds of the atoms of a batch.

    Parameters
    ----------
    orbits : Orbits
        Equivalence of the atoms. One atom of each orbit has neighbours.
    bonds : Tensor
        Features of each distinct bond, [bonds, width].
    parts : tuple of Neighbors
        Neighbours of all orbits, in parts whose messages fit into a processor's cache.
    """

    orbits: Orbits
    bonds: Tensor
    parts: tuple[Neighbors, ...]


def distinct_bonds(length: Tensor, edges: Edges, crystals: Crystals, cutoff: float) -> tuple[Tensor, Tensor]:
    """Combine edges of a crystal with the same length and the same elements at their ends into one bond.

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
        Bond of each edge, [edges], and an edge that represents each bond, [bonds].
    """
    # Equal lengths differ by rounding: 19 bits for them, 33 in double precision. An element takes 7, the crystal 16.
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
