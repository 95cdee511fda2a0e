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

# Atoms whose messages a processor keeps in its cache.
ATOMS_IN_CACHE = 64


@dataclass(frozen=True)
class Neighbors:
    """What some atoms see of the others: as many places for each atom as the most crowded one has neighbours.

    Sums over neighbours are then sums over an axis, which processors do faster than sums by index. Places without a
    neighbour have weight zero.

    Parameters
    ----------
    senders : Tensor
        Atom at each place, [atoms x places].
    bonds : Tensor
        Bond that leads to each place, [atoms x places].
    weight : Tensor
        Weight of each place, [atoms, 1, places].
    direction : Tensor
        Unit vectors from receiver to sender, [atoms, places, 3].
    """

    senders: Tensor
    bonds: Tensor
    weight: Tensor
    direction: Tensor

    def split(self, atoms: int) -> Iterator[Neighbors]:
        """Parts of so many atoms."""
        places = self.weight.shape[-1] * atoms
        parts = (
            self.senders.split(places),
            self.bonds.split(places),
            self.weight.split(atoms),
            self.direction.split(atoms),
        )
        return map(Neighbors, *parts)

    def of_senders(self, values: Tensor) -> Tensor:
        """What the sender at each place has, [all atoms, F] -> [atoms, places, F]."""
        return self._place(values, self.senders)

    def of_bonds(self, values: Tensor) -> Tensor:
        """What the bond to each place has, [bonds, F] -> [atoms, places, F]."""
        return self._place(values, self.bonds)

    def sum(self, values: Tensor) -> Tensor:
        """Weighted sum over the places, [atoms, places, F] -> [atoms, F]."""
        return (self.weight @ values)[:, 0]

    def sum_along(self, values: Tensor) -> Tensor:
        """Weighted sum over the places of directions times values, [atoms, places, F] -> [atoms, 3, F]."""
        return (self.weight * self.direction.transpose(1, 2)) @ values

    def _place(self, values: Tensor, index: Tensor) -> Tensor:
        return values.index_select(0, index).view(len(self.weight), -1, values.shape[-1])


@dataclass(frozen=True)
class Surroundings:
    """What the atoms of a batch see.

    Parameters
    ----------
    bonds : Tensor
        Features of each distinct bond, [bonds, width].
    parts : tuple of Neighbors
        The neighbours of all atoms, so few atoms at a time that a processor keeps their messages in its cache.
    """

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
