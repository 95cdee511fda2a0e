"""The discriminator of an adversarial training. Torch only."""

from __future__ import annotations

import torch
from torch import Tensor

from cryslator_flows.translator.network import Prediction, mlp


class Adversary:
    """Discriminator between translated atom features and features of relaxed crystals, given the encoded ones.

    Least-squares GAN: X. Mao et al., "Least squares generative adversarial networks", ICCV 2017, equation 9, with a
    discriminator that sees input and output as in pix2pix (P. Isola et al., CVPR 2017).

    Parameters
    ----------
    width : int
        Scalar channels of an atom.
    learning_rate : float
        Learning rate of the discriminator's optimiser.
    device : str
        Device of the discriminator.
    """

    def __init__(self, width: int, learning_rate: float, device: str) -> None:
        self.network = mlp(2 * width, width, 1).to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=learning_rate, betas=(0.5, 0.999))

    def deceive(self, prediction: Prediction) -> Tensor:
        """Return the loss of the translator: how clearly its features differ from relaxed ones."""
        return (self._score(prediction.encoded, prediction.translated) - 1).square().mean()

    def learn(self, prediction: Prediction, goal: Tensor) -> None:
        """Take one step of the discriminator on a batch.

        `goal` holds the relaxed crystals' features, [orbits, F].
        """
        encoded = prediction.encoded.detach()
        real, fake = self._score(encoded, goal), self._score(encoded, prediction.translated.detach())
        self.optimizer.zero_grad(set_to_none=True)
        (0.5 * ((real - 1).square() + fake.square()).mean()).backward()
        self.optimizer.step()

    def _score(self, encoded: Tensor, features: Tensor) -> Tensor:
        scores: Tensor = self.network(torch.cat([encoded, features], dim=-1))
        return scores
