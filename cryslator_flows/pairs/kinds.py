"""Names of the kinds of sources of training pairs, and of the rules of the split."""

from __future__ import annotations

from enum import StrEnum


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
