"""The journal of a run: its jobs, their starts and their ends, as plain data."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

from jobflow import Flow, Job
from monty.json import MontyDecoder, MontyEncoder, jsanitize
from pydantic import BaseModel, Field, ValidationError

from cryslator_flows.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from maggma.core import Store

JobState = Literal["started", "done", "failed", "skipped", "forgotten"]
FLOW = "flow"
JOBS = {"state": {"$in": [*get_args(JobState)]}}


class JobRow(BaseModel):
    """A job in the outline of a flow; or a flow in it, which has no index."""

    uuid: str = Field(description="Its uuid")
    name: str = Field(description="Its name")
    index: int | None = Field(None, description="Index of a job; None for a flow")
    metadata: dict[str, Any] = Field(default_factory=dict, description="Metadata of a job")

    @property
    def entry(self) -> str:
        """Key of the job in the journal."""
        return f"{self.uuid}:{self.index}"


class JobEntry(BaseModel):
    """A job in the journal."""

    entry: str = Field(description="Uuid and index of the job, joined by a colon")
    uuid: str = Field(description="Uuid of the job")
    number: int = Field(description="Number of the job, from 1 in the order of starts")
    candidate_id: str | None = Field(None, description="The job's candidate; None for a job of a whole stage")
    state: JobState = Field(description="State of the job; a forgotten job runs again")
    deaths: int = Field(0, description="Number of times that the process died while the job ran")
    flows: list[list[JobRow]] = Field(default_factory=list, description="Outlines of the flows that the job made")
    stop_children: bool = Field(False, description="True if no job may run that depends on this job")
    kind: str = Field("", description="Stage and class of the maker; empty if the failure has its cause in another job")
    reason: str = Field("", description="Reason of the failure, in one line, or of a stage that stopped before the job")
    traceback: str = Field("", description="The traceback of a failed job")

    @property
    def has_ended(self) -> bool:
        """True if the job must not run again."""
        return self.state in ("done", "failed", "skipped")

    @property
    def rows(self) -> Iterator[JobRow]:
        """Yield the jobs that the job made."""
        return (row for outline in self.flows for row in outline if row.index is not None)


class Journal:
    """Access to the journal of a run, to read and write it.

    Parameters
    ----------
    store : Store
        A connected maggma store, keyed by ``entry``.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def flow(self) -> list[JobRow] | None:
        """Return the outline of the started flow; None before a start."""
        row = self.store.query_one({"entry": FLOW})
        with readable(self.store):
            return None if row is None else [JobRow.model_validate(part) for part in row["jobs"]]

    def start(self, flow: Flow) -> list[JobRow]:
        """Store the outline of the flow that starts."""
        rows = outline(flow)
        self.store.update({"entry": FLOW, "jobs": [row.model_dump() for row in rows]}, key="entry")
        return rows

    def restart(self) -> None:
        """Forget all jobs, and the flow."""
        # Jobs stay in the journal: a job folder without an entry shows that the journal lost entries.
        self.write(entry.model_copy(update={"state": "forgotten", "flows": []}) for entry in self.entries().values())
        self.store.remove_docs({"entry": FLOW})

    def entries(self) -> dict[str, JobEntry]:
        """Return all started jobs by their key."""
        rows = list(self.store.query(JOBS))
        with readable(self.store):
            return {row["entry"]: JobEntry.model_validate(row) for row in rows}

    def count(self, keys: Iterable[str]) -> int:
        """Count the jobs among some keys that have an entry."""
        return int(self.store.count({"entry": {"$in": sorted(keys)}}))

    def write(self, entries: Iterable[JobEntry]) -> None:
        """Store the states of jobs, all or none."""
        if rows := [entry.model_dump() for entry in entries]:
            self.store.update(rows, key="entry")


@contextmanager
def readable(store: Store) -> Iterator[None]:
    """Raise one clear error for rows that this module did not write.

    Parameters
    ----------
    store : Store
        The journal's store.

    Raises
    ------
    StoreError
        There are such rows.
    """
    try:
        yield
    except (KeyError, TypeError, ValidationError) as error:
        raise StoreError(
            f"{store.name}: is not a journal of this version of cryslator-flows; start in another folder, and keep "
            "its relaxations with --reuse"
        ) from error


def outline(work: Flow | Job) -> list[JobRow]:
    """Return the flows and jobs of a flow, each flow before its content.

    Parameters
    ----------
    work : Flow or Job
        The flow.
    """
    if isinstance(work, Job):
        metadata = jsanitize(work.metadata)
        return [JobRow(uuid=work.uuid, name=work.name, index=work.index, metadata=metadata)]
    return [JobRow(uuid=work.uuid, name=work.name), *(row for part in work.jobs for row in outline(part))]


def other_flow(name: str, where: str) -> StoreError:
    """Return the error for a flow that differs from the flow in the journal.

    Parameters
    ----------
    name : str
        The first job that differs.
    where : str
        The journal.
    """
    return StoreError(
        f"{where}: job {name!r} differs from the job that ran here before; undo the change (packages, relax maker, "
        "journal), or start in another folder and keep the relaxations with --reuse"
    )


def with_uuids(made: Flow, before: list[JobRow], where: str) -> Flow:
    """Return a flow that was made again, with its former uuids.

    Parameters
    ----------
    made : Flow
        The new flow.
    before : list of JobRow
        Its outline in the journal.
    where : str
        The journal, for the error.

    Raises
    ------
    StoreError
        The flow has other jobs than before.
    """
    rows = outline(made)
    known = [(row.name, row.index, row.metadata) for row in before]
    for number, row in enumerate(rows):
        if len(rows) != len(known) or (row.name, row.index, row.metadata) != known[number]:
            raise other_flow(row.name, where)
    uuids = {row.uuid: old.uuid for row, old in zip(rows, before, strict=True)}
    text = re.sub(
        r'"([\w-]{26,36})"', lambda match: f'"{uuids.get(match[1], match[1])}"', json.dumps(made, cls=MontyEncoder)
    )
    return MontyDecoder().decode(text)
