"""Pairs of a fine-tuning: training, replay, validation and test."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cryslator_flows.errors import DataError
from cryslator_flows.training.records import PairRecord, read_records
from cryslator_flows.training.replay import OldRecord, read_replay
from cryslator_flows.training.splits import HeldOut, Split, read_split, split_by_formula

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from cryslator_flows.training.recipe import Recipe

# Share of the replay's formulas that are held back for validation if no old validation pairs are given.
HELD_BACK = 0.1


@dataclass(frozen=True)
class TuneData:
    """Pairs of a fine-tuning. Training and replay pairs have no leaks of validation or test pairs.

    Parameters
    ----------
    new : Split
        The new pairs.
    replay : list
        Old pairs, and old unrelaxed crystals alone, for training.
    old_val, old_test : list of PairRecord
        Old pairs for validation, beside the new ones, and old pairs to measure forgetting.
    left_out : int
        Number of training and replay pairs left out because of leaks.
    """

    new: Split
    replay: list[OldRecord]
    old_val: list[PairRecord]
    old_test: list[PairRecord]
    left_out: int

    def known(self, target: str) -> TuneData:
        """Return the data without the training and validation pairs that lack a number under `target`.

        Raises
        ------
        DataError
            The new pairs have no number under `target`.
        """

        def having(records: list[PairRecord]) -> list[PairRecord]:
            return [record for record in records if getattr(record, target, None) is not None]

        new = Split(having(self.new.train), having(self.new.val), self.new.test)
        if not (new.train or new.val):
            raise DataError(f"new pairs: no pair has a number under {target!r}, the target of the recipe")
        return replace(self, new=new, old_val=having(self.old_val))

    @classmethod
    def from_pairs(
        cls,
        pairs: Iterable[PairRecord] | Split,
        shares: Sequence[float] = (0.8, 0.2, 0),
        replay: Sequence[OldRecord] = (),
        old_val: Sequence[PairRecord] = (),
        old_test: Sequence[PairRecord] = (),
        seed: int = 0,
    ) -> TuneData:
        """Return the data of pairs in memory.

        Parameters
        ----------
        pairs : iterable of PairRecord or Split
            The new pairs. An iterable is split by the formula of the target.
        shares : sequence of float
            Shares of the formulas for training, validation and test.
        replay, old_val, old_test : sequence
            As the attributes. Without `old_val`, a tenth of the formulas of the replay is held back.
        seed : int
            Seed of the splits.

        Returns
        -------
        TuneData
            The data without training and replay pairs that are leaks.

        Raises
        ------
        DataError
            The pairs have too few formulas to split.
        """
        new = pairs if isinstance(pairs, Split) else split_by_formula(pairs, shares, seed)
        held = HeldOut([*new.val, *old_val], [*new.test, *old_test])
        train = held.without_leaks(new.train)
        kept = [record for record in replay if not isinstance(record, PairRecord) or held.leak(record) is None]
        left_out = len(new.train) - len(train) + len(replay) - len(kept)
        if not old_val:
            kept, old_val = _hold_back(kept, train, seed)
        return cls(Split(train, new.val, new.test), kept, [*old_val], [*old_test], left_out)

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> TuneData:
        """Read the files of a recipe.

        Raises
        ------
        DataError
            A file cannot be read or has a wrong record. The formulas are too few to split, or a line of ``train``
            leaks a validation or test pair.
        """
        new, tune = read_split(recipe), recipe.tune

        def read(path: Path | None) -> list[PairRecord]:
            return [] if path is None else [*read_records(path, PairRecord)]

        old_val, old_test = read(tune.old_val), read(tune.old_test)
        held = HeldOut([*new.val, *old_val], [*new.test, *old_test])
        if any(map(held.leak, new.train)):
            for path in recipe.train:
                held.refuse_leaks(path)
        replay = [] if tune.replay is None else read_replay(tune.replay)
        return cls.from_pairs(new, replay=replay, old_val=old_val, old_test=old_test, seed=tune.seed)


def _hold_back(replay: list[OldRecord], train: list[PairRecord], seed: int) -> tuple[list[OldRecord], list[PairRecord]]:
    """Move the pairs with formulas that the new training pairs lack from a replay to validation."""
    known = {record.reduced_formula for record in train}
    free = [record for record in replay if isinstance(record, PairRecord) and record.reduced_formula not in known]
    if len({record.reduced_formula for record in free}) < 2:
        return replay, []
    held = split_by_formula(free, (1 - HELD_BACK, HELD_BACK, 0), seed).val
    formulas = {record.reduced_formula for record in held}
    return [
        record for record in replay if not isinstance(record, PairRecord) or record.reduced_formula not in formulas
    ], held
