"""Calibration of a finished network on the validation pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cryslator_flows.training.fit_errors import fit_expected_errors
from cryslator_flows.training.tensors import relaxed_inputs
from cryslator_flows.translator.calibration import (
    Calibration,
    class_quantiles,
    nearest,
    sigma,
    weighted_quantile,
)
from cryslator_flows.translator.chemistry import Chemistry
from cryslator_flows.translator.geometry import shift_between, strain_between
from cryslator_flows.translator.settling import Moves, describe, fit_settling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cryslator_flows.training.tensors import Pairs
    from cryslator_flows.translator.calibration import TranslationNetwork
    from cryslator_flows.translator.chemistry import Seen
    from cryslator_flows.translator.settling import Settling

# Share of the validation crystals that are beyond the limit of the distance, and beyond the one of the width.
FAR = 0.01
# Number of training crystals that represent the domain. More would take longer than the translation itself.
KNOWN = 5000


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
    seen: Seen,
    val: Pairs,
    weights: Tensor,
    device: str,
    settles: bool,
    element_volumes: Tensor,
) -> Calibration:
    """Fit all numbers that are learnt from the validation pairs after the network.

    Parameters
    ----------
    network : Network or ReferenceNetwork
        The finished network.
    train : Pairs
        Training pairs that represent the domain.
    seen : Seen
        Numbers of training crystals.
    val : Pairs
        Validation pairs.
    weights : Tensor
        Weight of each validation pair, [pairs]. Weights of one target add up to one.
    device : str
        Device of the computation.
    settles : bool
        True to recognise relaxed crystals and leave them unchanged.
    element_volumes : Tensor
        As in `Calibration`.

    Returns
    -------
    Calibration
        The fitted calibration.
    """
    few = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:KNOWN]
    known = _translate_all(network, train.take(few), device).features
    outcome = _translate_all(network, val, device)
    settling = None
    if settles:
        settling = fit_settling(outcome.moves, _translate_all(network, relaxed_inputs(val), device).moves, weights)
    return _fit(outcome, val, weights, known, seen, element_volumes, settling)


def calibrate_again(
    network: TranslationNetwork,
    known: Tensor,
    seen: Seen,
    val: Pairs,
    weights: Tensor,
    device: str,
    element_volumes: Tensor,
    settling: Settling | None,
) -> Calibration:
    """Fit uncertainty and domain of a network once more; parameters as in `calibrate` and `Calibration`."""
    return _fit(_translate_all(network, val, device), val, weights, known.float(), seen, element_volumes, settling)


def _fit(
    outcome: _Outcome,
    val: Pairs,
    weights: Tensor,
    known: Tensor,
    seen: Seen,
    element_volumes: Tensor,
    settling: Settling | None,
) -> Calibration:
    distance = nearest(outcome.features, known)
    chemistry = Chemistry.of(val.unrelaxed)
    labelled = ~val.energy.isnan()
    errors = (outcome.energy - val.energy)[labelled].abs().clamp(min=1e-4)
    scale, ratios = torch.zeros(3), torch.ones(0)
    if len(errors):
        at = outcome.energy_scale[labelled], distance[labelled]
        scale = _fit_scale(errors, weights[labelled], *at)
        ratios = errors / sigma(scale, *at)
    fitted = Calibration(
        scale=scale,
        quantiles=class_quantiles(ratios, weights[labelled], chemistry.classes[labelled]),
        known=known,
        limit=torch.tensor(weighted_quantile(distance, weights, 1 - FAR)),
        widest=torch.tensor(torch.inf),
        element_volumes=element_volumes.cpu(),
        seen=seen,
        settling=settling,
    )
    widths = fitted.uncertainty(outcome.energy_scale, distance, chemistry)[:, 1]
    return replace(
        fitted,
        widest=torch.tensor(weighted_quantile(widths, weights, 1 - FAR)),
        errors=fit_expected_errors(outcome.moves, settling, distance, weights, chemistry.classes),
    )


def _fit_scale(errors: Tensor, weights: Tensor, energy_scale: Tensor, distance: Tensor) -> Tensor:
    """Return the coefficients of `sigma` with the largest likelihood under a Laplace distribution, last two >= 0."""
    from scipy.optimize import minimize  # takes half a second, which pure translation saves

    # Double precision, since the gradient is taken by finite differences.
    share, size_of = (weights / weights.sum()).double(), errors.double()
    at = energy_scale.double(), distance.double()

    def loss(coefficients: NDArray[np.float64]) -> float:
        size = sigma(torch.from_numpy(coefficients), *at)
        return float((share * (size_of / size + size.log())).sum())

    start = [float(errors.log().mean()), 0.5, 0.5]
    found = minimize(loss, start, method="L-BFGS-B", bounds=[(None, None), (0, 2), (0, 2)])
    return torch.as_tensor(found.x, dtype=errors.dtype)
