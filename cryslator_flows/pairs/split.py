"""Share pairs out to training, validation and test so that no relative of a test crystal is trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryslator_flows.errors import DataError
from cryslator_flows.pairs.raw import Dropped
from cryslator_flows.translator.records import PairRecord
from cryslator_flows.translator.splits import HeldOut, split_by_formula

if TYPE_CHECKING:
    from collections.abc import Iterable

# The pairs of each part.
Parts = dict[str, list[PairRecord]]
PARTS = ("train", "val", "test")
SHARES = (0.8, 0.1, 0.1)
LEAKAGE = "leakage: target or template of a validation or test formula"


def split_records(records: Iterable[PairRecord], seed: int = 0) -> Parts:
    """All pairs of one reduced formula go to one part, see `split_by_formula`.

    Parameters
    ----------
    records : iterable of PairRecord
        The pairs.
    seed : int
        Another one gives another split.

    Returns
    -------
    dict
        The pairs of each part; all for training where there are fewer formulas than parts.
    """
    rows = list(records)
    if len({record.reduced_formula for record in rows}) < len(PARTS):
        return {"train": rows, "val": [], "test": []}
    split = split_by_formula(rows, SHARES, seed)
    return {part: getattr(split, part) for part in PARTS}


def split_as_given(records: Iterable[PairRecord]) -> tuple[Parts, list[Dropped]]:
    """The split that the source brings, in the column ``split``.

    Parameters
    ----------
    records : iterable of PairRecord
        The pairs.

    Returns
    -------
    tuple
        The pairs of each part, and what is in none.

    Raises
    ------
    DataError
        No pair has such a column.
    """
    parts: Parts = {part: [] for part in PARTS}
    dropped: list[Dropped] = []
    for record in records:
        value = (record.model_extra or {}).get("split")
        if value in PARTS:
            parts[value].append(record)
        else:
            dropped.append(Dropped(record.target, "in no split of the source"))
    if dropped and not any(parts.values()):
        raise DataError("--split given: the source brings no split into train, val and test; use --split formula")
    return parts, dropped


def drop_leakage(parts: Parts) -> tuple[Parts, list[Dropped]]:
    """Leave out the training pairs that tell of validation or test, by the rule of `HeldOut`.

    Parameters
    ----------
    parts : dict
        The pairs of each part.

    Returns
    -------
    tuple
        The same without those, and those.
    """
    held_out = HeldOut(parts["val"], parts["test"])
    kept = held_out.without_leaks(parts["train"])
    left_out = [record for record in parts["train"] if held_out.leak(record) is not None]
    return {**parts, "train": kept}, [Dropped(record.target, LEAKAGE) for record in left_out]
