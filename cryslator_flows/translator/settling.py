"""Scaling of predicted changes: nearly the full change for an unrelaxed crystal, nearly none for a relaxed one."""

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

# Largest mean change of relaxed crystals: below the targets of 0.5 % of the volume and 0.02 A.
REST = 0.0045, 0.018
# Weights of relaxed crystals beside unrelaxed ones. The first weight that leaves relaxed crystals at rest is used.
WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
# Smallest number of validation pairs for a fit.
ENOUGH = 50
HIDDEN = 16
STEPS = 400


@dataclass(frozen=True)
class Settling:
    """Network that recognises relaxed crystals by the prediction for them, see `describe`.

    Two small networks of two layers give the applied shares of the strain and of the displacements. They are smooth,
    so that repeated translation of a crystal converges without a jump.

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
        """Return the applied shares of strain and displacements, [crystals, 2]."""
        standard = (numbers - self.center) / self.spread
        hidden = silu(torch.einsum("cn,shn->csh", standard, self.first_weight) + self.first_bias)
        return ((hidden * self.last_weight).sum(dim=-1) + self.last_bias).sigmoid()

    def settle(self, prediction: Prediction, crystals: Crystals, numbers: Tensor) -> Prediction:
        """Scale the predicted change by its shares; `numbers` is the output of `describe`, [crystals, 7]."""
        strain, shift = self.shares(numbers).unbind(dim=1)
        return replace(
            prediction,
            strain=prediction.strain * strain[:, None, None],
            shift=prediction.shift * shift[crystals.owner, None],
        )


def describe(prediction: Prediction, crystals: Crystals, encoded: Tensor, translated: Tensor) -> Tensor:
    """Return numbers that distinguish a relaxed crystal from an unrelaxed one, [crystals, 7].

    They are logarithms of five numbers: change of volume, mean displacement, change of shape, uncertainty of the
    energy, and distance between encoded and translated features. The first two are also squared.

    Parameters
    ----------
    prediction : Prediction
        Output of the network.
    crystals : Crystals
        Its input.
    encoded, translated : Tensor
        Features of whole crystals, [crystals, F].
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
    """Return symmetric matrices without their trace, [n, 3, 3]."""
    trace = tensor.diagonal(dim1=1, dim2=2).sum(-1)
    return tensor - trace[:, None, None] / 3 * torch.eye(3, dtype=tensor.dtype, device=tensor.device)


@dataclass(frozen=True)
class Moves:
    """Predicted changes of crystals, and the true changes to the relaxed crystals.

    Parameters
    ----------
    numbers : Tensor
        Output of `describe`, [crystals, 7].
    strain, true_strain : Tensor
        Predicted and true strain, [crystals, 3, 3].
    shift, true_shift : Tensor
        Predicted and true displacements, [atoms, 3] in angstrom.
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
        """Return the errors that remain after the shares are applied, [crystals, 3].

        The columns are ln(volume), shape, and positions in angstrom.
        """
        strain = self.strain * shares[:, 0, None, None] - self.true_strain
        apart = (self.shift * shares[self.owner, 1, None] - self.true_shift).square().sum(dim=1).add(1e-12).sqrt()
        total = apart.new_zeros(len(shares)).index_add_(0, self.owner, apart)
        volume = strain.diagonal(dim1=1, dim2=2).sum(-1).abs()
        shape = deviator(strain).square().sum(dim=(1, 2)).add(1e-12).sqrt()
        return torch.stack([volume, shape, total / torch.bincount(self.owner, minlength=len(shares))], dim=1)


def fit_settling(unrelaxed: Moves, relaxed: Moves, weights: Tensor) -> Settling | None:
    """Fit the shares on both kinds of crystals at once.

    The remaining errors of volume, shape and positions are minimised over the unrelaxed crystals. Relaxed crystals
    get just the weight that leaves them at rest, see `REST`.

    Parameters
    ----------
    unrelaxed, relaxed : Moves
        The validation pairs, from both of their ends.
    weights : Tensor
        Weight of each pair, [pairs].

    Returns
    -------
    Settling or None
        None if there are too few pairs: the full change is applied then.
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
    """Return the mean change of ln(volume), and in angstrom, that remains for relaxed crystals."""
    volume, _, shift = (share @ relaxed.errors(settling.shares(relaxed.numbers))).tolist()
    return volume, shift


def _loosen(settling: Settling, pressed: Tensor, relaxed: Moves, share: Tensor) -> Settling:
    """Increase the shares by bisection as far as relaxed crystals stay at rest.

    Only shares for which relaxed crystals had weight are changed.
    """
    low, high = settling.last_bias.clone(), settling.last_bias + 5 * pressed
    for _ in range(12):
        middle = (low + high) / 2
        rest = _rest(replace(settling, last_bias=middle), relaxed, share)
        still = torch.tensor([size <= goal for size, goal in zip(rest, REST, strict=True)])
        low, high = torch.where(still, middle, low), torch.where(still, high, middle)
    return replace(settling, last_bias=low)
