"""A folder beside the runs with the cost of each run, also of a run whose folder is gone.

A job that fails leaves no document, and ``jf job rerun`` deletes its folder. So each run appends its cost so far to a
ledger outside its folder. The ledger has a file of JSON lines for each candidate. The last line of a run is its state.
"""

from __future__ import annotations

import json
import logging
import os
import re
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from pydantic import BaseModel, Field, ValidationError

from cryslator_flows.counting.attempt import sum_costs
from cryslator_flows.documents.relaxations import RelaxationCost, Start

logger = logging.getLogger(__name__)

LEDGER_NAME = "cryslator_ledger"
# Keys that identify the run of a line, also in the whole part of a cut line.
_IDENTITY = re.compile(r'"(run_id|campaign|candidate_id|start)":("(?:[^"\\]|\\.)*")')


class LedgerEntry(BaseModel):
    """The cost of one run at one moment."""

    run_id: str = Field(description="One folder in which one job ran; a rerun in a new folder is another run")
    campaign: str = Field(description="Name of the campaign")
    candidate_id: str = Field(description="The candidate")
    start: Start = Field(description="Structure from which the relaxation started")
    job_uuid: str | None = Field(None, description="The job of jobflow")
    directory: str = Field(description="Folder of the run; it may be gone")
    time: datetime = Field(description="Time of writing")
    ended: bool = Field(description="True if the last attempt had ended; else it may have spent more since")
    cost: RelaxationCost | None = Field(None, description="Last known cost of all attempts")
    error: str | None = Field(None, description="Reason why steps could not be counted; cost then may lack some")


def append_entry(path: Path | str, entry: LedgerEntry) -> None:
    """Append an entry to the file of its candidate, safely while other processes append too.

    The line goes out in a single write to a file opened for appending. The operating system keeps such a line whole.
    NFS does not: there give each node a separate ledger.

    Parameters
    ----------
    path : Path or str
        The ledger; it is made if missing.
    entry : LedgerEntry
        The entry to append.

    Raises
    ------
    OSError
        The line could not be written, or only a part of it.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    file = _candidate_file(path, entry.candidate_id)
    # The line break in front separates the line from a line that a full disk or a crash has cut.
    line = f"\n{entry.model_dump_json(include=set(LedgerEntry.model_fields))}\n".encode()
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        written = os.write(handle, line)
    finally:
        os.close(handle)
    if written != len(line):
        raise OSError(f"{file}: only {written} of {len(line)} bytes written; check that the disk has space")


def _candidate_file(path: Path, candidate_id: str) -> Path:
    return path / f"{quote(candidate_id, safe='')}.jsonl"


def _read(file: Path) -> tuple[list[LedgerEntry], list[dict[str, str]]]:
    """Read the last states of runs, and the known keys of each cut line that no later line replaces."""
    entries: dict[str, LedgerEntry] = {}
    cut: list[dict[str, str]] = []
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = LedgerEntry.model_validate_json(line)
        except ValidationError:
            logger.warning(
                "%s: line %s is cut; steps that it may have counted are unknown until a later line of the same run, or "
                "until you remove the line",
                file,
                number,
            )
            cut.append(dict(_decoded(line)))
            continue
        cut = [known for known in cut if known.get("run_id") != entry.run_id]
        entries[entry.run_id] = entry
    return list(entries.values()), cut


def _decoded(line: bytes) -> list[tuple[str, str]]:
    return [(key, json.loads(value)) for key, value in _IDENTITY.findall(line.decode(errors="replace"))]


def ledger_cost(path: Path | str, campaign: str, candidate_id: str, start: Start) -> RelaxationCost | None:
    """Sum the cost of all runs of one candidate from one start.

    Jobs of a double relaxation, failed jobs and their reruns count.

    Parameters
    ----------
    path : Path or str
        The ledger.
    campaign : str
        Name of the campaign.
    candidate_id : str
        The candidate.
    start : str
        The structure from which the relaxations started.

    Returns
    -------
    RelaxationCost or None
        The sum in the order of the runs' last lines; None without a run. Steps are unknown (None) if the steps of one
        run could not be counted, or if a cut line may be of these runs. A killed run counts as its recorder last saw
        it.
    """
    wanted = {"campaign": campaign, "candidate_id": candidate_id, "start": start}
    file = _candidate_file(Path(path), candidate_id)
    found, cut = _read(file) if file.is_file() else ([], [])
    entries = [entry for entry in found if entry.model_dump(include={*wanted}) == wanted]
    costs = [
        entry.cost if entry.cost and entry.error is None else RelaxationCost(engine="unknown")
        for entry in sorted(entries, key=lambda entry: entry.time)
    ]
    if any(all(line.get(key, value) == value for key, value in wanted.items()) for line in cut):
        costs.append(RelaxationCost(engine=costs[-1].engine if costs else "unknown"))
    return sum_costs(costs) if costs else None
