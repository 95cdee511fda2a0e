"""Split of pairs into training, validation and test, in which no relative of a test crystal is a training pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryslator_flows.training.splits import PARTS, parts_of_formulas

if TYPE_CHECKING:
    from collections.abc import Iterable

SHARES = (0.8, 0.1, 0.1)
LEAKAGE = "leakage: made from a template of a validation or test formula"
NO_PART = "in no split of the source"


def share_out(formulas: Iterable[str], seed: int = 0) -> dict[str, str]:
    """Return the part of each reduced formula, see `parts_of_formulas`.

    Parameters
    ----------
    formulas : iterable of str
        The reduced formulas of the targets.
    seed : int
        Seed of the split.

    Returns
    -------
    dict
        Formula to part; all are for training if there are fewer formulas than parts.
    """
    distinct = set(formulas)
    if len(distinct) < len(PARTS):
        return dict.fromkeys(distinct, "train")
    return parts_of_formulas(distinct, SHARES, seed)
