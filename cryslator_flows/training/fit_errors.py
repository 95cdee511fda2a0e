"""Fit of the expected errors of translated structures on the validation pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from cryslator_flows.translator.calibration import class_quantiles
from cryslator_flows.translator.expected_errors import ExpectedErrors, free, inputs
from cryslator_flows.translator.settling import ENOUGH, Moves, Settling

# Smallest error of the fit, without unit and in angstrom. Smaller ones are rounding.
SMALLEST = 1e-4
# Weight of the squares of the coefficients, for few pairs.
RIDGE = 1e-3


def fit_expected_errors(
    moves: Moves, settling: Settling | None, distance: Tensor, weights: Tensor, classes: Tensor
) -> ExpectedErrors | None:
    """Fit sizes and intervals.

    Sizes have the largest likelihood under Laplace distributions, as that of the energy. The intervals are conformal by
    class, see `class_quantiles`. They leave out crystals whose symmetry fixes shape or positions.

    Parameters
    ----------
    moves : Moves
        Translations of the unrelaxed crystals of the pairs.
    settling : Settling or None
        Shares of the changes that are applied; None for the full change.
    distance : Tensor
        Distance from the training data, [pairs].
    weights : Tensor
        Weight of each pair, [pairs].
    classes : Tensor
        Class of compound of each pair, [pairs].

    Returns
    -------
    ExpectedErrors or None
        None where there are too few pairs.
    """
    if len(weights) < ENOUGH:
        return None
    shares = torch.ones(len(weights), 2) if settling is None else settling.shares(moves.numbers)
    errors, x = moves.errors(shares).clamp(min=SMALLEST), inputs(moves.numbers, distance)
    rows, quantiles = [], []
    for error, there in zip(errors.T, free(moves.numbers).T, strict=True):
        rows.append(_fit_sizes(x[there], error[there], weights[there]))
        ratios = error[there] / (x[there] @ rows[-1]).exp()
        quantiles.append(class_quantiles(ratios, weights[there], classes[there])[:, 1])
    return ExpectedErrors(torch.stack(rows), torch.stack(quantiles, dim=1))


def _fit_sizes(x: Tensor, errors: Tensor, weights: Tensor) -> Tensor:
    """Return the coefficients of the sizes of one error, [7]."""
    # No crystal of the pairs may be free to change so.
    share, inside, size_of = (weights / weights.sum().clamp(min=1)).double(), x.double(), errors.double()
    c = torch.zeros(x.shape[1], dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([c], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logs = inside @ c
        total = (share * (size_of * (-logs).exp() + logs)).sum() + RIDGE * c.square().sum()
        total.backward()
        return total

    with torch.enable_grad():
        optimizer.step(loss)
    return c.detach().to(x.dtype)
