"""Graph convolution network of the paper: crystal features and formation energy from distances alone. Torch only.

After S. Kim, J. Noh, T. Jin, J. Lee and Y. Jung, npj Comput. Mater. 9, 142 (2023), Graph-Encoder and Regressor.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from cryslator_flows.translator.graph import Crystals, Edges, envelope
from cryslator_flows.translator.network import MAX_ATOMIC_NUMBER, mean_per_crystal

SLOPE = 0.2
STEP = 0.2


def leaky(*sizes: int) -> nn.Sequential:
    """Return linear layers, each followed by a leaky ReLU of slope 0.2."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers)


class Convolution(nn.Module):
    """One convolution: edges from both ends, atoms from the average of their edges, both residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # A linear layer on the concatenation of both ends and the edge, in three parts.
        self.receive = nn.Linear(width, width, bias=False)
        self.send = nn.Linear(width, width, bias=False)
        self.keep = nn.Linear(width, width)
        self.to_edge = nn.Sequential(nn.LeakyReLU(SLOPE), leaky(width, width, width))
        self.to_atom = leaky(2 * width, width, width, width)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, atoms: Tensor, bonds: Tensor, edges: Edges, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return new atoms [atoms, F], new edges [edges, F] and the average edge of every atom [atoms, F]."""
        ends = self.receive(atoms)[edges.receivers] + self.send(atoms)[edges.senders]
        message = self.to_edge(ends + self.keep(bonds))
        average = torch.zeros_like(atoms).index_add_(0, edges.receivers, message * share)
        update = self.norm(self.to_atom(torch.cat([atoms, average], dim=-1)))
        return atoms + update, bonds + message, average


class Trunk(nn.Module):
    """Embedding of elements and distances, then convolutions.

    Parameters
    ----------
    width : int
        Channels of atoms and edges.
    layers : int
        Convolutions.
    cutoff : float
        Largest distance in angstrom, with a Gaussian every 0.2 angstrom.
    """

    centers: Tensor

    def __init__(self, width: int, layers: int, cutoff: float) -> None:
        super().__init__()
        self.register_buffer("centers", torch.arange(round(cutoff / STEP) + 1) * STEP, persistent=False)
        self.elements = nn.Embedding(MAX_ATOMIC_NUMBER + 1, width)
        self.distances = nn.Linear(len(self.centers), width)
        self.layers = nn.ModuleList(Convolution(width) for _ in range(layers))

    def forward(self, crystals: Crystals, edges: Edges, noise: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """Return atoms [atoms, F], edges [edges, F] and average edge of every atom [atoms, F].

        Parameters
        ----------
        crystals : Crystals
            The batch.
        edges : Edges
            Neighbours of the batch.
        noise : float
            Standard deviation of Gaussian noise on the distances, in angstrom.
        """
        length = edges.vectors(crystals).norm(dim=-1)
        if noise:
            length = length + noise * torch.randn_like(length)
        weight = envelope(length, edges.reach[edges.receivers])
        total = weight.new_zeros(len(crystals.numbers)).index_add_(0, edges.receivers, weight)
        share = (weight / total.clamp(min=1e-6)[edges.receivers])[:, None]
        bonds = self.distances(torch.exp(-(((length[:, None] - self.centers) / STEP) ** 2)))
        atoms = self.elements(crystals.numbers)
        average = torch.zeros_like(atoms)
        for layer in self.layers:
            atoms, bonds, average = layer(atoms, bonds, edges, share)
        return atoms, bonds, average


class GraphConvolutionNetwork(nn.Module):
    """Graph-Encoder and Regressor of the paper.

    Parameters
    ----------
    width, layers, cutoff
        As in `Trunk`.
    feature : int
        Length of the crystal feature.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, width: int, layers: int, cutoff: float, feature: int) -> None:
        super().__init__()
        self.trunk = Trunk(width, layers, cutoff)
        self.read_out = nn.Sequential(nn.Linear(2 * width, feature), nn.LeakyReLU(SLOPE), nn.Linear(feature, feature))
        self.regressor = nn.Sequential(leaky(feature, feature, feature, feature), nn.Linear(feature, 1))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))

    def encode(self, crystals: Crystals, edges: Edges, noise: float = 0.0) -> Tensor:
        """Return crystal features between -1 and 1, [crystals, feature]."""
        atoms, _, average = self.trunk(crystals, edges, noise)
        pooled = mean_per_crystal(torch.cat([atoms, average], dim=-1), crystals)
        return torch.tanh(self.read_out(pooled))

    def energy(self, features: Tensor) -> Tensor:
        """Return the formation energy from crystal features, [crystals] in eV/atom."""
        standardised: Tensor = self.regressor(features)[:, 0]
        return self.mean + self.spread * standardised
