"""Expected errors of translated structures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Predicted changes below this size belong to crystals whose symmetry fixes shape or positions; they have no error.
FIXED = 2e-4
# Numbers of `settling.describe` that are logarithms. Those of volume, positions and shape come first.
LOGS = 5


@dataclass(frozen=True)
class ExpectedErrors:
    """Model of the errors of translated structures, fitted on the validation pairs as that of the energy's error is.

    An error is expected to be exp(c . x). x is a one, the first `LOGS` numbers of `settling.describe`, and the
    logarithm of the distance from the training data. The three errors are those of ln(volume), of the shape of the cell
    (Frobenius norm of the strain without its trace), and of the positions (mean over atoms, in angstrom).

    Parameters
    ----------
    coefficients : Tensor
        c of each error, [3, 7].
    quantiles : Tensor
        90 % quantiles of error over size for each class of compound, [6, 3].
    """

    coefficients: Tensor
    quantiles: Tensor

    def sizes(self, numbers: Tensor, distance: Tensor) -> Tensor:
        """Return the expected size of each error, [crystals, 3]; zero where symmetry fixes shape or positions.

        Parameters
        ----------
        numbers : Tensor
            Output of `settling.describe`, [crystals, 7].
        distance : Tensor
            Distance from the training data, [crystals].
        """
        return (inputs(numbers, distance) @ self.coefficients.T).exp() * free(numbers)

    def widths(self, numbers: Tensor, distance: Tensor, classes: Tensor) -> Tensor:
        """Return the half widths of the 90 % intervals, [crystals, 3]; parameters as in `sizes`, and classes."""
        return self.sizes(numbers, distance) * self.quantiles[classes]


def inputs(numbers: Tensor, distance: Tensor) -> Tensor:
    """Return x of `ExpectedErrors`, [crystals, 7]."""
    ones = torch.ones_like(distance)
    return torch.cat([ones[:, None], numbers[:, :LOGS], distance.clamp(min=1e-6).log()[:, None]], dim=1)


def free(numbers: Tensor) -> Tensor:
    """Return whether volume, shape and positions can change, [crystals, 3]."""
    shape, positions = numbers[:, 2].exp() > FIXED, numbers[:, 1].exp() > FIXED
    return torch.stack([torch.ones_like(shape), shape, positions], dim=1)
