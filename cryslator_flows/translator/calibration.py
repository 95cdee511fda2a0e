"""What validation pairs teach about a finished network: its uncertainty, where it is at home, when nothing moves."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from cryslator_flows.translator.geometry import shift_between, strain_between
from cryslator_flows.translator.pairs import relaxed_inputs
from cryslator_flows.translator.settling import Moves, Settling, describe, fit_settling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cryslator_flows.translator.graph import Crystals
    from cryslator_flows.translator.network import Prediction
    from cryslator_flows.translator.pairs import Pairs

# Shares of the validation energies that lie within the two stated uncertainties.
LEVELS = (0.683, 0.90)
NEIGHBORS = 5
# Share of the validation crystals that count as out of domain.
FAR = 0.01
# Training crystals that stand for the domain: more would take longer than the translation itself.
KNOWN = 5000
SETTLING = "settling."


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
    settling : Settling or None
        How much of each predicted change is made; None for all of it.
    """

    scale: Tensor
    quantiles: Tensor
    known: Tensor
    limit: Tensor
    element_volumes: Tensor
    settling: Settling | None = None

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Calibration:
        """Copy on a device, in a precision."""
        return Calibration.from_state({name: value.to(device, dtype) for name, value in self.state().items()})

    def state(self) -> dict[str, Tensor]:
        """Tensors by name, the large one in half precision."""
        own = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        settling = {} if self.settling is None else vars(self.settling)
        named = {f"{SETTLING}{name}": value.contiguous() for name, value in settling.items()}
        return own | named | {"known": self.known.half()}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> Calibration:
        """Inverse of `state`.

        Raises
        ------
        KeyError
            A tensor is missing.
        """
        settling = {name.removeprefix(SETTLING): value for name, value in state.items() if name.startswith(SETTLING)}
        own = {field.name: state[field.name] for field in fields(cls) if field.name != "settling"}
        return cls(**own, settling=Settling(**settling) if settling else None)

    def distance(self, features: Tensor) -> Tensor:
        """Mean distance from the nearest training crystals, by translated features, [crystals]."""
        return nearest(features, self.known)

    def uncertainty(self, energy_scale: Tensor, distance: Tensor) -> Tensor:
        """Half widths of the intervals at `LEVELS`, [crystals, 2] in eV/atom."""
        return sigma(self.scale, energy_scale, distance)[:, None] * self.quantiles


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
    moves: Moves


@torch.no_grad()
def _translate_all(network: TranslationNetwork, pairs: Pairs, device: str) -> _Outcome:
    parts, before = [], 0
    for rows in torch.arange(len(pairs)).split(256):
        batch = pairs.take(rows).to(device)
        crystals = batch.unrelaxed
        prediction = network.translate(crystals)
        encoded, translated = network.crystal_features(prediction, crystals)
        row = (
            prediction.energy,
            prediction.energy_scale,
            translated,
            describe(prediction, crystals, encoded, translated),
            prediction.strain,
            strain_between(crystals.lattices, batch.relaxed.lattices),
            prediction.shift,
            shift_between(crystals, batch.relaxed),
            crystals.owner + before,
        )
        parts.append([part.cpu() for part in row])
        before += len(rows)
    energy, energy_scale, features, *moves = (torch.cat(column) for column in zip(*parts, strict=True))
    return _Outcome(energy, energy_scale, features, Moves(*moves))


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
        Whether relaxed crystals are recognised and left as they are.
    element_volumes : Tensor
        As in `Calibration`.

    Returns
    -------
    Calibration
        The result.
    """
    few = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:KNOWN]
    known = _translate_all(network, train.take(few), device).features
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
    settling = None
    if settles:
        settling = fit_settling(seen.moves, _translate_all(network, relaxed_inputs(val), device).moves, weights)
    return Calibration(
        scale=scale,
        quantiles=quantiles,
        known=known,
        limit=torch.tensor(weighted_quantile(distance, weights, 1 - FAR)),
        element_volumes=element_volumes.cpu(),
        settling=settling,
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
