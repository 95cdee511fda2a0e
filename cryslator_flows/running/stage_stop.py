"""Stages of a run that stop, since their first jobs all fail for one reason."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryslator_flows.running.local.journal import JobEntry

# Number of jobs of one kind after which a cause is one of the stage, not of the candidates.
ALIKE = 5
# Numbers, addresses and job folders, which differ from job to job.
_VARIABLE = re.compile(r"0x[0-9a-f]+|[0-9a-f-]{26,36}|\d+")


def one_cause(reasons: Iterable[str]) -> bool:
    """Return True for at least `ALIKE` reasons that are the same but for numbers, addresses and job folders.

    >>> one_cause(f"[Errno 2] No such file: 'vasp_std' (process {number})" for number in range(5))
    True
    >>> one_cause(["no Sr here", "no Ca here"] * 3)
    False
    """
    counts = Counter(_VARIABLE.sub("#", reason) for reason in reasons)
    return len(counts) == 1 and counts.total() >= ALIKE


class StageStops:
    """Watch over the jobs of each stage and maker; a kind of job stops if its first jobs all fail for one reason.

    Not counted are jobs that fail since a job before them failed, and jobs that fail again for their former reason.
    """

    def __init__(self) -> None:
        self._done: set[str] = set()
        self._reasons: dict[str, list[str]] = defaultdict(list)
        self._skipped: dict[str, str] = {}

    def add(self, entry: JobEntry) -> None:
        """Count a job that has ended."""
        if entry.state == "skipped" and entry.reason:
            self._skipped[entry.uuid] = entry.reason
        elif entry.kind and entry.state == "done":
            self._done.add(entry.kind)
        elif entry.kind and entry.state == "failed" and len(self._reasons[entry.kind]) < ALIKE:
            self._reasons[entry.kind].append(entry.reason)

    def reason(self, entry: JobEntry, parents: Iterable[str]) -> str | None:
        """Return the reason why a job must not start; None if it may.

        Parameters
        ----------
        entry : JobEntry
            The job.
        parents : iterable of str
            Uuids of the jobs before it. A job of a candidate does not start without one that was not started.
        """
        if entry.candidate_id is not None:
            for uuid in parents:
                if uuid in self._skipped:
                    return self._skipped[uuid]
        reasons = self._reasons.get(entry.kind, [])
        if entry.kind in self._done or not one_cause(reasons):
            return None
        stage = entry.kind.partition(" ")[0]
        return f"stage {stage}: its first {ALIKE} jobs failed for one reason: {reasons[0]}"
