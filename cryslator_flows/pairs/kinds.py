"""Names of the kinds of sources of training pairs, and of the rules of the split."""

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


# Options of some kinds only.
OPTIONS = {
    "intermediates": (Kind.STORE, Kind.VASP, Kind.MPF),
    "max-per-target": (Kind.ISOSTRUCTURAL,),
    "project": (Kind.CAMPAIGN,),
}


class SplitRule(StrEnum):
    """Rule of the split into training, validation and test."""

    FORMULA = "formula"
    GIVEN = "given"
    NONE = "none"


@dataclass(frozen=True)
class ReaderOptions:
    """Options of some kinds of sources.

    Parameters
    ----------
    intermediates : int
        Number of ionic steps of a trajectory that are further unrelaxed crystals of its target.
    max_per_target : int
        Number of templates for each relaxed crystal.
    seed : int
        Decides between equally near templates; seed of the split.
    split : Split
        Rule of the split.
    scratch : Path
        Folder for results that a stopped reader continues from.
    report : callable
        Called with the stage of a reader that takes long before the first pair.
    """

    intermediates: int
    max_per_target: int
    seed: int
    split: SplitRule
    scratch: Path
    report: Callable[[str], None] = lambda _: None
