"""Chemistry of crystals as tensors: elements, class of compound and number of elements."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from pymatgen.core import Element
from torch import Tensor

from cryslator_flows.crystals.compound_classes import CLASSES
from cryslator_flows.translator.network import MAX_ATOMIC_NUMBER

if TYPE_CHECKING:
    from cryslator_flows.translator.graph import Crystals

# Crystals with so many elements or more are counted together.
MOST_ELEMENTS = 20


@dataclass(frozen=True)
class Chemistry:
    """Elements of some crystals.

    Parameters
    ----------
    present : Tensor
        True for the elements of each crystal, by atomic number, [crystals, 119].
    """

    present: Tensor

    @classmethod
    def of(cls, crystals: Crystals) -> Chemistry:
        """Return the chemistry of a batch."""
        numbers = crystals.numbers
        present = torch.zeros(len(crystals.n_atoms), MAX_ATOMIC_NUMBER + 1, dtype=torch.bool, device=numbers.device)
        present[crystals.owner, numbers] = True
        return cls(present)

    @property
    def classes(self) -> Tensor:
        """Position of each crystal's class in `CLASSES`, [crystals]."""
        anions = _anions().to(self.present.device)
        there = (self.present[:, None] & anions).any(dim=2)
        there[:, list(CLASSES).index("intermetallics")] = True
        return there.int().argmax(dim=1)

    @property
    def sizes(self) -> Tensor:
        """Number of elements of each crystal, at most `MOST_ELEMENTS`, [crystals]."""
        return self.present.sum(dim=1).clamp(max=MOST_ELEMENTS)


@cache
def _anions() -> Tensor:
    masks = torch.zeros(len(CLASSES), MAX_ATOMIC_NUMBER + 1, dtype=torch.bool)
    for row, symbols in zip(masks, CLASSES.values(), strict=True):
        row[[Element(symbol).Z for symbol in symbols]] = True
    return masks


@dataclass(frozen=True)
class Seen:
    """Numbers of training crystals by their chemistry.

    Parameters
    ----------
    elements : Tensor
        Crystals of each class with each element, by atomic number, [6, 119].
    sizes : Tensor
        Crystals by number of elements, [21].
    """

    elements: Tensor
    sizes: Tensor

    @classmethod
    def count(cls, crystals: Crystals) -> Seen:
        """Count some crystals."""
        chemistry = Chemistry.of(crystals)
        elements = torch.zeros(len(CLASSES), MAX_ATOMIC_NUMBER + 1)
        elements.index_add_(0, chemistry.classes.cpu(), chemistry.present.float().cpu())
        return cls(elements, torch.bincount(chemistry.sizes.cpu(), minlength=MOST_ELEMENTS + 1).float())

    def __add__(self, other: Seen) -> Seen:
        return Seen(self.elements + other.elements.to(self.elements), self.sizes + other.sizes.to(self.sizes))
