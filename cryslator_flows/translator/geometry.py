"""Strain and displacements between two geometries of the same crystal. Torch only."""

from __future__ import annotations

import torch
from torch import Tensor

from cryslator_flows.translator.graph import Crystals


def strain_between(start: Tensor, end: Tensor) -> Tensor:
    """Return the logarithmic strain from one cell to another, without rotation.

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
    """Return displacements from one crystal to another in the frame of the first, drift removed.

    The twin of `cryslator_flows.crystals.displacement.displacements`, for batches.

    Returns
    -------
    Tensor
        Displacements of zero mean, [atoms, 3] in angstrom.
    """
    owner = start.owner
    return torch.einsum("ai,aij->aj", _fractional_shift(start, end, owner), start.lattices[owner])


def cartesian_shift_between(start: Crystals, end: Crystals) -> Tensor:
    """Return differences of Cartesian positions, strain included, drift removed, [atoms, 3] in angstrom.

    The end is rotated so that its cell is the start's cell, strained without rotation.
    """
    strain = strain_between(start.lattices, end.lattices)
    lattices = start.lattices @ torch.linalg.matrix_exp(strain)
    owner = start.owner
    frac = start.frac + _fractional_shift(start, end, owner)
    shift = torch.einsum("ai,aij->aj", frac, lattices[owner])
    shift = shift - torch.einsum("ai,aij->aj", start.frac, start.lattices[owner])
    return _without_mean(shift, start, owner)


def _fractional_shift(start: Crystals, end: Crystals, owner: Tensor) -> Tensor:
    """Return fractional displacements to the nearest images, drift removed before and after, [atoms, 3]."""
    change = end.frac - start.frac
    with torch.no_grad():  # the final subtraction of the mean also removes this part of the drift from the gradient
        angle = 2 * torch.pi * change
        around = torch.cat([angle.sin(), angle.cos()], dim=1)  # [atoms, 6]
        sine, cosine = around.new_zeros(len(start.n_atoms), 6).index_add_(0, owner, around).chunk(2, dim=1)
        drift = torch.atan2(sine, cosine) / (2 * torch.pi)  # circular mean, [crystals, 3]
    change = change - drift[owner]
    return _without_mean(change - change.round(), start, owner)


def _without_mean(values: Tensor, crystals: Crystals, owner: Tensor) -> Tensor:
    """Return the values of atoms minus the mean of their crystal, [atoms, 3]."""
    total = values.new_zeros(len(crystals.n_atoms), 3).index_add_(0, owner, values)
    return values - (total / crystals.n_atoms[:, None])[owner]
