"""Calibration of a finished network on validation pairs: uncertainty, domain, and rest of relaxed crystals."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

import torch
from pymatgen.core import Element
from torch import Tensor

from cryslator_flows.crystals.compound_classes import CLASSES
from cryslator_flows.translator.chemistry import Seen
from cryslator_flows.translator.expected_errors import ExpectedErrors
from cryslator_flows.translator.settling import Settling

if TYPE_CHECKING:
    from cryslator_flows.translator.chemistry import Chemistry
    from cryslator_flows.translator.graph import Crystals
    from cryslator_flows.translator.network import Prediction

# Shares of the validation energies within the two stated uncertainties.
LEVELS = (0.683, 0.90)
NEIGHBORS = 5
# Fields of a calibration that hold several tensors.
PARTS: dict[str, type[Seen | Settling | ExpectedErrors]] = {
    "seen": Seen, "settling": Settling, "errors": ExpectedErrors
}  # fmt: skip
# Number of validation targets whose own quantile counts as much as the one of all classes. A 90 % quantile of n targets
# holds 90 % with a standard deviation of 0.3 / sqrt(n). With one quantile for all, shares of classes differ by 3 %.
EQUAL = 100
# A chemistry is known from so many training crystals, or from this share of all if that is less. Of fewer, validation
# pairs hold next to none, so that no interval was checked.
FEWEST, LEAST_SHARE = 10, 0.01
WIDE, UNLIKE = "wide interval", "unlike the training crystals"
CLASS_NAMES = [name.replace("others", "crystals of other classes") for name in CLASSES]


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
        Quantiles of |error| / sigma at `LEVELS` for each class of compound, [6, 2].
    known : Tensor
        Translated features of training crystals, [crystals, F].
    limit : Tensor
        Distance from `known` beyond which a crystal is out of domain, [].
    widest : Tensor
        Half width of the 90 % interval beyond which a crystal is out of domain, [].
    element_volumes : Tensor
        Volume of an atom of each element in relaxed training crystals, [119] in cubic angstrom.
    seen : Seen
        Numbers of training crystals by their chemistry.
    settling : Settling or None
        Shares of each predicted change that are applied; None for the full change.
    errors : ExpectedErrors or None
        Expected errors of translated structures; None for a model without.
    """

    scale: Tensor
    quantiles: Tensor
    known: Tensor
    limit: Tensor
    widest: Tensor
    element_volumes: Tensor
    seen: Seen
    settling: Settling | None = None
    errors: ExpectedErrors | None = None

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Calibration:
        """Return a copy on a device, in a precision."""
        return Calibration.from_state({name: value.to(device, dtype) for name, value in self.state().items()})

    def state(self) -> dict[str, Tensor]:
        """Return the tensors by name, the large one in half precision."""
        own = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        named = {
            f"{part}.{name}": value.contiguous()
            for part in PARTS
            if getattr(self, part) is not None
            for name, value in vars(getattr(self, part)).items()
        }
        return own | named | {"known": self.known.half()}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> Calibration:
        """Restore a calibration from the output of `state`.

        Raises
        ------
        KeyError
            A tensor is missing.
        """
        own: dict[str, Any] = {field.name: state[field.name] for field in fields(cls) if field.name not in PARTS}
        for part, kind in PARTS.items():
            named = {field.name: f"{part}.{field.name}" for field in fields(kind)}
            there = part == "seen" or any(name in state for name in named.values())
            own[part] = kind(**{name: state[key] for name, key in named.items()}) if there else None
        return cls(**own)

    def distance(self, features: Tensor) -> Tensor:
        """Return the mean distance from the nearest training crystals, by translated features, [crystals]."""
        return nearest(features, self.known)

    def uncertainty(self, energy_scale: Tensor, distance: Tensor, chemistry: Chemistry) -> Tensor:
        """Return the half widths of the intervals at `LEVELS`, [crystals, 2] in eV/atom."""
        return sigma(self.scale, energy_scale, distance)[:, None] * self.quantiles[chemistry.classes]

    def reasons(self, chemistry: Chemistry, uncertainty: Tensor, distance: Tensor) -> list[str]:
        """Return why each crystal is out of domain; an empty text inside the domain.

        Parameters
        ----------
        chemistry : Chemistry
            Elements of the crystals.
        uncertainty : Tensor
            Output of `uncertainty`, [crystals, 2].
        distance : Tensor
            Output of `distance`, [crystals].
        """
        classes, sizes = chemistry.classes, chemistry.sizes
        least = (LEAST_SHARE * self.seen.sizes.sum()).clamp(max=FEWEST)
        counts = self.seen.elements[classes].masked_fill(~chemistry.present, torch.inf)
        number, element = counts.min(dim=1)
        alike = self.seen.sizes[sizes]
        outside = torch.stack([number < least, alike < least, uncertainty[:, 1] > self.widest, distance > self.limit])
        found = [""] * len(classes)
        for row in outside.any(dim=0).nonzero().flatten().tolist():
            found[row] = (
                f"{Element.from_Z(int(element[row])).symbol} in {number[row]:.0f} training {CLASS_NAMES[classes[row]]}",
                f"{sizes[row]} element{'s' if sizes[row] > 1 else ''} in {alike[row]:.0f} training crystals",
                WIDE,
                UNLIKE,
            )[int(outside[:, row].int().argmax())]
        return found


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


def class_quantiles(ratios: Tensor, weights: Tensor, classes: Tensor) -> Tensor:
    """Return conformal quantiles at `LEVELS` for each class, drawn to those of all classes, [6, 2].

    A class with n targets gets q_class^s q_all^(1 - s) with s = n / (n + `EQUAL`).

    Parameters
    ----------
    ratios, weights : Tensor
        Values and their weights, [n].
    classes : Tensor
        Class of each value, [n].
    """
    if not len(ratios):
        return torch.ones(len(CLASSES), len(LEVELS))
    pooled = torch.tensor([weighted_quantile(ratios, weights, level) for level in LEVELS])
    rows = []
    for index in range(len(CLASSES)):
        mine = classes == index
        own, number = pooled, float(weights[mine].sum())
        if number:
            own = torch.tensor([weighted_quantile(ratios[mine], weights[mine], level) for level in LEVELS])
        share = number / (number + EQUAL)
        rows.append(own**share * pooled ** (1 - share))
    return torch.stack(rows)
