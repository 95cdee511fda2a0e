"""Status of a campaign in a folder, updated from new entries of its journal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cryslator_flows.documents.stages import HIDDEN_JOB
from cryslator_flows.running.local.journal import FLOW, JobEntry, JobRow, readable
from cryslator_flows.running.status import OTHER, CampaignStatus, FailedJob, State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryslator_flows.running.local.folder import CampaignFolder
    from cryslator_flows.running.local.journal import JobState

STATES_OF_ENTRIES: dict[JobState, State] = {
    "started": "running",
    "done": "done",
    "failed": "failed",
    "skipped": "skipped",
    "forgotten": "waiting",
}


class FolderWatch:
    """Watch over a campaign folder; each look reads only the changes since the last look.

    Parameters
    ----------
    folder : CampaignFolder
        The folder, opened.
    """

    def __init__(self, folder: CampaignFolder) -> None:
        self.folder = folder
        self._revision = 0
        self._flow: list[JobRow] = []
        self._entries: dict[str, JobEntry] = {}
        self._queued: dict[str, JobRow] = {}
        self._failed: dict[str, FailedJob] = {}
        self._not_started: Counter[str] = Counter()
        self._counts: Counter[tuple[str, int | None, State]] = Counter()

    def look(self) -> CampaignStatus:
        """Return the current status of the campaign."""
        # Checked before the journal is read: a process that runs now may end meanwhile, but was not stopped.
        is_running = self.folder.is_running
        self._read()
        status = CampaignStatus(self.folder.label, f"folder {self.folder.path}")
        for (stage, number, known), jobs in self._counts.items():
            state: State = "waiting" if known == "running" and not is_running else known
            if jobs:
                status.counts[stage][state] += jobs
            if jobs and number:
                status.rounds[number][state] += jobs
        status.failed = list(self._failed.values())
        status.stops = [f"{reason}; {jobs} jobs were not started" for reason, jobs in self._not_started.items() if jobs]
        command = f"cryslator screen CAMPAIGN_FILE --output {self.folder.path}"
        if self._failed:
            of_candidates = (
                all(self._entries[key].candidate_id is not None for key in self._failed) and not status.stops
            )
            status.reruns = [f"{command} --rerun-failed" if of_candidates else command]
        if not is_running and not status.is_finished:
            status.go_on = command
        return status

    def _read(self) -> None:
        with readable(self.folder.journal):
            for revision, row in self.folder.journal.changes(self._revision):
                self._revision = revision
                if row["entry"] == FLOW:
                    rows = [JobRow.model_validate(part) for part in row["jobs"]]
                    self._requeue(self._flow, rows)
                    self._flow = rows
                elif "state" in row:
                    self._take(JobEntry.model_validate(row))

    def _take(self, entry: JobEntry) -> None:
        """Count a job in its current state, and the jobs that it made."""
        key, before = entry.entry, self._entries.get(entry.entry)
        row = self._queued.get(key)
        self._count(row, -1)
        self._entries[key] = entry
        self._count(row, 1)
        self._requeue(() if before is None else before.rows, entry.rows)

    def _requeue(self, before: Iterable[JobRow], now: Iterable[JobRow]) -> None:
        for row in before:
            self._count(self._queued.pop(row.entry, None), -1)
        for row in now:
            if row.index is not None:
                self._queued[row.entry] = row
                self._count(row, 1)

    def _count(self, row: JobRow | None, jobs: int) -> None:
        if row is None:
            return
        entry = self._entries.get(row.entry)
        state: State = "waiting" if entry is None else STATES_OF_ENTRIES[entry.state]
        if row.name != HIDDEN_JOB or state == "failed":
            self._counts[row.metadata.get("stage", OTHER), row.metadata.get("round"), state] += jobs
        if entry is not None and state == "skipped" and entry.reason:
            self._not_started[entry.reason] += jobs
        if entry is not None and state == "failed" and jobs > 0:
            self._failed[row.entry] = FailedJob(
                row.uuid, row.name, entry.reason, candidate_id=row.metadata.get("candidate_id")
            )
        else:
            self._failed.pop(row.entry, None)
