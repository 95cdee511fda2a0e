"""Translation of the crystal feature as an image, after the paper's pix2pix networks. Torch only.

The 256 numbers of a crystal feature form an image of 16 x 16. The generator predicts the difference between
unrelaxed and relaxed feature. S. Kim et al., npj Comput. Mater. 9, 142 (2023); P. Isola et al., CVPR 2017.
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

SLOPE = 0.2
# Number of convolutions that double the channels, of residual blocks, and of halving convolutions.
STEPS = 4


def _block(layer: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(layer, nn.InstanceNorm2d(channels), nn.LeakyReLU(SLOPE))


class Residual(nn.Module):
    """Two convolutions that keep size and channels, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _block(nn.Conv2d(channels, channels, 3, padding=1), channels),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return the image plus the body's output."""
        added: Tensor = image + self.body(image)
        return added


class Generator(nn.Module):
    """Network that predicts the unrelaxed minus the relaxed crystal feature.

    Parameters
    ----------
    channels : int
        Channels of the first convolution. The innermost ones have 16 times as many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_block(nn.Conv2d(1, channels, 3), channels)]  # 16 -> 14
        for step in range(STEPS):
            inner = channels * 2 ** (step + 1)
            layers.append(_block(nn.Conv2d(inner // 2, inner, 3, padding=1), inner))
        layers += [Residual(channels * 2**STEPS) for _ in range(STEPS)]
        for step in reversed(range(STEPS)):
            outer = channels * 2**step
            layers.append(_block(nn.ConvTranspose2d(2 * outer, outer, 3, padding=1), outer))
        layers += [
            _block(nn.ConvTranspose2d(channels, channels, 2), channels),  # 14 -> 15
            nn.ConvTranspose2d(channels, 1, 2),  # 15 -> 16
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Return the difference of the features, [crystals, feature] -> [crystals, feature]."""
        difference: Tensor = self.layers(_as_images(features)).flatten(1)
        return difference

    def translate(self, features: Tensor) -> Tensor:
        """Return translated crystal features, [crystals, feature]."""
        return features - self(features)


class Discriminator(nn.Module):
    """Network that scores patches of a pair of features.

    The score is one for unrelaxed beside relaxed, and zero for unrelaxed beside translated.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        sizes = [2, channels, 2 * channels, 4 * channels, 8 * channels]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(sizes[-1], 1, 2))  # 16 -> 15

    def forward(self, unrelaxed: Tensor, other: Tensor) -> Tensor:
        """Return patch scores, [crystals, 1, 15, 15]."""
        pair = _as_images(unrelaxed).repeat(1, 2, 1, 1)
        pair[:, 1:] = _as_images(other)
        scores: Tensor = self.layers(pair)
        return scores


def _as_images(features: Tensor) -> Tensor:
    side = math.isqrt(features.shape[1])
    return features.view(-1, 1, side, side)
