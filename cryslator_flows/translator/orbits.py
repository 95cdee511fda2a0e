"""Symmetrically equivalent atoms: one atom of an orbit is computed, the others are rotated copies.

The output of a network for equivalent atoms is equal for scalars and rotated for vectors. A crystal is therefore
represented by one atom of each orbit of its space group. Strain and displacements are read off these atoms and
keep the symmetry by construction. Torch and numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Orthonormal basis of the symmetric 3x3 matrices, [6, 3, 3].
BASIS = np.zeros((6, 3, 3))
for _row, (_i, _j) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
    BASIS[_row, _i, _j] = BASIS[_row, _j, _i] = 1.0 if _i == _j else 0.5**0.5


@dataclass(frozen=True)
class Symmetry:
    """Equivalent atoms of a batch of crystals, with concatenated atoms.

    Parameters
    ----------
    representatives : Tensor
        Atom that represents the orbit of each atom, counted within its crystal, [atoms].
    turns : Tensor
        Orthogonal matrices. A row vector of the representative times its matrix is the atom's vector, [atoms, 3, 3].
    sites : Tensor
        Projectors on vectors that the site symmetry of the representative leaves unchanged, [atoms, 3, 3].
    cells : Tensor
        Projectors on strains that the point group leaves unchanged, in the basis `BASIS`, [crystals, 6, 6].
    """

    representatives: Tensor
    turns: Tensor
    sites: Tensor
    cells: Tensor

    @classmethod
    def none(cls, n_atoms: Tensor, dtype: torch.dtype) -> Symmetry:
        """Return the symmetry of crystals in which each atom represents only itself."""
        starts = torch.cumsum(n_atoms, 0) - n_atoms
        local = torch.arange(int(n_atoms.sum()), device=n_atoms.device) - torch.repeat_interleave(starts, n_atoms)
        three = torch.eye(3, dtype=dtype, device=n_atoms.device).expand(len(local), 3, 3)
        six = torch.eye(6, dtype=dtype, device=n_atoms.device).expand(len(n_atoms), 6, 6)
        return cls(local, three, three, six)

    def take(self, crystals: Tensor, atoms: Tensor) -> Symmetry:
        """Return the symmetry of some crystals, whose atoms are at `atoms`."""
        return Symmetry(self.representatives[atoms], self.turns[atoms], self.sites[atoms], self.cells[crystals])

    def to(self, where: torch.device | str | torch.dtype) -> Symmetry:
        """Return a copy on a device or in a precision."""
        matrices = {name: getattr(self, name).to(where) for name in ("turns", "sites", "cells")}
        representatives = self.representatives if isinstance(where, torch.dtype) else self.representatives.to(where)
        return Symmetry(representatives, **matrices)


@dataclass(frozen=True)
class Orbits:
    """Orbits of a batch, and the exchange of values between them and the atoms.

    Parameters
    ----------
    symmetry : Symmetry
        Equivalence of the atoms.
    shown : Tensor
        Atom that represents each orbit, [orbits].
    of : Tensor
        The orbit of each atom, [atoms].
    size : Tensor
        Atoms of each orbit, [orbits].
    owner : Tensor
        The crystal of each orbit, [orbits].
    n_atoms : Tensor
        Atoms of each crystal, [crystals].
    """

    symmetry: Symmetry
    shown: Tensor
    of: Tensor
    size: Tensor
    owner: Tensor
    n_atoms: Tensor

    @classmethod
    def from_symmetry(cls, symmetry: Symmetry, n_atoms: Tensor) -> Orbits:
        """Count the orbits of a batch."""
        owner = torch.repeat_interleave(n_atoms)
        here = torch.arange(len(owner), device=owner.device)
        place = symmetry.representatives + (torch.cumsum(n_atoms, 0) - n_atoms)[owner]
        stands = place == here
        of = (torch.cumsum(stands, 0) - 1)[place]
        shown = here[stands]
        size = torch.bincount(of, minlength=len(shown)).to(symmetry.turns.dtype)
        return cls(symmetry, shown, of, size, owner[shown], n_atoms)

    def mean(self, values: Tensor) -> Tensor:
        """Average values of orbits over the atoms of each crystal, [orbits, ...] -> [crystals, ...]."""
        weighted = values * self.size.to(values.dtype).view(-1, *[1] * (values.dim() - 1))
        total = values.new_zeros(len(self.n_atoms), *values.shape[1:]).index_add_(0, self.owner, weighted)
        return total / self.n_atoms.view(-1, *[1] * (values.dim() - 1))

    def turn(self, vectors: Tensor) -> Tensor:
        """Return vectors of every atom from vectors of its orbit, [orbits, 3, G] -> [atoms, 3, G]."""
        return self.symmetry.turns.mT @ vectors.index_select(0, self.of)

    def keep_sites(self, shift: Tensor) -> Tensor:
        """Return the displacements of all atoms, [orbits, 3] -> [atoms, 3].

        The drift and all components that site symmetry forbids are removed.
        """
        sites = self.symmetry.sites[self.shown]
        shift = torch.einsum("oi,oij->oj", shift, sites)
        drift = self.turn(shift[:, :, None])[:, :, 0]
        drift = drift.new_zeros(len(self.n_atoms), 3).index_add_(0, torch.repeat_interleave(self.n_atoms), drift)
        shift = shift - (drift / self.n_atoms[:, None])[self.owner]
        return self.turn(torch.einsum("oi,oij->oj", shift, sites)[:, :, None])[:, :, 0]

    def keep_cells(self, strain: Tensor) -> Tensor:
        """Return strains without the components that the point group forbids, [crystals, 3, 3]."""
        basis = torch.as_tensor(BASIS, dtype=strain.dtype, device=strain.device).view(6, 9)
        kept = (strain.reshape(-1, 1, 9) @ basis.T) @ self.symmetry.cells  # the projectors are symmetric
        return (kept @ basis).view(-1, 3, 3)
