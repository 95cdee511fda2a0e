"""Old pairs that a fine-tuning replays to keep old knowledge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from pymatgen.core import Element

from cryslator_flows.training.evaluate import split
from cryslator_flows.training.prepare import TensorRow, pair_row
from cryslator_flows.training.records import PairRecord, UnrelaxedRecord, check_record, read_lines
from cryslator_flows.translator.graph import Crystals

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


def replay_rows(records: Sequence[OldRecord], base: LoadedModel) -> list[TensorRow]:
    """Return rows for `to_pairs`, in order.

    If a crystal has no relaxed structure, its translation by the base replaces it, as in Z. Li and D. Hoiem,
    "Learning without forgetting", IEEE TPAMI 40, 2935 (2018).

    Parameters
    ----------
    records : sequence
        The old pairs.
    base : LoadedModel
        The base of the fine-tuning.
    """
    alone = [record for record in records if isinstance(record, UnrelaxedRecord)]
    own = iter(_translations(alone, base) if alone else [])
    return [pair_row(record, base.config.target) if isinstance(record, PairRecord) else next(own) for record in records]


def _translations(records: list[UnrelaxedRecord], base: LoadedModel) -> list[TensorRow]:
    numbers = [np.array([Element(symbol).Z for symbol in record.species]) for record in records]
    lattices = [np.array(record.unrelaxed.lattice) for record in records]
    frac = [np.array(record.unrelaxed.frac) for record in records]
    crystals = Crystals(
        lattices=torch.from_numpy(np.stack(lattices)),
        frac=torch.from_numpy(np.concatenate(frac)),
        numbers=torch.from_numpy(np.concatenate(numbers)),
        n_atoms=torch.tensor([len(part) for part in numbers]),
    )
    outcomes = [base.predict(batch) for batch in split(crystals)]
    cells = np.concatenate([outcome.translated.lattices.cpu().numpy() for outcome in outcomes])
    positions = np.concatenate([outcome.translated.frac.cpu().numpy() for outcome in outcomes])
    ends = np.cumsum([len(part) for part in numbers])[:-1]
    energies = np.concatenate([outcome.prediction.energy.cpu().numpy() for outcome in outcomes])
    geometry = lattices, frac, cells, np.split(positions, ends)
    return [(*row, True) for row in zip(numbers, *geometry, energies.tolist(), strict=True)]
