"""Write pairs as files that models are trained from, and what they were made of."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from pydantic import BaseModel, Field

from cryslator_flows.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryslator_flows.pairs.raw import Dropped
    from cryslator_flows.pairs.split import Parts
    from cryslator_flows.translator.records import PairRecord

SUMMARY_FILE = "pairs.json"
DROPPED_FILE = "dropped.jsonl"
# A column that says what the files say.
SPLIT = "split"


class PartCounts(BaseModel):
    """What is in one file of pairs."""

    pairs: int = Field(description="Pairs in it")
    targets: int = Field(description="Relaxed crystals that they lead to")
    formulas: int = Field(description="Reduced formulas of these")
    formation_energies: int = Field(description="Pairs whose formation energy is known")
    energies: int = Field(description="Pairs whose energy by the engine is known")


class PairsSummary(BaseModel):
    """What a source held and what became of it; the file ``pairs.json``."""

    kind: str = Field(description="Kind of source")
    source: str = Field(description="Where it was read from")
    split: str = Field(description="How pairs were shared out: 'formula', 'given' or 'none'")
    seed: int = Field(description="Seed of the split")
    read: int = Field(description="What the source held: pairs, and what makes none")
    kept: int = Field(description="Pairs written")
    dropped: dict[str, int] = Field(description="How many were dropped for which reason, most frequent first")
    files: dict[str, PartCounts] = Field(description="What is in each file")
    elements_without_energy: list[str] = Field(
        default_factory=list, description="Elements of the pairs that the given energies of the elements lack"
    )


def check_owner(folder: Path, kind: str, source: str) -> None:
    """Keep pairs of one source from taking the place of another's.

    Raises
    ------
    StoreError
        The folder holds pairs of another source.
    """
    try:
        there = PairsSummary.model_validate_json((folder / SUMMARY_FILE).read_text())
    except (OSError, ValueError):
        return
    if (there.kind, there.source) != (kind, source):
        raise StoreError(
            f"{folder}: holds pairs of {there.kind} {there.source}; give another folder with --output, or remove it"
        )


def count_part(records: list[PairRecord]) -> PartCounts:
    """Count what is in one file of pairs."""
    return PartCounts(
        pairs=len(records),
        targets=len({record.target for record in records}),
        formulas=len({record.reduced_formula for record in records}),
        formation_energies=sum(record.formation_energy_per_atom is not None for record in records),
        energies=sum((record.model_extra or {}).get("energy_per_atom") is not None for record in records),
    )


def write_pairs(folder: Path, parts: Parts) -> dict[str, PartCounts]:
    """Write a file ``pairs-PART.jsonl.gz`` for each part, ``pairs.jsonl.gz`` for the part without a name.

    Each is written as a whole or not at all, and is the same again for the same pairs.

    Parameters
    ----------
    folder : Path
        Where to; made if missing.
    parts : dict
        The pairs of each part.

    Returns
    -------
    dict
        Name of each file and what is in it.

    Raises
    ------
    StoreError
        The folder cannot be written.
    """
    written = {}
    for part, records in parts.items():
        path = folder / (f"pairs-{part}.jsonl.gz" if part else "pairs.jsonl.gz")
        # Neither name nor time in the header.
        with _whole(path) as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as lines:
            for record in records:
                row = record.model_dump(exclude={SPLIT}, exclude_none=True)
                lines.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")
        written[path.name] = count_part(records)
    return written


def write_summary(folder: Path, summary: PairsSummary, dropped: list[Dropped]) -> None:
    """Write ``pairs.json``, and ``dropped.jsonl`` with name and reason of all that was dropped.

    Raises
    ------
    StoreError
        The folder cannot be written.
    """
    with _whole(folder / DROPPED_FILE) as file:
        for item in dropped:
            file.write(json.dumps({"name": item.name, "reason": item.reason}).encode() + b"\n")
    with _whole(folder / SUMMARY_FILE) as file:
        file.write(summary.model_dump_json(indent=2).encode() + b"\n")


def count_reasons(dropped: list[Dropped]) -> dict[str, int]:
    """How many were dropped for which reason, most frequent first."""
    counts = Counter(item.reason for item in dropped)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its place when all is written."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror}); choose another folder") from error
