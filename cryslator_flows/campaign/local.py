"""Run a flow on this machine, one job after the other, and resume it after any stop."""

from __future__ import annotations

import json
import logging
import traceback
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from jobflow import Flow, OnMissing
from monty.json import MontyDecoder, MontyEncoder

from cryslator_flows.crystals.columns import squeeze, unsqueeze
from cryslator_flows.errors import CryslatorError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jobflow import Job, JobStore, Response
    from maggma.core import Store

logger = logging.getLogger(__name__)

Happening = Literal["queued", "started", "reused", "done", "failed", "skipped"]


@dataclass
class LocalRun:
    """Runs a flow like `jobflow.run_locally`, but keeps a journal from which a stopped run goes on.

    The journal holds the flow itself, every job that ended, and the flows that jobs made while running. A job that
    is in the journal is not run again; what it had asked for still is. A job fails alone: only jobs that cannot do
    without its output are skipped. A failed job of a single candidate stays failed, as its comparison says; any other
    failed job is run again by the next run, with all that came after it.

    Parameters
    ----------
    job_store : JobStore
        Where outputs go.
    journal : Store
        Where the journal goes, keyed by ``entry``.
    root_dir : Path
        Every job runs in a folder of its own below it; what it prints goes to ``job.out`` there.
    report : callable
        Called with each happening and its job.
    failed, stopped : set of str
        Uuids of jobs that failed, and of jobs that asked for their children to be stopped. Only jobs that insist on
        the outputs of such parents are skipped.
    """

    job_store: JobStore
    journal: Store
    root_dir: Path
    report: Callable[[Happening, Job], None]
    failed: set[str] = field(default_factory=set)
    stopped: set[str] = field(default_factory=set)
    _number: int = field(default=0, init=False)

    def run(self, flow: Flow, rerun_failed: bool = False) -> None:
        """Run a flow, or go on with the one in the journal; then `flow` is not looked at.

        Parameters
        ----------
        flow : Flow
            What to run if the journal is empty.
        rerun_failed : bool
            Run candidates again of which a job failed before.
        """
        started = self.journal.query_one({"entry": "flow"})
        if started is None:
            self._write("flow", {"flow": _encode(flow)})
        else:
            flow = _decode(started["flow"])
            self._forget_failed_stages()
            if rerun_failed:
                self._forget_failed_candidates()
        self._number = max(
            (row["number"] for row in self.journal.query(properties=["number"]) if "number" in row), default=0
        )
        self._run_flow(flow)

    def keep_first_job(self, flow: Flow) -> None:
        """Replace the flow in the journal by another one, but for its first job and all that this one made.

        Parameters
        ----------
        flow : Flow
            The same jobs with other settings; they get the uuids of those before.
        """
        before, text = _decode(self.journal.query_one({"entry": "flow"})["flow"]), json.dumps(flow, cls=MontyEncoder)
        for old, new in zip([before, *before.jobs], [flow, *flow.jobs], strict=True):
            text = text.replace(new.uuid, old.uuid)
        self._write("flow", {"flow": squeeze(text)})
        later = {"uuid": {"$in": [job.uuid for job in before.jobs[1:]]}}
        first = min((row["number"] for row in self.journal.query(later)), default=None)
        if first is not None:
            rows = {"number": {"$gte": first}}
            self.job_store.remove_docs({"uuid": {"$in": [row["uuid"] for row in self.journal.query(rows)]}})
            self.journal.remove_docs(rows)

    def _forget_failed_stages(self) -> None:
        numbers = [row["number"] for row in self.journal.query({"state": "failed", "stage": True})]
        if numbers:
            self.journal.remove_docs({"number": {"$gte": min(numbers)}})

    def _forget_failed_candidates(self) -> None:
        rows = self.journal.query({"state": "failed"})
        names = sorted({row["candidate_id"] for row in rows if row.get("candidate_id")})
        self.journal.remove_docs({"candidate_id": {"$in": names}})

    def failures(self) -> dict[str, str]:
        """Why jobs failed, by uuid, in the order they did."""
        rows = self.journal.query({"state": "failed"}, sort={"number": 1})
        return {row["uuid"]: row["reason"] for row in rows}

    def _write(self, entry: str, content: dict[str, Any]) -> None:
        self.journal.update({"entry": entry, **content}, key="entry")

    def _write_end(self, job: Job, **content: Any) -> None:
        candidate = job.metadata.get("candidate_id")
        self._number += 1
        about = {
            "uuid": job.uuid,
            "number": self._number,
            "stage": candidate is None,
            "candidate_id": candidate,
        }
        self._write(f"{job.uuid}:{job.index}", {**about, **content})

    def _run_flow(self, flow: Flow) -> None:
        jobs = list(flow.iterflow())
        for job, _ in jobs:
            self.report("queued", job)
        for job, parents in jobs:
            for following in self._run_job(job, parents):
                self._run_flow(following)

    def _run_job(self, job: Job, parents: list[str]) -> list[Flow]:
        """Run one job unless the journal has it, and return the flows it asked for."""
        ended = self.journal.query_one({"entry": f"{job.uuid}:{job.index}"})
        if ended is not None:
            if ended["state"] in ("failed", "skipped"):
                self.failed.add(job.uuid)
            if ended.get("stop_children"):
                self.stopped.add(job.uuid)
            self.report("reused", job)
            return [_decode(text) for text in ended["flows"]]
        if (self.failed | self.stopped).intersection(parents) and job.config.on_missing_references == OnMissing.ERROR:
            self.failed.add(job.uuid)
            self._write_end(job, state="skipped", flows=[])
            self.report("skipped", job)
            return []
        self.report("started", job)
        folder = self.root_dir / f"{job.uuid}-{job.index}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with chdir(folder), (folder / "job.out").open("w") as talk, redirect_stdout(talk):
                response: Response = job.run(self.job_store)
        except StoreError:
            raise
        except Exception as error:
            self.failed.add(job.uuid)
            reason = str(error) if isinstance(error, CryslatorError) else f"{type(error).__name__}: {error}"
            reason = " ".join(reason.split())
            self._write_end(job, state="failed", flows=[], reason=reason, traceback=traceback.format_exc())
            logger.info("%s failed", job.name, exc_info=True)
            self.report("failed", job)
            return []
        flows = [flow for flow in (response.replace, response.detour, response.addition) if flow is not None]
        if response.stop_children:
            self.stopped.add(job.uuid)
        encoded = [_encode(flow) for flow in flows]
        self._write_end(job, state="done", flows=encoded, stop_children=bool(response.stop_children))
        self.report("done", job)
        return flows


def _encode(flow: Flow | Job) -> str:
    return squeeze(json.dumps(flow, cls=MontyEncoder))


def flow_text(entry: str) -> str:
    """A flow as JSON from its entry in the journal, which earlier versions did not compress."""
    return entry if entry.startswith("{") else unsqueeze(entry)


def _decode(entry: str) -> Flow:
    flow = json.loads(flow_text(entry), cls=MontyDecoder)
    return flow if isinstance(flow, Flow) else Flow([flow])
