"""Periodic neighbour graphs of whole batches of crystals, in plain torch.

Every neighbour shell is taken whole and fades out smoothly, so the graph follows the
symmetry of the crystal exactly and is a continuous function of its geometry.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Crystals:
    """A batch of crystals, atoms concatenated.

    Parameters
    ----------
    lattices : Tensor
        Rows are lattice vectors, [crystals, 3, 3] in angstrom.
    frac : Tensor
        Fractional coordinates, [atoms, 3].
    numbers : Tensor
        Atomic numbers, [atoms].
    n_atoms : Tensor
        Atoms of each crystal, [crystals].
    """

    lattices: Tensor
    frac: Tensor
    numbers: Tensor
    n_atoms: Tensor

    @property
    def owner(self) -> Tensor:
        """Crystal index of each atom, [atoms]."""
        return torch.repeat_interleave(self.n_atoms)

    @property
    def volumes(self) -> Tensor:
        """Cell volumes, [crystals] in cubic angstrom."""
        return torch.linalg.det(self.lattices).abs()

    def to(self, device: torch.device | str) -> Crystals:
        """Copy of the batch on another device."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items()})


@dataclass(frozen=True)
class Edges:
    """Directed edges sender -> receiver, sorted by receiver.

    Parameters
    ----------
    senders, receivers : Tensor
        Atom indices, [edges].
    images : Tensor
        Periodic image of the sender, [edges, 3].
    reach : Tensor
        Distance at which the messages of a receiver's neighbours have faded to zero, [atoms] in angstrom.
    """

    senders: Tensor
    receivers: Tensor
    images: Tensor
    reach: Tensor

    def vectors(self, crystals: Crystals) -> Tensor:
        """Vectors from receiver to sender for the geometry of `crystals`, [edges, 3] in angstrom."""
        shift = crystals.frac[self.senders] - crystals.frac[self.receivers] + self.images
        return torch.einsum("ei,eij->ej", shift, crystals.lattices[crystals.owner[self.receivers]])


def find_edges(crystals: Crystals, cutoff: float, neighbors: int) -> Edges:
    """Find the neighbours of every atom of a batch, all periodic images included.

    An atom reaches as far as its neighbour number `neighbors`, at most `cutoff`. The neighbours at that very
    distance carry no weight any more (see `envelope`), so no shell is ever cut in two.

    Parameters
    ----------
    crystals : Crystals
        The batch.
    cutoff : float
        Largest distance of a neighbour in angstrom.
    neighbors : int
        Neighbour number at which an atom's reach ends.

    Returns
    -------
    Edges
        Edges shorter than their receiver's reach. An atom without any neighbour within `cutoff` has none.
    """
    device = crystals.frac.device
    heights = 1 / torch.linalg.inv(crystals.lattices).norm(dim=1)  # [crystals, 3] spacing of lattice planes
    n_images = torch.floor(cutoff / heights + 0.5).long()
    starts = torch.cumsum(crystals.n_atoms, 0) - crystals.n_atoms
    found = []
    for extent in torch.unique(n_images, dim=0):
        members = torch.nonzero((n_images == extent).all(dim=1)).flatten()
        axes = [torch.arange(-int(m), int(m) + 1, device=device) for m in extent]
        images = torch.cartesian_prod(*axes)  # [images, 3]
        offsets = images.to(crystals.lattices.dtype) @ crystals.lattices[members]  # [members, images, 3]
        size = crystals.n_atoms[members]
        slot = torch.repeat_interleave(size**2)  # member of each atom pair, [pairs]
        local = torch.arange(len(slot), device=device) - (torch.cumsum(size**2, 0) - size**2)[slot]
        receiver = starts[members][slot] + local // size[slot]
        sender = starts[members][slot] + local % size[slot]
        shift = crystals.frac[sender] - crystals.frac[receiver]
        wrap = torch.round(shift)
        base = torch.einsum("pi,pij->pj", shift - wrap, crystals.lattices[members][slot])
        squared = (base[:, None, :] + offsets[slot]).square().sum(-1)  # [pairs, images]
        pair, image = torch.nonzero(squared < cutoff**2, as_tuple=True)
        distance = squared[pair, image].sqrt()
        home = (receiver[pair] == sender[pair]) & (images[image] == 0).all(dim=1)
        pair, image, distance = pair[~home], image[~home], distance[~home]
        found.append((receiver[pair], sender[pair], images[image] - wrap[pair].long(), distance))
    receivers, senders, shifts, distances = (torch.cat(part) for part in zip(*found, strict=True))

    order = torch.argsort(distances)
    order = order[torch.argsort(receivers[order], stable=True)]
    receivers, senders, shifts, distances = receivers[order], senders[order], shifts[order], distances[order]
    counts = torch.bincount(receivers, minlength=len(crystals.frac))
    firsts = torch.cumsum(counts, 0) - counts
    reach = torch.full((len(crystals.frac),), cutoff, dtype=crystals.frac.dtype, device=device)
    crowded = counts >= neighbors
    reach[crowded] = distances[firsts[crowded] + neighbors - 1]
    kept = distances < reach[receivers]
    return Edges(senders[kept], receivers[kept], shifts[kept].to(crystals.frac.dtype), reach)


def envelope(distance: Tensor, reach: Tensor) -> Tensor:
    """Weight of an edge: one at distance zero, zero with two zero derivatives at `reach`.

    The polynomial envelope with p = 6 of J. Gasteiger, J. Gross and S. Guennemann, "Directional message passing
    for molecular graphs", ICLR 2020, equation 8.

    Parameters
    ----------
    distance, reach : Tensor
        Edge lengths and where they fade out, [edges] in angstrom.

    Returns
    -------
    Tensor
        Weights between 0 and 1, [edges].
    """
    x = (distance / reach).clamp(max=1.0)
    return 1 - 28 * x**6 + 48 * x**7 - 21 * x**8
