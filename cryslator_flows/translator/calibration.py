"""What validation pairs teach about a finished network: its uncertainty, where it is at home, when nothing moves."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from cryslator_flows.translator.network import Prediction, size_of_change
from cryslator_flows.translator.pairs import relaxed_inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cryslator_flows.translator.graph import Crystals
    from cryslator_flows.translator.pairs import Pairs

# Shares of the validation energies that lie within the two stated uncertainties.
LEVELS = (0.683, 0.90)
NEIGHBORS = 5
# Share of the validation crystals that count as out of domain.
FAR = 0.01
# What a relaxed crystal may change by on average: below the targets of 0.5 % of the volume and 0.02 A.
REST_VOLUME, REST_SHIFT = 0.0045, 0.018


class TranslationNetwork(Protocol):
    """What a network of a model folder can do."""

    def translate(self, crystals: Crystals) -> Prediction:
        """Translate a batch."""

    def crystal_features(self, prediction: Prediction, crystals: Crystals) -> tuple[Tensor, Tensor]:
        """Encoded and translated features of whole crystals, [crystals, F] each."""


@dataclass(frozen=True)
class Calibration:
    """Numbers fitted on the validation pairs after the network itself.

    Parameters
    ----------
    rest_volume : Tensor
        Where the first pass asks for a change of ln(volume) below the first number, none is made; above the second,
        the whole change, [2].
    rest_shift : Tensor
        The same for the mean displacement of a crystal, [2] in angstrom.
    scale : Tensor
        c in ln(sigma) = c0 + c1 ln(scale of the network) + c2 ln(distance from the training data), [3].
    quantiles : Tensor
        Quantiles of |error| / sigma at `LEVELS`, [2].
    known : Tensor
        Translated features of training crystals, [crystals, F].
    limit : Tensor
        Distance from `known` beyond which a crystal is out of domain, [].
    element_volumes : Tensor
        Volume an atom of each element takes in relaxed training crystals, [119] in cubic angstrom.
    """

    rest_volume: Tensor
    rest_shift: Tensor
    scale: Tensor
    quantiles: Tensor
    known: Tensor
    limit: Tensor
    element_volumes: Tensor

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Calibration:
        """Copy on a device, in a precision."""
        return Calibration(**{name: value.to(device, dtype) for name, value in vars(self).items()})

    def state(self) -> dict[str, Tensor]:
        """Tensors by name, the large one in half precision."""
        return {**vars(self), "known": self.known.half()}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> Calibration:
        """Inverse of `state`.

        Raises
        ------
        KeyError
            A tensor is missing.
        """
        return cls(**{field.name: state[field.name] for field in fields(cls)})

    def settle(self, prediction: Prediction, crystals: Crystals) -> Prediction:
        """Take back changes that are too small to tell from none, so that relaxed crystals stay as they are."""
        growing, moving = (
            share_made(prediction.asked[:, column], rest)
            for column, rest in enumerate((self.rest_volume, self.rest_shift))
        )
        trace = prediction.strain.diagonal(dim1=1, dim2=2).sum(-1)
        eye = torch.eye(3, dtype=trace.dtype, device=trace.device)
        return replace(
            prediction,
            strain=prediction.strain + ((growing - 1) * trace / 3)[:, None, None] * eye,
            shift=prediction.shift * moving[crystals.owner, None],
        )

    def distance(self, features: Tensor) -> Tensor:
        """Mean distance from the nearest training crystals, by translated features, [crystals]."""
        return nearest(features, self.known)

    def uncertainty(self, energy_scale: Tensor, distance: Tensor) -> Tensor:
        """Half widths of the intervals at `LEVELS`, [crystals, 2] in eV/atom."""
        return sigma(self.scale, energy_scale, distance)[:, None] * self.quantiles


def share_made(asked: Tensor, rest: Tensor) -> Tensor:
    """Share of a change that is made: 0 below rest[0], 1 beyond rest[1], continuous between.

    The firm threshold of H.-Y. Gao and A. G. Bruce, "WaveShrink with firm shrinkage", Statistica Sinica 7, 855 (1997),
    over its argument.

    Parameters
    ----------
    asked : Tensor
        Size of the change, not negative, [n].
    rest : Tensor
        The two thresholds, [2].
    """
    slope = rest[1] / (rest[1] - rest[0]).clamp(min=1e-12)
    between = slope * (1 - rest[0] / asked.clamp(min=1e-12)).clamp(min=0)
    return torch.where(asked >= rest[1], 1.0, between)


def nearest(features: Tensor, known: Tensor) -> Tensor:
    """Mean distance of each row to the nearest rows of `known`, [n]."""
    count = min(NEIGHBORS, len(known))
    return torch.cdist(features, known).topk(count, largest=False)[0].mean(dim=1)


def sigma(coefficients: Tensor, energy_scale: Tensor, distance: Tensor) -> Tensor:
    """Size of the error to expect, up to a factor, [n] in eV/atom."""
    logs = torch.stack([torch.ones_like(distance), energy_scale.log(), distance.clamp(min=1e-6).log()])
    return (coefficients @ logs).exp()


def weighted_quantile(values: Tensor, weights: Tensor, level: float) -> float:
    """Conformal quantile: smallest value that a share of at least level (n + 1) / n of the weight does not exceed."""
    order = values.argsort()
    share = weights[order].cumsum(0) / weights.sum()
    n = float(weights.sum())
    index = int(torch.searchsorted(share, torch.tensor(min(1.0, level * (n + 1) / n), dtype=share.dtype)))
    return float(values[order][min(index, len(values) - 1)])


@dataclass(frozen=True)
class _Outcome:
    energy: Tensor
    energy_scale: Tensor
    features: Tensor
    asked: Tensor
    made: Tensor


@torch.inference_mode()
def _translate_all(network: TranslationNetwork, pairs: Pairs, device: str) -> _Outcome:
    parts = []
    for rows in torch.arange(len(pairs)).split(256):
        crystals = pairs.take(rows).unrelaxed.to(device)
        prediction = network.translate(crystals)
        row = (
            prediction.energy,
            prediction.energy_scale,
            network.crystal_features(prediction, crystals)[1],
            prediction.asked,
            size_of_change(prediction.strain, prediction.shift, crystals),
        )
        parts.append([part.cpu() for part in row])
    return _Outcome(*(torch.cat(column) for column in zip(*parts, strict=True)))


def calibrate(
    network: TranslationNetwork,
    train: Pairs,
    val: Pairs,
    weights: Tensor,
    device: str,
    settles: bool,
    element_volumes: Tensor,
) -> Calibration:
    """Fit everything that is learnt from the validation pairs once the network is done.

    Parameters
    ----------
    network : Network or ReferenceNetwork
        The finished network.
    train : Pairs
        Training pairs that stand for the domain.
    val : Pairs
        Validation pairs.
    weights : Tensor
        Weight of each validation pair; those of one target add up to one, [pairs].
    device : str
        Where to compute.
    settles : bool
        Whether small changes are taken back.
    element_volumes : Tensor
        As in `Calibration`.

    Returns
    -------
    Calibration
        The result.
    """
    known = _translate_all(network, train, device).features
    seen = _translate_all(network, val, device)
    distance = nearest(seen.features, known)
    labelled = ~val.energy.isnan()
    errors = (seen.energy - val.energy)[labelled].abs().clamp(min=1e-4)
    weight = weights[labelled]
    at = seen.energy_scale[labelled], distance[labelled]
    scale, quantiles = torch.zeros(3), torch.ones(2)
    if len(errors):
        scale = _fit_scale(errors, weight, *at)
        ratio = errors / sigma(scale, *at)
        quantiles = torch.tensor([weighted_quantile(ratio, weight, level) for level in LEVELS])
    rest = torch.zeros(2, 2)
    if settles:
        still = _translate_all(network, relaxed_inputs(val), device)
        goals = enumerate((REST_VOLUME, REST_SHIFT))
        rest = torch.stack([_rest(still.asked[:, i], still.made[:, i], weights, goal) for i, goal in goals])
    return Calibration(
        rest_volume=rest[0],
        rest_shift=rest[1],
        scale=scale,
        quantiles=quantiles,
        known=known,
        limit=torch.tensor(weighted_quantile(distance, weights, 1 - FAR)),
        element_volumes=element_volumes.cpu(),
    )


def _fit_scale(errors: Tensor, weights: Tensor, energy_scale: Tensor, distance: Tensor) -> Tensor:
    """Coefficients of `sigma` with the largest likelihood under a Laplace distribution, not below zero each."""
    from scipy.optimize import minimize  # half a second that those who only translate need not wait

    # Double precision: the gradient is taken by differences.
    share, size_of = (weights / weights.sum()).double(), errors.double()
    at = energy_scale.double(), distance.double()

    def loss(coefficients: NDArray[np.float64]) -> float:
        size = sigma(torch.from_numpy(coefficients), *at)
        return float((share * (size_of / size + size.log())).sum())

    start = [float(errors.log().mean()), 0.5, 0.5]
    found = minimize(loss, start, method="L-BFGS-B", bounds=[(None, None), (0, 2), (0, 2)])
    return torch.as_tensor(found.x, dtype=errors.dtype)


def _rest(asked: Tensor, made: Tensor, weights: Tensor, goal: float) -> Tensor:
    """Smallest thresholds that leave changes of relaxed crystals below `goal` on average, [2]."""
    for start in np.linspace(0, 0.2, 201):
        rest = torch.tensor([start, 4 / 3 * start], dtype=asked.dtype)
        if float((weights * made * share_made(asked, rest)).sum() / weights.sum()) <= goal:
            break
    return rest
