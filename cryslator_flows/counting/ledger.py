"""A folder beside the runs that remembers what each of them spent, also when its own folder is gone.

``jf job rerun`` deletes the folder of a failed job with all that tells its steps, and a job that fails leaves no
document. So each run appends what it has spent so far to a ledger outside its folder. The ledger has a file for each
candidate, so that counting one reads its own runs only: JSON lines, the last one of a run being its state.
"""

from __future__ import annotations

import logging
import os
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from pydantic import BaseModel, Field, ValidationError

from cryslator_flows.counting.attempt import sum_costs
from cryslator_flows.documents.relaxations import RelaxationCost, Start
from cryslator_flows.errors import CountingError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

logger = logging.getLogger(__name__)

LEDGER_NAME = "cryslator_ledger"


class LedgerEntry(BaseModel):
    """What one run has spent, at one moment."""

    run_id: str = Field(description="One folder in which one job ran; a rerun in a new folder is another run")
    campaign: str = Field(description="Name of the campaign")
    candidate_id: str = Field(description="The candidate")
    start: Start = Field(description="Which structure the relaxation started from")
    job_uuid: str | None = Field(None, description="The job of jobflow")
    directory: str = Field(description="Folder of the run, which may be gone")
    time: datetime = Field(description="When this was written")
    ended: bool = Field(description="Whether the last attempt had ended; else it may have spent more since")
    cost: RelaxationCost | None = Field(None, description="What all attempts have spent; the last that was known")
    error: str | None = Field(None, description="Why the steps could not be counted; then cost may lack some")


def append_entry(path: Path, entry: LedgerEntry) -> None:
    """Append an entry to the file of its candidate, safely while other processes do.

    The line goes out in a single write to a file opened for appending, which the operating system keeps whole. NFS
    does not: there give each node a ledger of its own.

    Parameters
    ----------
    path : Path
        The ledger; made if missing.
    entry : LedgerEntry
        What to append.

    Raises
    ------
    OSError
        It could not be written, or not whole.
    """
    path.mkdir(parents=True, exist_ok=True)
    file = _candidate_file(path, entry.candidate_id)
    # The line break in front sets the line apart from one that a full disk or a crash has cut.
    line = f"\n{entry.model_dump_json(include=set(LedgerEntry.model_fields))}\n".encode()
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        written = os.write(handle, line)
    finally:
        os.close(handle)
    if written != len(line):
        raise OSError(f"{file}: only {written} of {len(line)} bytes written; is the disk full?")


def read_ledger(path: Path) -> list[LedgerEntry]:
    """Read the last state of each run.

    Parameters
    ----------
    path : Path
        The ledger.

    Returns
    -------
    list of LedgerEntry
        One for each run; those of a candidate in the order of their first lines. A line that was cut is skipped with
        a warning: the run's other lines stand.

    Raises
    ------
    CountingError
        There is no ledger.
    """
    files = sorted(path.glob("*.jsonl"))
    if not files:
        raise CountingError(f"{path}: no ledger; set CRYSLATOR_LEDGER for the runs, or give the folder it names")
    return _read(files)


def _candidate_file(path: Path, candidate_id: str) -> Path:
    return path / f"{quote(candidate_id, safe='')}.jsonl"


def _read(files: Iterable[Path]) -> list[LedgerEntry]:
    entries: dict[str, LedgerEntry] = {}
    for file in files:
        for number, line in enumerate(file.read_bytes().splitlines(), start=1):
            if not line.strip():
                continue
            try:
                entry = LedgerEntry.model_validate_json(line)
            except ValidationError:
                logger.warning("%s: line %s is not a ledger entry; skipped", file, number)
                continue
            entries[entry.run_id] = entry
    return list(entries.values())


def ledger_cost(path: Path, campaign: str, candidate_id: str, start: Start) -> RelaxationCost | None:
    """What all runs of one candidate from one start spent: jobs of a double relaxation, failed ones and their reruns.

    Parameters
    ----------
    path : Path
        The ledger.
    campaign : str
        Name of the campaign.
    candidate_id : str
        The candidate.
    start : str
        Which structure the relaxations started from.

    Returns
    -------
    RelaxationCost or None
        The sum, in the order the runs last wrote; None without any run. Steps are unknown (None) if those of a run
        could not be counted. A run that was killed counts as it was last seen by its recorder.
    """
    file = _candidate_file(path, candidate_id)
    entries = [
        entry
        for entry in _read([file] if file.is_file() else [])
        if (entry.campaign, entry.candidate_id, entry.start) == (campaign, candidate_id, start)
    ]
    costs = [
        entry.cost if entry.cost and entry.error is None else RelaxationCost(engine="unknown")
        for entry in sorted(entries, key=lambda entry: entry.time)
    ]
    return sum_costs(costs) if costs else None
