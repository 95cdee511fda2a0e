"""Strain and displacements between two geometries of the same crystal. Torch only."""

from __future__ import annotations

import torch
from torch import Tensor

from cryslator_flows.translator.graph import Crystals


def strain_between(start: Tensor, end: Tensor) -> Tensor:
    """Logarithmic strain from one cell to another, rotation dropped.

    With rows as lattice vectors F = L_start^-1 L_end = V R (polar decomposition); H = log V.

    Parameters
    ----------
    start, end : Tensor
        Cells, [crystals, 3, 3] in angstrom.

    Returns
    -------
    Tensor
        Symmetric H, [crystals, 3, 3].
    """
    gradient = torch.linalg.solve(start, end)
    values, vectors = torch.linalg.eigh(gradient @ gradient.transpose(-1, -2))
    return vectors @ torch.diag_embed(0.5 * values.log()) @ vectors.transpose(-1, -2)


def shift_between(start: Crystals, end: Crystals) -> Tensor:
    """Displacements from one crystal to another in the frame of the first, drift removed, [atoms, 3] in angstrom.

    The fractional difference is taken to the nearest image and freed of its mean over the atoms.
    """
    change = end.frac - start.frac
    change = change - change.round()
    total = change.new_zeros(len(start.n_atoms), 3).index_add_(0, start.owner, change)
    change = change - (total / start.n_atoms[:, None])[start.owner]
    return torch.einsum("ai,aij->aj", change, start.lattices[start.owner])


def cartesian_shift_between(start: Crystals, end: Crystals) -> Tensor:
    """Differences of Cartesian positions, the strain included, drift removed, [atoms, 3] in angstrom.

    The end is turned so that its cell is the start's cell strained without rotation.
    """
    strain = strain_between(start.lattices, end.lattices)
    lattices = start.lattices @ torch.linalg.matrix_exp(strain)
    change = end.frac - start.frac
    frac = start.frac + change - change.round()
    shift = torch.einsum("ai,aij->aj", frac, lattices[start.owner])
    shift = shift - torch.einsum("ai,aij->aj", start.frac, start.lattices[start.owner])
    total = shift.new_zeros(len(start.n_atoms), 3).index_add_(0, start.owner, shift)
    return shift - (total / start.n_atoms[:, None])[start.owner]
