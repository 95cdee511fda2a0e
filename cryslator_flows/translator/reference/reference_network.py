"""The paper's system as one network, with the interface of today's network. Torch only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from cryslator_flows.translator.graph import Crystals, Edges, find_edges
from cryslator_flows.translator.network import Prediction
from cryslator_flows.translator.reference.feature_translation import Generator
from cryslator_flows.translator.reference.graph_convolution import GraphConvolutionNetwork
from cryslator_flows.translator.reference.structure_network import CellPredictor, PositionPredictor

BASELINES = ("R", "U", "R+U")


@dataclass(frozen=True)
class ReferenceConfig:
    """Shape of the paper's system. Defaults are the sizes of the paper.

    Parameters
    ----------
    width, layers : int
        Channels and convolutions of the Graph-Encoder.
    feature : int
        Length of the crystal feature, a square number.
    channels : int
        First channels of generator and discriminator.
    cell_width, cell_layers, position_width, position_layers : int
        Trunks of the Structure-Predictor.
    cutoff : float
        Largest distance of a neighbour in angstrom.
    neighbors : int
        Neighbour number at which an atom's reach ends. The paper does not state its number.
    """

    width: int = 64
    layers: int = 5
    feature: int = 256
    channels: int = 64
    cell_width: int = 256
    cell_layers: int = 7
    position_width: int = 128
    position_layers: int = 9
    cutoff: float = 6.0
    neighbors: int = 20


class ReferenceNetwork(nn.Module):
    """Graph-Encoder, Regressor, Cryslator generator and Structure-Predictor, and the three baselines.

    Parameters
    ----------
    config : ReferenceConfig
        Shape of the system.
    """

    def __init__(self, config: ReferenceConfig) -> None:
        super().__init__()
        self.config = config
        gcn = config.width, config.layers, config.cutoff, config.feature
        # "R" was trained on relaxed crystals. It is the baseline GCN_R, and the encoder and regressor of the system.
        self.baselines = nn.ModuleDict({name: GraphConvolutionNetwork(*gcn) for name in BASELINES})
        self.generator = Generator(config.channels)
        self.cell = CellPredictor(config.cell_width, config.cell_layers, config.cutoff, config.feature)
        self.position = PositionPredictor(config.position_width, config.position_layers, config.cutoff, config.feature)

    def find_edges(self, crystals: Crystals) -> Edges:
        """Find the neighbours of every atom with the cutoff and neighbour number of this network."""
        return find_edges(replace(crystals, symmetry=None), self.config.cutoff, self.config.neighbors)

    def baseline(self, name: str) -> GraphConvolutionNetwork:
        """Return one of `BASELINES`."""
        return cast("GraphConvolutionNetwork", self.baselines[name])

    def crystal_features(self, prediction: Prediction, crystals: Crystals) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return encoded and translated features of whole crystals, [crystals, feature] each."""
        return prediction.encoded, prediction.translated

    def translate(self, crystals: Crystals) -> Prediction:
        """Translate a batch.

        Returns
        -------
        Prediction
            Energy of the translated crystal feature, strain and shifts of the Structure-Predictor. `encoded` and
            `translated` are features of whole crystals, [crystals, feature]. The scale of the energy is one number.
        """
        edges = self.find_edges(crystals)
        gcn = self.baseline("R")
        encoded = gcn.encode(crystals, edges)
        translated = self.generator.translate(encoded)
        return Prediction(
            energy=gcn.energy(translated),
            energy_scale=torch.ones_like(translated[:, 0]),
            strain=self.cell.strain(crystals, edges, encoded, translated),
            shift=self.position.shift(crystals, edges, encoded, translated),
            encoded=encoded,
            translated=translated,
        )
