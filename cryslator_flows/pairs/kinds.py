"""The kinds of sources that training pairs are made from, and how pairs are shared out. Names only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """A kind of source."""

    CAMPAIGN = "campaign"


class Split(StrEnum):
    """How pairs are shared out to training, validation and test."""

    FORMULA = "formula"
    GIVEN = "given"
    NONE = "none"


@dataclass(frozen=True)
class ReaderOptions:
    """What some kinds of sources may be asked for.

    Parameters
    ----------
    intermediates : int
        How many ionic steps of a trajectory are further unrelaxed crystals of its target.
    max_per_target : int
        How many templates a relaxed crystal is paired with.
    seed : int
        Decides between equally near templates.
    """

    intermediates: int = 0
    max_per_target: int = 4
    seed: int = 0
