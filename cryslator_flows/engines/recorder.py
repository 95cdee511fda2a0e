"""Recorder of the steps of a VASP run, while it runs."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from custodian.custodian import ErrorHandler
from jobflow import CURRENT_JOB
from pydantic import Field

from cryslator_flows.counting.attempt import Attempt, sum_attempts
from cryslator_flows.counting.count import read_guard
from cryslator_flows.counting.ledger import LEDGER_NAME, LedgerEntry, append_entry
from cryslator_flows.counting.vasp_directory import Memory, read_attempts
from cryslator_flows.engines.gpaw import GpawRelaxMaker
from cryslator_flows.engines.handlers import add_handlers, update_vasp_makers
from cryslator_flows.settings import SETTINGS
from cryslator_flows.system.whole_files import write_whole

if TYPE_CHECKING:
    from atomate2.vasp.jobs.base import BaseVaspMaker
    from jobflow import Maker

    from cryslator_flows.documents.relaxations import Start

logger = logging.getLogger(__name__)

RECORD_NAME = "cryslator_cost.json"


class RunRecord(LedgerEntry):
    """The recorder's state of a run, kept in the folder of the run."""

    attempts: list[Attempt] = Field(description="All attempts that were seen, also those whose files are gone")


class StepRecorder(ErrorHandler):
    """A handler that counts the steps of a VASP run at every poll of custodian, and never finds an error.

    The count goes to ``cryslator_cost.json`` in the folder of the run, which emmet copies to the ``additional_json`` of
    the TaskDoc. It also goes to a ledger outside the folder: ``CRYSLATOR_LEDGER``, else ``cryslator_ledger``
    beside the folder. Set ``CRYSLATOR_LEDGER`` if custodian runs in a scratch directory. A seen attempt stays counted,
    even if a handler restarts VASP without an archive or a stopped job restarts in the same folder. Errors of the
    recorder itself are logged and stop nothing.

    Custodian does not call monitors again after one of them has ended an attempt. So use it with `FinalStepRecorder`.

    Parameters
    ----------
    campaign : str
        Name of the campaign.
    candidate_id : str
        The candidate.
    start : str
        The structure from which the relaxation starts.
    """

    is_monitor = True
    ended = False

    def __init__(self, campaign: str, candidate_id: str, start: Start) -> None:
        self.campaign = campaign
        self.candidate_id = candidate_id
        self.start = start

    @cached_property
    def _memory(self) -> Memory:
        return Memory()

    def check(self, directory: str = "./") -> bool:
        """Record the cost so far and return False."""
        try:
            self._record(Path(directory).resolve())
        except Exception:
            logger.exception("steps in %s were not recorded", directory)
        return False

    def correct(self, directory: str = "./") -> dict[str, Any]:
        """Raise, since there is never an error to correct."""
        raise NotImplementedError(f"{type(self).__name__} finds no errors in {directory}")

    def _record(self, directory: Path) -> None:
        previous = _read_record(directory / RECORD_NAME)
        record = self._count(directory, previous)
        # Before the first finished electronic step the cost is zero.
        if record.error is None and not any(attempt.electronic_steps for attempt in record.attempts):
            return
        if previous is not None and previous.model_copy(update={"time": record.time}) == record:
            return
        write_whole(directory / RECORD_NAME, record.model_dump_json(indent=1))
        append_entry(SETTINGS.ledger or directory.parent / LEDGER_NAME, record)

    def _count(self, directory: Path, previous: RunRecord | None) -> RunRecord:
        job = CURRENT_JOB.job
        record = RunRecord(
            run_id=previous.run_id if previous else str(uuid4()),
            campaign=self.campaign,
            candidate_id=self.candidate_id,
            start=self.start,
            job_uuid=job.uuid if job is not None else None,
            directory=str(directory),
            time=datetime.now(UTC),
            ended=self.ended,
            cost=previous.cost if previous else None,
            attempts=previous.attempts if previous else [],
        )
        try:
            present = read_attempts(directory, self._memory)
            attempts = [*_gone(record.attempts, present), *present]
            cost = sum_attempts(attempts, engine="VASP", dir_name=str(directory), guard=read_guard(directory))
        except Exception as error:
            # Perhaps the files have changed since they were read, so they are read again the next time.
            self._memory = Memory()
            return record.model_copy(update={"error": f"{type(error).__name__}: {error}"})
        return record.model_copy(update={"attempts": attempts, "cost": cost})


class FinalStepRecorder(StepRecorder):
    """A `StepRecorder` that custodian calls after each attempt, successful or not."""

    is_monitor = False
    ended = True


def _gone(seen: list[Attempt], present: list[Attempt]) -> list[Attempt]:
    """List the seen attempts whose files were overwritten since."""
    return [
        attempt.model_copy(update={"discarded": True})
        for attempt in seen
        if not any(_is_later(other, attempt) for other in present)
    ]


def _is_later(attempt: Attempt, seen: Attempt) -> bool:
    """Check that an attempt is a later state of the seen attempt."""
    if attempt.attempt_id and seen.attempt_id:
        return attempt.attempt_id == seen.attempt_id
    *whole, last = seen.electronic_steps or [0]
    *same, now = attempt.electronic_steps[: len(whole) + 1] or [0]
    return same == whole and now >= last


def _read_record(path: Path) -> RunRecord | None:
    return RunRecord.model_validate_json(path.read_bytes()) if path.is_file() else None


def record_relax_maker(maker: Maker, campaign: str, candidate_id: str, start: Start) -> Maker:
    """Let every VASP maker inside a maker, or a GPAW maker, record its steps with the candidate.

    Parameters
    ----------
    maker : Maker
        Any maker.
    campaign : str
        Name of the campaign.
    candidate_id : str
        The candidate.
    start : str
        The structure from which the relaxation starts.

    Returns
    -------
    Maker
        A copy whose VASP makers have `StepRecorder` and `FinalStepRecorder` before their other handlers. They write
        campaign, candidate and start to ``cryslator.json``, which is ``cryslator`` in the ``additional_json`` of the
        TaskDoc. `GpawRelaxMaker` writes to the ledger when it ends. Other makers are returned as they are.
    """
    provenance = {"campaign": campaign, "candidate_id": candidate_id, "start": start}
    if isinstance(maker, GpawRelaxMaker):
        return replace(maker, provenance=provenance)

    def label(vasp_maker: BaseVaspMaker) -> BaseVaspMaker:
        additional = {**vasp_maker.write_additional_data, "cryslator:json": provenance}
        return replace(vasp_maker, write_additional_data=additional)

    recorders = [StepRecorder(campaign, candidate_id, start), FinalStepRecorder(campaign, candidate_id, start)]
    return add_handlers(update_vasp_makers(maker, label), recorders)
