"""Split of pairs by formula into training, validation and test, without leaks between them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from pymatgen.core import Composition

from cryslator_flows.errors import DataError
from cryslator_flows.training.records import PairRecord, check_record, read_lines, read_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from cryslator_flows.training.recipe import Recipe, SplitBy


PARTS = "train", "val", "test"
SHARES = (0.8, 0.1, 0.1)


@dataclass(frozen=True)
class Split:
    """Pairs for training, validation and test.

    Parameters
    ----------
    train, val, test : list of PairRecord
        The three parts.
    """

    train: list[PairRecord]
    val: list[PairRecord]
    test: list[PairRecord]


def place_of(formula: str, seed: int) -> float:
    """Return a number from 0 to 1 that depends only on a formula and a seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{formula}".encode()).digest()[:8], "big") / 2**64


def split_by_formula(
    records: Iterable[PairRecord], shares: Sequence[float], seed: int = 0, source: str = "pairs"
) -> Split:
    """Split pairs by the reduced formula of their target.

    The part of a formula depends only on the formula, so it does not change when pairs are added. The one exception:
    the nearest formula moves to a part that would be empty.

    Parameters
    ----------
    records : iterable of PairRecord
        The pairs.
    shares : sequence of float
        Shares of the formulas for training, validation and test.
    seed : int
        Seed of the split.
    source : str
        Name of the pairs in an error.

    Returns
    -------
    Split
        Parts with at least one formula each if their share is not zero.

    Raises
    ------
    DataError
        The pairs have fewer formulas than parts.
    """
    by_formula: dict[str, list[PairRecord]] = {}
    for record in records:
        by_formula.setdefault(record.reduced_formula, []).append(record)
    parts: dict[str, list[PairRecord]] = {part: [] for part in PARTS}
    for formula, part in parts_of_formulas(by_formula, shares, seed, source).items():
        parts[part] += by_formula[formula]
    return Split(**parts)


def parts_of_formulas(
    formulas: Iterable[str], shares: Sequence[float], seed: int = 0, source: str = "pairs"
) -> dict[str, str]:
    """Return the part of each reduced formula: train, val or test; see `split_by_formula`.

    Raises
    ------
    DataError
        The pairs have fewer formulas than parts.
    """
    order = sorted(set(formulas), key=lambda formula: place_of(formula, seed))
    needed = sum(share > 0 for share in shares)
    if not order:
        raise DataError(f"{source}: no pairs in it; give a file with at least one")
    if len(order) < needed:
        raise DataError(
            f"{source}: {len(order)} formulas for {needed} parts, shares {list(shares)}; give pairs of at least "
            f"{needed} formulas, or name files of your own under train, val and test"
        )
    _, val, test = (share / sum(shares) for share in shares)
    places = [place_of(formula, seed) for formula in order]
    n_val = max(sum(place < val for place in places), int(val > 0))
    n_test = max(sum(place >= 1 - test for place in places), int(test > 0))
    while n_val + n_test >= len(order):
        n_val, n_test = (n_val - 1, n_test) if n_val > n_test else (n_val, n_test - 1)
    n_train = len(order) - n_val - n_test
    return dict(zip(order, ["val"] * n_val + ["train"] * n_train + ["test"] * n_test, strict=True))


def share_out(formulas: Iterable[str], seed: int = 0) -> dict[str, str]:
    """Return the part of each reduced formula by `SHARES`; all are for training if they are fewer than the parts."""
    distinct = set(formulas)
    if len(distinct) < len(PARTS):
        return dict.fromkeys(distinct, "train")
    return parts_of_formulas(distinct, SHARES, seed)


def read_split(recipe: Recipe) -> Split:
    """Read the pairs of a recipe.

    Raises
    ------
    DataError
        A file cannot be read, holds a wrong record or too few pairs.
    """
    if recipe.pairs is not None:
        return split_by_formula(read_records(recipe.pairs, PairRecord), recipe.shares, source=str(recipe.pairs))
    train, val, test = (read_part(getattr(recipe, part), part) for part in PARTS)
    for files, records in ((recipe.train, train), (recipe.val, val)):
        if not records:
            raise DataError(f"{', '.join(map(str, files))}: no pairs in it; give a file with at least one")
    return Split(train, val, test)


def read_training(recipe: Recipe) -> tuple[Split, int]:
    """Read the pairs of a recipe for training.

    Returns
    -------
    Split, int
        The pairs without leaks of validation or test pairs, and the number of pairs left out because of leaks.

    Raises
    ------
    DataError
        A file cannot be read, has a wrong record or too few pairs, or a line of ``train`` leaks a validation or test
        pair.
    """
    parts = read_split(recipe)
    held = HeldOut(parts.val, parts.test, recipe.split_by)
    train = held.without_leaks(parts.train)
    left_out = len(parts.train) - len(train)
    if left_out:
        for path in recipe.train:
            held.refuse_leaks(path)
    if not train:
        raise DataError(f"{recipe.pairs}: every training pair leaks a validation or test pair; give more pairs")
    return replace(parts, train=train), left_out


def read_tests(recipe: Recipe) -> dict[str, list[PairRecord]]:
    """Return the test pairs of each file of a recipe, by file name without suffixes."""
    if recipe.pairs is not None:
        return {"": read_split(recipe).test}
    return {path.name.partition(".")[0]: read_part([path], "test") for path in recipe.test}


def read_part(files: Iterable[Path], part: str) -> list[PairRecord]:
    """Return the pairs of some files. If rows have a column ``split``, only rows of this part are returned.

    Raises
    ------
    DataError
        A file cannot be read or holds a wrong record.
    """
    return [record for path in files for record in read_records(path, PairRecord) if _is_of(record, part)]


def _is_of(record: PairRecord, part: str) -> bool:
    return (record.model_extra or {}).get("split", part) == part


@lru_cache(maxsize=10_000)
def _reduced(formula: str) -> str:
    """Return the reduced formula, or the text itself if it is not a formula."""
    try:
        return str(Composition(formula).reduced_formula)
    except ValueError:
        return formula


class HeldOut:
    """Validation and test pairs, which training must not see.

    Parameters
    ----------
    val, test : iterable of PairRecord
        Pairs for validation and for test.
    by : str
        Kind of items that must not be shared, see `Recipe.split_by`.
    """

    def __init__(self, val: Iterable[PairRecord], test: Iterable[PairRecord], by: SplitBy = "formula") -> None:
        self.by = by
        self.formulas: dict[str, str] = {}
        self.targets: dict[str, str] = {}
        for part, records in (("validation", val), ("test", test)):
            for record in records:
                if by == "formula":
                    self.formulas[record.reduced_formula] = part
                self.targets[record.target] = part

    def leak(self, record: PairRecord) -> str | None:
        """Return the reason why a training pair leaks a validation or test pair; None without a leak.

        A leak is a target or a template with the formula of a validation or test pair, see `template_leak`.
        """
        formula = record.reduced_formula
        if part := self.formulas.get(formula):
            return f"target's formula {formula} is one of the {part} pairs"
        if self.by == "crystal" and (part := self.targets.get(record.target)):
            return f"target {record.target} is one of the {part} pairs"
        return self.template_leak(record)

    def template_leak(self, record: PairRecord) -> str | None:
        """Return the reason why the template of a training pair is a leak; None without a leak.

        A leak is a template that is a validation or test crystal, or has the formula of one. The unrelaxed crystal is
        made from the template's cell, not rescaled. Formulas are compared in reduced form.
        """
        columns = record.model_extra or {}
        if part := self.targets.get(columns.get("template", "")):
            return f"template {columns['template']} is a target of the {part} pairs"
        if part := self.formulas.get(_reduced(str(columns.get("template_formula", "")))):
            return f"template_formula {columns['template_formula']} is a target of the {part} pairs"
        return None

    def without_leaks(self, records: Iterable[PairRecord]) -> list[PairRecord]:
        """Return the pairs without leaks."""
        return [record for record in records if self.leak(record) is None]

    def refuse_leaks(self, path: Path) -> None:
        """Check that the training pairs of a file have no leaks.

        Raises
        ------
        DataError
            A pair is a leak. The message names its line.
        """
        leaks = []
        for number, row in read_lines(path):
            record = check_record(path, number, row, PairRecord)
            if _is_of(record, "train") and (reason := self.leak(record)):
                leaks.append((number, reason))
        if leaks:
            (number, reason), more = leaks[0], len(leaks) - 1
            raise DataError(
                f"{path}, line {number}: the {reason}{f', and so for {more} more pairs' if more else ''}; remove the "
                "pair, name one file as `pairs` to have it split by formula, or make the files with `cryslator pairs`"
            )
