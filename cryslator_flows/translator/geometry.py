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
    """Return displacements to the nearest images in the frame of the first crystal, drift removed before and after.

    The twin of `cryslator_flows.crystals.displacement.displacements`, for batches.

    Returns
    -------
    Tensor
        Displacements of zero mean, [atoms, 3] in angstrom.
    """
    owner = start.owner
    change = end.frac - start.frac
    with torch.no_grad():  # the final subtraction of the mean also removes this part of the drift from the gradient
        angle = 2 * torch.pi * change
        around = torch.cat([angle.sin(), angle.cos()], dim=1)  # [atoms, 6]
        sine, cosine = around.new_zeros(len(start.n_atoms), 6).index_add_(0, owner, around).chunk(2, dim=1)
        drift = torch.atan2(sine, cosine) / (2 * torch.pi)  # circular mean, [crystals, 3]
    change = change - drift[owner]
    change = change - change.round()
    total = change.new_zeros(len(start.n_atoms), 3).index_add_(0, owner, change)
    change = change - (total / start.n_atoms[:, None])[owner]
    return torch.einsum("ai,aij->aj", change, start.lattices[owner])
