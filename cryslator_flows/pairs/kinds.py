"""The kinds of sources that training pairs are made from, and how pairs are shared out. Names only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Kind(StrEnum):
    """A kind of source."""

    CAMPAIGN = "campaign"
    STORE = "store"
    VASP = "vasp"
    ISOSTRUCTURAL = "isostructural"
    XMNO = "xmno"
    DEEPRELAX = "deeprelax"
    MPF = "mpf"


# Options that are for some kinds only.
OPTIONS = {
    "intermediates": (Kind.STORE, Kind.VASP, Kind.MPF),
    "max-per-target": (Kind.ISOSTRUCTURAL,),
    "project": (Kind.CAMPAIGN,),
}


class SplitRule(StrEnum):
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
        Decides between equally near templates; seed of the split.
    split : Split
        How pairs will be shared out.
    scratch : Path
        Folder for what a reader wants to find again when it was stopped.
    report : callable
        Called with what a reader is at, where it takes long before the first pair.
    """

    intermediates: int
    max_per_target: int
    seed: int
    split: SplitRule
    scratch: Path
    report: Callable[[str], None] = lambda _: None
