"""Structure-Predictor of the paper: cell and positions from the crystal features. Torch only.

The paper predicts raw fractional coordinates and cell entries, which depend on origin, axes and orientation. Here
the same trunks and features give weights to the directions of the edges. Strain and displacements therefore
rotate with the crystal and keep its symmetry.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cryslator_flows.translator.graph import Crystals, Edges, envelope
from cryslator_flows.translator.network import mean_per_crystal
from cryslator_flows.translator.reference.graph_convolution import SLOPE, Trunk, leaky


class StructurePredictor(nn.Module):
    """Separate trunk, joined with the unrelaxed, translated and difference features of the crystal.

    Parameters
    ----------
    width, layers, cutoff
        As in `Trunk`.
    feature : int
        Length of the crystal feature.
    """

    def __init__(self, width: int, layers: int, cutoff: float, feature: int) -> None:
        super().__init__()
        self.trunk = Trunk(width, layers, cutoff)
        self.crystal = leaky(3 * feature, feature, width)
        self.receive = nn.Linear(3 * width, width)
        self.edge = nn.Linear(width, width, bias=False)
        self.out = nn.Sequential(nn.LeakyReLU(SLOPE), leaky(width, width), nn.Linear(width, 1))

    def forward(
        self, crystals: Crystals, edges: Edges, unrelaxed: Tensor, translated: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return numbers of each edge [edges, 1], unit vectors [edges, 3], and pooled atoms [crystals, 3 F]."""
        atoms, bonds, average = self.trunk(crystals, edges)
        crystal = self.crystal(torch.cat([unrelaxed, translated, unrelaxed - translated], dim=-1))
        local = torch.cat([atoms, average, crystal[crystals.owner]], dim=-1)
        vectors = edges.vectors(crystals)
        length = vectors.norm(dim=-1, keepdim=True)
        weight = envelope(length, edges.reach[edges.receivers][:, None])
        numbers = self.out(self.receive(local)[edges.receivers] + self.edge(bonds)) * weight
        return numbers, vectors / length, mean_per_crystal(local, crystals)


class CellPredictor(StructurePredictor):
    """Structure predictor of the strain of the cell."""

    def __init__(self, width: int, layers: int, cutoff: float, feature: int) -> None:
        super().__init__(width, layers, cutoff, feature)
        self.volume = nn.Sequential(leaky(3 * width, feature, feature), nn.Linear(feature, 1))

    def strain(self, crystals: Crystals, edges: Edges, unrelaxed: Tensor, translated: Tensor) -> Tensor:
        """Return the symmetric logarithmic strain, [crystals, 3, 3]."""
        numbers, unit, pooled = self(crystals, edges, unrelaxed, translated)
        eye = torch.eye(3, dtype=unit.dtype, device=unit.device)
        dyads = numbers[:, :, None] * (unit[:, :, None] * unit[:, None, :] - eye / 3)
        local = dyads.new_zeros(len(crystals.numbers), 3, 3).index_add_(0, edges.receivers, dyads)
        return self.volume(pooled)[:, :, None] * eye + mean_per_crystal(local, crystals)


class PositionPredictor(StructurePredictor):
    """Structure predictor of the displacements of the atoms."""

    def shift(self, crystals: Crystals, edges: Edges, unrelaxed: Tensor, translated: Tensor) -> Tensor:
        """Return the displacements, drift removed, [atoms, 3] in angstrom."""
        numbers, unit, _ = self(crystals, edges, unrelaxed, translated)
        shift = unit.new_zeros(len(crystals.numbers), 3).index_add_(0, edges.receivers, numbers * unit)
        return shift - mean_per_crystal(shift, crystals)[crystals.owner]
