"""Old pairs that a fine-tuning replays to keep old knowledge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Element

from cryslator_flows.training.evaluate import split
from cryslator_flows.training.prepare import TensorRow, pair_row, to_pairs
from cryslator_flows.training.records import PairRecord, UnrelaxedRecord, check_record, read_lines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryslator_flows.translator.loaded import LoadedModel

OldRecord = PairRecord | UnrelaxedRecord


def read_replay(path: Path) -> list[OldRecord]:
    """Return the old pairs of a ``.jsonl`` or ``.jsonl.gz`` file.

    Lines without `relaxed` are unrelaxed crystals alone.

    Raises
    ------
    DataError
        The file cannot be read or a record misses a field.
    """
    return [
        check_record(path, number, row, PairRecord)
        if isinstance(row, dict) and row.get("relaxed") is not None
        else check_record(path, number, row, UnrelaxedRecord)
        for number, row in read_lines(path)
    ]


def replay_rows(records: Sequence[OldRecord], base: LoadedModel, target: str) -> list[TensorRow]:
    """Return rows for `to_pairs`, in order.

    If a crystal has no relaxed structure, its translation by the base replaces it, as in Z. Li and D. Hoiem,
    "Learning without forgetting", IEEE TPAMI 40, 2935 (2018).

    Parameters
    ----------
    records : sequence
        The old pairs.
    base : LoadedModel
        The base of the fine-tuning.
    target : str
        Predicted column of the pairs. Translations have no number for another target than the base's.
    """
    alone = [record for record in records if isinstance(record, UnrelaxedRecord)]
    own = iter(_translations(alone, base, target) if alone else [])
    return [pair_row(record, target) if isinstance(record, PairRecord) else next(own) for record in records]


def _translations(records: list[UnrelaxedRecord], base: LoadedModel, target: str) -> list[TensorRow]:
    unrelaxed = [
        (
            np.array([Element(symbol).Z for symbol in record.species]),
            np.array(record.unrelaxed.lattice),
            np.array(record.unrelaxed.frac),
        )
        for record in records
    ]
    crystals = to_pairs(((*row, *row[1:], np.nan, True) for row in unrelaxed), np.float64).unrelaxed
    outcomes = [base.predict(batch) for batch in split(crystals)]
    cells = np.concatenate([outcome.translated.lattices.cpu().numpy() for outcome in outcomes])
    positions = np.concatenate([outcome.translated.frac.cpu().numpy() for outcome in outcomes])
    energies = np.concatenate([outcome.prediction.energy.cpu().numpy() for outcome in outcomes])
    if target != base.config.target:
        energies = np.full_like(energies, np.nan)
    relaxed = zip(cells, np.split(positions, np.cumsum(crystals.n_atoms)[:-1]), energies.tolist(), strict=True)
    return [(*row, *other, True) for row, other in zip(unrelaxed, relaxed, strict=True)]
