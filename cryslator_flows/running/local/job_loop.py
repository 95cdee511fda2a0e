"""The loop that runs a flow on this machine, one job after the other, and resumes it after any stop."""

from __future__ import annotations

import json
import logging
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jobflow import Flow, Job, JobStore, OnMissing
from monty.json import MontyDecoder, MontyEncoder

from cryslator_flows.errors import CryslatorError, StoreError
from cryslator_flows.running.local.journal import JobEntry, JobRow, Journal, other_flow, outline, with_uuids
from cryslator_flows.running.local.one_job import Failure, Made, call_here, call_job
from cryslator_flows.running.stage_stop import StageStops
from cryslator_flows.system.processes import ProcessKilledError, run_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from maggma.core import Store

logger = logging.getLogger(__name__)

Happening = Literal["queued", "started", "reused", "done", "failed", "skipped"]
# A job has failed when a process has died of it twice.
DEATHS = 2
KILLED = "killed: the process died twice while this job ran, perhaps out of memory; run it again with more memory"


@dataclass(frozen=True)
class _Turn:
    """A job that waits for its turn.

    Parameters
    ----------
    job : Job
        The job.
    parents : list of str
        Uuids of the jobs that must end before, with all jobs that they made.
    makers : tuple of str
        Uuids of the jobs that made this job, outermost first.
    """

    job: Job
    parents: list[str]
    makers: tuple[str, ...]

    @property
    def entry(self) -> str:
        return f"{self.job.uuid}:{self.job.index}"


@dataclass
class LocalRun:
    """Runner of a flow like `jobflow.run_locally`, with a journal from which a stopped run continues.

    The journal holds data and no functions: the jobs, their starts and their ends. To continue, give the same flow
    again. A job that ended does not run again, unless jobs that it made must still run. Then it makes them again from
    the same inputs, and they get their former uuids. A job whose function takes ``made`` gets its stored output there.
    A flow with other jobs than the journal is refused.

    A job fails alone: only jobs that require its output are skipped. A failed job of a single candidate stays failed,
    and its comparison records it. The next run repeats any other failed job, with all later jobs. If the process
    died during a job of a candidate, this job runs once more in another process, after all other jobs that can run. If
    this process dies too, the job has failed, and the run continues.

    A stage whose first jobs all fail for one reason stops, see `StageStops`. The next run starts its candidates again.

    Parameters
    ----------
    job_store : JobStore
        Store of the outputs; another process must be able to open it.
    journal : Store
        Store of the journal, keyed by ``entry``.
    root_dir : Path
        Folder in which every job runs in a separate folder; the job's printed text goes to ``job.out`` there.
    report : callable
        Called with each happening and its job, or with the job's row in the journal.
    failed, stopped : set of str
        Uuids of failed jobs, and of jobs that stopped their children. Only jobs that require the outputs of such
        parents are skipped.
    """

    job_store: JobStore
    journal: Store
    root_dir: Path
    report: Callable[[Happening, Job | JobRow], None]
    failed: set[str] = field(default_factory=set)
    stopped: set[str] = field(default_factory=set)
    _entries: dict[str, JobEntry] = field(default_factory=dict, init=False)
    _unfinished: set[str] = field(default_factory=set, init=False)
    _stops: StageStops = field(default_factory=StageStops, init=False)
    _number: int = field(default=0, init=False)

    def run(self, flow: Flow, rerun_failed: bool = False) -> None:
        """Run or continue a flow.

        Parameters
        ----------
        flow : Flow
            The flow; to continue, the same flow made again.
        rerun_failed : bool
            Run failed jobs of candidates again, with all later jobs.

        Raises
        ------
        StoreError
            The journal holds another flow, or a store cannot be read or written.
        """
        started = self._journal.flow()
        if started is None:
            started = self._journal.start(flow)
        else:
            flow = with_uuids(flow, started, self.journal.name)
        self._entries = self._journal.entries()
        self._number = max((entry.number for entry in self._entries.values()), default=0)
        self._forget_failed_stages()
        if rerun_failed or any(entry.state == "skipped" and entry.reason for entry in self._entries.values()):
            self._forget_failed_candidates()
        self._count_deaths()
        self._unfinished = self._find_unfinished()
        self._run_all(flow)

    @property
    def _journal(self) -> Journal:
        return Journal(self.journal)

    def keep_first_job(self) -> None:
        """Forget all jobs except the first job of the flow and the jobs that it made, and remove their outputs."""
        self._entries = self._journal.entries()
        later = {row.uuid for row in (self._journal.flow() or ()) if row.index is not None} - {self._first_job()}
        first = min((entry.number for entry in self._entries.values() if entry.uuid in later), default=None)
        if first is not None:
            entries = [entry for entry in self._entries.values() if entry.number >= first]
            self.job_store.remove_docs({"uuid": {"$in": [entry.uuid for entry in entries]}})
            self._forget(entries)

    def _first_job(self) -> str | None:
        return next((row.uuid for row in self._journal.flow() or () if row.index is not None), None)

    def failures(self) -> dict[str, str]:
        """Return the reasons of failed jobs by uuid, in the order of failure."""
        failed = [entry for entry in self._entries.values() if entry.state == "failed"]
        return {entry.uuid: entry.reason for entry in sorted(failed, key=lambda entry: entry.number)}

    def _write(self, *entries: JobEntry) -> None:
        self._journal.write(entries)
        self._entries.update((entry.entry, entry) for entry in entries)

    def _forget(self, entries: list[JobEntry]) -> None:
        # Kept in the journal: a job folder without an entry shows that the journal lost entries.
        self._write(*(entry.model_copy(update={"state": "forgotten", "deaths": 0, "flows": []}) for entry in entries))

    def _forget_failed_stages(self) -> None:
        failed = [entry for entry in self._entries.values() if entry.state == "failed" and entry.candidate_id is None]
        first = min((entry.number for entry in failed), default=None)
        if first is not None:
            self._forget([entry for entry in self._entries.values() if entry.number >= first])

    def _forget_failed_candidates(self) -> None:
        lost = ("failed", "skipped")
        names = {entry.candidate_id for entry in self._entries.values() if entry.state in lost} - {None}
        # A relaxation that runs twice costs twice: the ledger counts all runs.
        self._forget([
            entry
            for entry in self._entries.values()
            if entry.candidate_id in names
            and not (entry.state == "done" and entry.kind.startswith("relax ") and not entry.stop_children)
        ])  # fmt: skip

    def _count_deaths(self) -> None:
        """Find the job that ran when the process died."""
        for entry in [entry for entry in self._entries.values() if entry.state == "started"]:
            died = entry.model_copy(update={"state": "forgotten", "deaths": entry.deaths + 1})
            if died.candidate_id is not None and died.deaths >= DEATHS:
                died = died.model_copy(update={"state": "failed", "reason": KILLED})
            self._write(died)

    def _find_unfinished(self) -> set[str]:
        """Return the keys of the jobs that ended but made jobs that must still run."""
        makers = {row.entry: key for key, entry in self._entries.items() for row in entry.rows}
        unfinished: set[str] = set()
        for made in makers:
            entry = self._entries.get(made)
            if entry is None or not entry.has_ended:
                maker = makers.get(made)
                while maker is not None and maker not in unfinished:
                    unfinished.add(maker)
                    maker = makers.get(maker)
        return unfinished

    def _run_all(self, flow: Flow) -> None:
        """Run each job of a flow after its parents have ended, and in its place the jobs that it makes."""
        waiting = self._queue(flow, ())
        # Number of waiting jobs that have this uuid or were made by a job of this uuid.
        waits = Counter(uuid for turn in waiting for uuid in {turn.job.uuid, *turn.makers})
        while waiting:
            ready = (place for place, turn in enumerate(waiting) if not any(waits[uuid] for uuid in turn.parents))
            first = next(ready)
            # The first job that killed no process. The others are checked only if each ready job killed one.
            place = next((place for place in (first, *ready) if not self._is_suspect(waiting[place])), first)
            turn = waiting.pop(place)
            waits.subtract({turn.job.uuid, *turn.makers})
            for following in self._run_job(turn.job, turn.parents):
                turns = self._queue(following, (*turn.makers, turn.job.uuid))
                waiting[place:place] = turns
                waits.update(uuid for turn in turns for uuid in {turn.job.uuid, *turn.makers})
                place += len(turns)

    def _queue(self, flow: Flow, makers: tuple[str, ...]) -> list[_Turn]:
        """Return the jobs of a flow as they are listed: the relaxations of a candidate, then their comparison."""
        jobs = {job.uuid: (job, parents) for job, parents in flow.iterflow()}
        turns = [_Turn(*jobs[row.uuid], makers) for row in outline(flow) if row.index is not None]
        for turn in turns:
            self.report("queued", turn.job)
        return turns

    def _is_suspect(self, turn: _Turn) -> bool:
        entry = self._entries.get(turn.entry)
        return entry is not None and not entry.has_ended and entry.deaths > 0 and entry.candidate_id is not None

    def _run_job(self, job: Job, parents: list[str]) -> list[Flow]:
        """Run one job unless it has ended, and return the flows that it made."""
        entry = self._entries.get(f"{job.uuid}:{job.index}")
        if entry is not None and entry.has_ended:
            return self._reuse(job, entry)
        started = self._entry(job, parents)
        why = self._stops.reason(started, parents)
        if (self.failed | self.stopped).intersection(parents) and job.config.on_missing_references == OnMissing.ERROR:
            why = why or ""
        if why is not None:
            self._end(job, "skipped", started, reason=why)
            return []
        self._write(started)
        try:
            return self._run_started(job, started)
        except BaseException:
            # This stop is not due to the job: Ctrl-C, a full disk.
            if self._entries[started.entry] is started:
                with suppress(StoreError):
                    self._write(started.model_copy(update={"state": "forgotten"}))
            raise

    def _run_started(self, job: Job, started: JobEntry) -> list[Flow]:
        self.report("started", job)
        try:
            if started.deaths and started.candidate_id is not None:
                made = self._call_apart(job)
            else:
                made = call_job(job, self.job_store, self.root_dir)
        except ProcessKilledError:
            self._end(job, "failed", started, deaths=started.deaths + 1, reason=KILLED)
            return []
        if isinstance(made, Failure):
            again = {"kind": ""} if started.reason == made.reason else {}
            self._end(job, "failed", started, reason=made.reason, traceback=made.traceback, **again)
            logger.info("%s failed: %s", job.name, made.traceback)
            return []
        outlines = [outline(flow) for flow in made.flows]
        self._end(job, "done", started, reason="", flows=outlines, stop_children=made.stop_children)
        return made.flows

    def _call_apart(self, job: Job) -> Made | Failure:
        """Run a job in another process, which may die of it."""
        task = json.dumps([job, self.job_store, str(self.root_dir)], cls=MontyEncoder)
        answer = run_apart(call_here, task)
        return answer if isinstance(answer, Failure) else Made(*MontyDecoder().decode(answer))

    def _entry(self, job: Job, parents: list[str]) -> JobEntry:
        """Return the entry of a job that starts."""
        key = f"{job.uuid}:{job.index}"
        is_first = "stage" in job.metadata and not self.failed.intersection(parents)
        # Elements that relax say nothing about the candidates.
        of = "element " if "element" in job.metadata else ""
        before = self._entries.get(key)
        self._number += 1
        return JobEntry(
            entry=key,
            uuid=job.uuid,
            number=self._number,
            candidate_id=job.metadata.get("candidate_id"),
            state="started",
            kind=f"{job.metadata['stage']} {of}{type(job.maker).__name__}" if is_first else "",
            deaths=0 if before is None else before.deaths,
            reason="" if before is None else before.reason,
        )

    def _end(self, job: Job, state: Literal["done", "failed", "skipped"], started: JobEntry, **content: Any) -> None:
        ended = started.model_copy(update={"state": state, **content})
        self._write(ended)
        self._note(ended)
        self.report(state, job)

    def _note(self, ended: JobEntry) -> None:
        self._stops.add(ended)
        if ended.state in ("failed", "skipped"):
            self.failed.add(ended.uuid)
        if ended.stop_children:
            self.stopped.add(ended.uuid)

    def _reuse(self, job: Job, entry: JobEntry) -> list[Flow]:
        """Return the flows that an ended job made, if one of their jobs has not ended."""
        self._note(entry)
        self.report("reused", job)
        if entry.entry in self._unfinished:
            return self._make_again(job, entry)
        for row in self._rows_below(entry):
            self._note(self._entries[row.entry])
            self.report("queued", row)
            self.report("reused", row)
        return []

    def _rows_below(self, entry: JobEntry) -> Iterator[JobRow]:
        rows = [*entry.rows]
        while rows:
            row = rows.pop()
            yield row
            rows += self._entries[row.entry].rows

    def _make_again(self, job: Job, entry: JobEntry) -> list[Flow]:
        """Return the flows that a job made, without storing anything."""
        store = self.job_store
        if "made" in signature(job.function).parameters:
            job.function_kwargs["made"] = store.get_output(job.uuid, which=job.index, load=True)
        # In jobflow's types, `save` and `load` are the methods of MSONable that the attributes replace.
        looked_at = _UnchangedJobStore(
            store.docs_store,
            store.additional_stores,  # type: ignore[has-type]
            store.save,  # type: ignore[arg-type]
            store.load,  # type: ignore[arg-type]
        )
        made = call_job(job, looked_at, self.root_dir)
        if isinstance(made, Failure):
            raise CryslatorError(f"job {job.name!r} cannot be made again ({made.reason}); fix this and run again")
        if len(made.flows) != len(entry.flows):
            raise other_flow(job.name, self.journal.name)
        return [
            with_uuids(flow, before, self.journal.name) for flow, before in zip(made.flows, entry.flows, strict=True)
        ]


class _UnchangedJobStore(JobStore):
    """A JobStore that jobs only read."""

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Store nothing."""
