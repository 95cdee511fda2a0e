"""Calibration of a finished network on validation pairs: uncertainty, domain, and rest of relaxed crystals."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from cryslator_flows.translator.settling import Settling

if TYPE_CHECKING:
    from cryslator_flows.translator.graph import Crystals
    from cryslator_flows.translator.network import Prediction

# Shares of the validation energies within the two stated uncertainties.
LEVELS = (0.683, 0.90)
NEIGHBORS = 5
SETTLING = "settling."


class TranslationNetwork(Protocol):
    """Interface of the network of a model folder."""

    def translate(self, crystals: Crystals) -> Prediction:
        """Translate a batch."""

    def crystal_features(self, prediction: Prediction, crystals: Crystals) -> tuple[Tensor, Tensor]:
        """Return encoded and translated features of whole crystals, [crystals, F] each."""


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
        Volume of an atom of each element in relaxed training crystals, [119] in cubic angstrom.
    settling : Settling or None
        Shares of each predicted change that are applied; None for the full change.
    """

    scale: Tensor
    quantiles: Tensor
    known: Tensor
    limit: Tensor
    element_volumes: Tensor
    settling: Settling | None = None

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Calibration:
        """Return a copy on a device, in a precision."""
        return Calibration.from_state({name: value.to(device, dtype) for name, value in self.state().items()})

    def state(self) -> dict[str, Tensor]:
        """Return the tensors by name, the large one in half precision."""
        own = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        settling = {} if self.settling is None else vars(self.settling)
        named = {f"{SETTLING}{name}": value.contiguous() for name, value in settling.items()}
        return own | named | {"known": self.known.half()}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> Calibration:
        """Restore a calibration from the output of `state`.

        Raises
        ------
        KeyError
            A tensor is missing.
        """
        settling = {name.removeprefix(SETTLING): value for name, value in state.items() if name.startswith(SETTLING)}
        own = {field.name: state[field.name] for field in fields(cls) if field.name != "settling"}
        return cls(**own, settling=Settling(**settling) if settling else None)

    def distance(self, features: Tensor) -> Tensor:
        """Return the mean distance from the nearest training crystals, by translated features, [crystals]."""
        return nearest(features, self.known)

    def uncertainty(self, energy_scale: Tensor, distance: Tensor) -> Tensor:
        """Return the half widths of the intervals at `LEVELS`, [crystals, 2] in eV/atom."""
        return sigma(self.scale, energy_scale, distance)[:, None] * self.quantiles


def nearest(features: Tensor, known: Tensor) -> Tensor:
    """Return the mean distance of each row to the nearest rows of `known`, [n]."""
    count = min(NEIGHBORS, len(known))
    return torch.cdist(features, known).topk(count, largest=False)[0].mean(dim=1)


def sigma(coefficients: Tensor, energy_scale: Tensor, distance: Tensor) -> Tensor:
    """Return the expected size of the error, up to a factor, [n] in eV/atom."""
    logs = torch.stack([torch.ones_like(distance), energy_scale.log(), distance.clamp(min=1e-6).log()])
    return (coefficients @ logs).exp()


def weighted_quantile(values: Tensor, weights: Tensor, level: float) -> float:
    """Return the conformal quantile of weighted values.

    It is the smallest value that a share of at least level (n + 1) / n of the weight does not exceed.
    """
    order = values.argsort()
    share = weights[order].cumsum(0) / weights.sum()
    n = float(weights.sum())
    index = int(torch.searchsorted(share, torch.tensor(min(1.0, level * (n + 1) / n), dtype=share.dtype)))
    return float(values[order][min(index, len(values) - 1)])
