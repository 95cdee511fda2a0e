"""Share pairs out to training, validation and test so that no relative of a test crystal is trained on."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

from pymatgen.core import Composition

from cryslator_flows.errors import DataError
from cryslator_flows.pairs.raw import Dropped
from cryslator_flows.translator.records import PairRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

# The pairs of each part.
Parts = dict[str, list[PairRecord]]
PARTS = ("train", "val", "test")
VAL_SHARE = TEST_SHARE = 0.1
LEAKAGE = "leakage: made from a template of a validation or test formula"


def formula_of(record: PairRecord) -> str:
    """Reduced formula of a pair."""
    return str(Composition(dict(Counter(record.species))).reduced_formula)


def split_by_formula(records: Iterable[PairRecord], seed: int = 0) -> Parts:
    """All pairs of one reduced formula go to one part: 0.8 of the formulas to train, 0.1 each to val and test.

    A hash of seed and formula decides, so that a formula stays where it is when more pairs come. Only where a part
    would be empty a formula of the largest one is moved there.

    Parameters
    ----------
    records : iterable of PairRecord
        The pairs.
    seed : int
        Another one gives another split.

    Returns
    -------
    dict
        The pairs of each part, in their order.
    """
    by_formula: dict[str, list[PairRecord]] = {}
    for record in records:
        by_formula.setdefault(formula_of(record), []).append(record)
    draws = {formula: _draw(formula, seed) for formula in by_formula}
    part_of: dict[str, str] = {
        formula: "test" if draw < TEST_SHARE else "val" if draw < TEST_SHARE + VAL_SHARE else "train"
        for formula, draw in draws.items()
    }
    for part in PARTS:
        sizes = Counter(part_of.values())
        largest = max(PARTS, key=lambda name: sizes[name])
        # Train comes first, and may take the only one.
        if not sizes[part] and sizes[largest] > (part != "train"):
            part_of[min((name for name in part_of if part_of[name] == largest), key=draws.__getitem__)] = part
    parts: Parts = {part: [] for part in PARTS}
    for formula, rows in by_formula.items():
        parts[part_of[formula]].extend(rows)
    return parts


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
    """Leave out training pairs whose template has a formula that is validated or tested on.

    Parameters
    ----------
    parts : dict
        The pairs of each part; the template is known by the column ``template_formula``.

    Returns
    -------
    tuple
        The same without those, and those.
    """
    held_out = {formula_of(record) for part in ("val", "test") for record in parts[part]}
    kept = [record for record in parts["train"] if _template(record) not in held_out]
    left_out = [record for record in parts["train"] if _template(record) in held_out]
    return {**parts, "train": kept}, [Dropped(record.target, LEAKAGE) for record in left_out]


def _draw(formula: str, seed: int) -> float:
    """Number in [0, 1) that a formula keeps."""
    digest = hashlib.sha256(f"{seed} {formula}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _template(record: PairRecord) -> str | None:
    formula = (record.model_extra or {}).get("template_formula")
    return None if formula is None else str(Composition(formula).reduced_formula)
