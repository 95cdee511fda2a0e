"""How much of a predicted change is made: nearly all for what is not relaxed, nearly nothing for what is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import silu

from cryslator_flows.translator.network import mean_per_crystal

if TYPE_CHECKING:
    from cryslator_flows.translator.graph import Crystals
    from cryslator_flows.translator.network import Prediction

# What a relaxed crystal may change by on average: below the targets of 0.5 % of the volume and 0.02 A.
REST = 0.0045, 0.018
# Weight of relaxed crystals beside unrelaxed ones: the first that leaves them there.
WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
# Fewer validation pairs teach nothing of it.
ENOUGH = 50
HIDDEN = 16
STEPS = 400


@dataclass(frozen=True)
class Settling:
    """Recognises relaxed crystals by what a network says of them, see `describe`.

    A small network of two layers each gives the share of the strain and the share of the displacements that is made.
    It is smooth, so that a crystal on its way to the relaxed one comes to rest without a jump.

    Parameters
    ----------
    center, spread : Tensor
        Mean and standard deviation of each number of `describe`, [numbers].
    first_weight, first_bias : Tensor
        First layers, [2, hidden, numbers] and [2, hidden].
    last_weight, last_bias : Tensor
        Last layers, [2, hidden] and [2].
    """

    center: Tensor
    spread: Tensor
    first_weight: Tensor
    first_bias: Tensor
    last_weight: Tensor
    last_bias: Tensor

    def shares(self, numbers: Tensor) -> Tensor:
        """Shares of strain and displacements that are made, [crystals, 2]."""
        standard = (numbers - self.center) / self.spread
        hidden = silu(torch.einsum("cn,shn->csh", standard, self.first_weight) + self.first_bias)
        return ((hidden * self.last_weight).sum(dim=-1) + self.last_bias).sigmoid()

    def settle(self, prediction: Prediction, crystals: Crystals, encoded: Tensor, translated: Tensor) -> Prediction:
        """Make that share of the predicted change; the last two are features of whole crystals, [crystals, F]."""
        strain, shift = self.shares(describe(prediction, crystals, encoded, translated)).unbind(dim=1)
        return replace(
            prediction,
            strain=prediction.strain * strain[:, None, None],
            shift=prediction.shift * shift[crystals.owner, None],
        )


def describe(prediction: Prediction, crystals: Crystals, encoded: Tensor, translated: Tensor) -> Tensor:
    """Numbers that tell a relaxed crystal from one that is not, [crystals, 7].

    Logarithms of the change of volume, the mean displacement, the change of shape, the uncertainty of the energy and
    how far translation moves the crystal's features; the first two also squared.
    """
    trace = prediction.strain.diagonal(dim1=1, dim2=2).sum(-1)
    moved = mean_per_crystal(prediction.shift.norm(dim=-1), crystals)
    sizes = (
        (trace.abs(), 1e-5),
        (moved, 1e-4),
        (deviator(prediction.strain).norm(dim=(1, 2)), 1e-5),
        (prediction.energy_scale, 1e-5),
        ((translated - encoded).norm(dim=1), 1e-5),
    )
    logs = torch.stack([size.clamp(min=least).log() for size, least in sizes], dim=1)
    return torch.cat([logs, logs[:, :2].square()], dim=1)


def deviator(tensor: Tensor) -> Tensor:
    """Symmetric matrices without their trace, [n, 3, 3]."""
    trace = tensor.diagonal(dim1=1, dim2=2).sum(-1)
    return tensor - trace[:, None, None] / 3 * torch.eye(3, dtype=tensor.dtype, device=tensor.device)


@dataclass(frozen=True)
class Moves:
    """Predicted changes of crystals, and the changes that lead to the relaxed ones.

    Parameters
    ----------
    numbers : Tensor
        What `describe` says, [crystals, 7].
    strain, true_strain : Tensor
        [crystals, 3, 3].
    shift, true_shift : Tensor
        [atoms, 3] in angstrom.
    owner : Tensor
        Crystal of each atom, [atoms].
    """

    numbers: Tensor
    strain: Tensor
    true_strain: Tensor
    shift: Tensor
    true_shift: Tensor
    owner: Tensor

    def errors(self, shares: Tensor) -> Tensor:
        """What is left once such shares are made: of ln(volume), shape, and positions in angstrom, [crystals, 3]."""
        strain = self.strain * shares[:, 0, None, None] - self.true_strain
        apart = (self.shift * shares[self.owner, 1, None] - self.true_shift).square().sum(dim=1).add(1e-12).sqrt()
        total = apart.new_zeros(len(shares)).index_add_(0, self.owner, apart)
        volume = strain.diagonal(dim1=1, dim2=2).sum(-1).abs()
        shape = deviator(strain).square().sum(dim=(1, 2)).add(1e-12).sqrt()
        return torch.stack([volume, shape, total / torch.bincount(self.owner, minlength=len(shares))], dim=1)


def fit_settling(unrelaxed: Moves, relaxed: Moves, weights: Tensor) -> Settling | None:
    """Fit the shares on both kinds of input at once.

    What is left of volume and shape, and what is left of positions, is minimised over the unrelaxed crystals; relaxed
    ones weigh just enough that they come to rest, see `REST`.

    Parameters
    ----------
    unrelaxed, relaxed : Moves
        The validation pairs from both of their ends.
    weights : Tensor
        Weight of each pair, [pairs].

    Returns
    -------
    Settling or None
        None where there are too few pairs: all of every change is made then.
    """
    if len(weights) < ENOUGH:
        return None
    share = weights / weights.sum()
    both = torch.cat([unrelaxed.numbers, relaxed.numbers])
    center, spread = both.mean(dim=0), both.std(dim=0).clamp(min=1e-6)
    best: list[Tensor] = []
    missing, pressed = [True, True], torch.zeros(2)
    for weight in WEIGHTS:
        generator = torch.Generator().manual_seed(0)
        sizes = ((2, HIDDEN, len(center)), (2, HIDDEN), (2, HIDDEN))
        layers = [0.3 * torch.randn(size, generator=generator) for size in sizes] + [torch.full((2,), 2.0)]
        for layer in layers:
            layer.requires_grad_()
        found = Settling(center, spread, *layers)
        optimizer = torch.optim.Adam(layers, lr=0.02)
        for _ in range(STEPS):
            left = share @ unrelaxed.errors(found.shares(unrelaxed.numbers))
            moved = share @ relaxed.errors(found.shares(relaxed.numbers))
            optimizer.zero_grad()
            (left + weight * moved).sum().backward()
            optimizer.step()
        best = best or [layer.detach().clone() for layer in layers]
        with torch.no_grad():
            rest = _rest(found, relaxed, share)
        for kind in (0, 1):
            if missing[kind]:
                for kept, layer in zip(best, layers, strict=True):
                    kept[kind] = layer[kind].detach()
                pressed[kind] = weight
                missing[kind] = rest[kind] > REST[kind]
        if not any(missing):
            break
    return _loosen(Settling(center, spread, *best), pressed > 0, relaxed, share)


def _rest(settling: Settling, relaxed: Moves, share: Tensor) -> tuple[float, float]:
    """Mean change of ln(volume), and in angstrom, that relaxed crystals are left with."""
    volume, _, shift = (share @ relaxed.errors(settling.shares(relaxed.numbers))).tolist()
    return volume, shift


def _loosen(settling: Settling, pressed: Tensor, relaxed: Moves, share: Tensor) -> Settling:
    """Make as much of the changes as leaves relaxed crystals at rest, where these were given weight: by bisection."""
    low, high = settling.last_bias.clone(), settling.last_bias + 5 * pressed
    for _ in range(12):
        middle = (low + high) / 2
        rest = _rest(replace(settling, last_bias=middle), relaxed, share)
        still = torch.tensor([size <= goal for size, goal in zip(rest, REST, strict=True)])
        low, high = torch.where(still, middle, low), torch.where(still, high, middle)
    return replace(settling, last_bias=low)
