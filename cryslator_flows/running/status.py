"""Status of a campaign: jobs of each stage by state, and the commands that run failed jobs again."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from cryslator_flows.documents.stages import HIDDEN_JOB, STAGES
from cryslator_flows.errors import CampaignError, nearest, without_passwords
from cryslator_flows.running.remote.project import remaining_parts
from cryslator_flows.running.stage_stop import one_cause

if TYPE_CHECKING:
    from pymongo.collection import Collection

    from cryslator_flows.results.results import StoredRow
    from cryslator_flows.running.remote.project import RemoteProject

State = Literal["waiting", "ready", "running", "done", "failed", "skipped", "stopped"]
STATES: tuple[State, ...] = get_args(State)
ENDED: tuple[State, ...] = ("done", "failed", "skipped")
OTHER = "other"
SHOWN_FAILURES = 20
# Jobs that are named of those that failed for one reason.
SHOWN_EQUAL = 3

# jobflow-remote's states; a job in any other state is with a worker.
REMOTE_STATES: dict[str, State] = {
    "WAITING": "waiting",
    "READY": "ready",
    "COMPLETED": "done",
    "FAILED": "failed",
    "REMOTE_ERROR": "failed",
    "PAUSED": "stopped",
    "STOPPED": "stopped",
    "USER_STOPPED": "stopped",
}


@dataclass(frozen=True)
class FailedJob:
    """A failed job.

    Parameters
    ----------
    job_id : str
        jobflow-remote's identifier, or the uuid of a job of a campaign folder.
    name : str
        The job's name.
    reason : str
        The last line of its traceback.
    stage : str or None
        Its stage; None if it only failed since a job before it failed.
    candidate_id : str or None
        The candidate that it relaxes; None for other jobs.
    """

    job_id: str
    name: str
    reason: str
    stage: str | None = None
    candidate_id: str | None = None


@dataclass
class CampaignStatus:
    """The jobs of a campaign by stage and state.

    Parameters
    ----------
    label : str
        The campaign's label.
    place : str
        Folder or project of its jobs, in words.
    counts : dict
        For each stage, and ``other``, the number of jobs in each state.
    rounds : dict
        For each started round of active learning the number of jobs in each state.
    failed : list of FailedJob
        The failed jobs, or the first ones.
    reruns : list of str
        The commands that run failed jobs again, in order.
    skips : list of str
        The commands that let a campaign continue without some failed relaxations. A job needs them if it takes more
        than its structure from the jobs before it, and one of these failed.
    stops : list of str
        Stages whose first jobs all failed for one reason, in words.
    remaining : int
        Number of selected candidates whose relaxations are not submitted yet.
    go_on : str or None
        The command that continues a stopped campaign folder, which is not finished and which no process runs; else
        None.
    """

    label: str
    place: str
    counts: dict[str, Counter[State]] = field(default_factory=lambda: defaultdict(Counter))
    rounds: dict[int, Counter[State]] = field(default_factory=lambda: defaultdict(Counter))
    failed: list[FailedJob] = field(default_factory=list)
    reruns: list[str] = field(default_factory=list)
    skips: list[str] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)
    remaining: int = 0
    go_on: str | None = None

    @property
    def totals(self) -> Counter[State]:
        """Number of jobs in each state."""
        return sum(self.counts.values(), Counter())

    @property
    def unfinished(self) -> int:
        """Number of jobs that wait, run or were stopped."""
        return sum(number for state, number in self.totals.items() if state not in ENDED)

    @property
    def is_finished(self) -> bool:
        """True if there are jobs and all have ended; a campaign that has just started has none yet."""
        return bool(self.counts) and not self.unfinished


def remote_status(project: RemoteProject, label: str) -> CampaignStatus:
    """Read the status of a campaign on jobflow-remote.

    Parameters
    ----------
    project : RemoteProject
        The project.
    label : str
        The campaign's label.

    Raises
    ------
    CampaignError
        The project does not hold the campaign.
    """
    jobs = project.controller.jobs
    pipeline = [
        {
            "$match": {
                "job.metadata.campaign": label,
                "$or": [{"job.name": {"$ne": HIDDEN_JOB}}, {"state": {"$in": ["FAILED", "REMOTE_ERROR"]}}],
            }
        },
        {
            "$group": {
                "_id": {"stage": "$job.metadata.stage", "round": "$job.metadata.round", "state": "$state"},
                "jobs": {"$sum": 1},
            }
        },
    ]
    status = CampaignStatus(label, f"jobflow-remote project {project.name}")
    for group in jobs.aggregate(pipeline):
        stage = group["_id"].get("stage") or OTHER
        state = REMOTE_STATES.get(group["_id"]["state"], "running")
        status.counts[stage][state] += group["jobs"]
        if number := group["_id"].get("round"):
            status.rounds[number][state] += group["jobs"]
    if not status.counts:
        known = project.controller.flows.distinct("metadata.campaign")
        raise CampaignError(
            f"campaign {label!r}: not in project {project.name!r}; {nearest(label, filter(None, known))}"
        )
    _add_remote_failures(status, project)
    _add_remote_stops(status)
    status.remaining = sum(part.n_candidates for part, _ in remaining_parts(project, label).values())
    return status


def _add_remote_failures(status: CampaignStatus, project: RemoteProject) -> None:
    command = f"{project.command} job"
    query = {"job.metadata.campaign": status.label}
    fields = ["uuid", "db_id", "parents", "state", "error", "remote.error", "job.name", "job.metadata"]
    jobs = project.controller.jobs
    for state in ("FAILED", "REMOTE_ERROR"):
        rows = list(jobs.find({**query, "state": state}, fields, sort=[("created_on", 1)], limit=SHOWN_FAILURES))
        first = {row["uuid"] for row in _first_failures(rows, jobs)}
        for row in rows:
            reason = _last_line(row["error"] or row["remote"].get("error"))
            metadata = row["job"]["metadata"]
            stage = metadata.get("stage") if row["uuid"] in first else None
            candidate = metadata.get("candidate_id")
            status.failed.append(FailedJob(row["db_id"], row["job"]["name"], reason, stage, candidate))
        if state == "REMOTE_ERROR" and rows:
            status.reruns.append(f"{command} retry {_options(rows)}")
        elif rows:
            _add_reruns(status, rows, jobs, command)


def _first_failures(failed: list[StoredRow], jobs: Collection[dict[str, Any]]) -> list[StoredRow]:
    """Return the failed jobs of which no job before has failed."""
    parents = [uuid for row in failed for uuid in row["parents"] or []]
    failed_parents = {row["uuid"] for row in jobs.find({"uuid": {"$in": parents}, "state": "FAILED"}, ["uuid"])}
    return [row for row in failed if not failed_parents.intersection(row["parents"] or [])]


def _add_remote_stops(status: CampaignStatus) -> None:
    """Add the stages of which no job succeeded and whose first jobs failed for one reason; jobflow-remote continues."""
    for stage, counts in status.counts.items():
        reasons = [job.reason for job in status.failed if job.stage == stage]
        if not counts["done"] and one_cause(reasons):
            words = "fix it before more jobs start" if status.unfinished else "fix it"
            status.stops.append(f"stage {stage}: {len(reasons)} jobs failed for one reason: {reasons[0]}; {words}")


def _add_reruns(
    status: CampaignStatus, failed: list[StoredRow], jobs: Collection[dict[str, Any]], command: str
) -> None:
    """Add the commands that run failed jobs again, and the commands that continue without them.

    Some jobs run although a job before them failed, the comparison of a candidate for instance. jobflow-remote refuses
    to run a job again whose children have ended, unless they are paused. Paused children run again after the job.
    """
    first = _first_failures(failed, jobs)
    ended = {"parents": {"$in": [row["uuid"] for row in failed]}, "state": {"$in": ["COMPLETED", "FAILED"]}}
    paused = list(jobs.find(ended, ["db_id", "parents"]))
    reset = {row["uuid"] for row in first}
    later = [row for row in paused if not reset.intersection(row["parents"])]
    status.reruns += [f"{command} set-state PAUSED {_options(paused)}"] if paused else []
    status.reruns += [f"{command} rerun {_options(first)}"]
    status.reruns += [f"{command} resume {_options(later)}"] if later else []

    candidates: dict[str, list[StoredRow]] = defaultdict(list)
    identifiers = {row["job"]["metadata"].get("candidate_id") for row in failed} - {None}
    query = {"job.metadata.campaign": status.label, "job.metadata.candidate_id": {"$in": sorted(identifiers)}}
    for row in jobs.find(query, ["db_id", "state", "job.metadata"]):
        candidates[row["job"]["metadata"]["candidate_id"]].append(row)
    stuck = [
        row
        for rows in candidates.values()
        if all(other["state"] in ("COMPLETED", "FAILED", "WAITING") for other in rows)
        for row in rows
        if row["state"] == "WAITING" and row["job"]["metadata"]["stage"] == "compare"
    ]
    status.skips += [f"{command} set-state READY {_options(stuck)}"] if stuck else []


def _options(rows: list[StoredRow]) -> str:
    return " ".join(f"-did {row['db_id']}" for row in rows)


def _last_line(traceback: str | None) -> str:
    lines = [line.strip() for line in (traceback or "").splitlines() if line.strip()]
    return without_passwords(lines[-1]) if lines else "no reason known"


def status_report(status: CampaignStatus) -> Group:
    """Show the status as tables; jobs that failed for one reason share a row."""
    stages = {stage: status.counts[stage] for stage in (*STAGES, OTHER) if stage in status.counts}
    parts: list[Table | Text] = [_counts_table(f"Jobs of {status.label}, {status.place}", "stage", stages, status)]
    if status.rounds:
        rounds = {str(number): status.rounds[number] for number in sorted(status.rounds)}
        parts.append(_counts_table("Jobs of the rounds of active learning", "round", rounds, status))
    if status.remaining:
        words = f"{status.remaining} more candidates are selected; submit them with: cryslator submit CAMPAIGN_FILE"
        parts.append(Text(words))
    parts += [Text(f"{words[0].upper()}{words[1:]}") for words in status.stops]
    if status.failed:
        parts.append(_failures_table(status))
    return Group(*parts)


def _counts_table(title: str, name: str, rows: dict[str, Counter[State]], status: CampaignStatus) -> Table:
    shown = [state for state in STATES if state not in ("skipped", "stopped") or status.totals[state]]
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(name)
    for state in shown:
        table.add_column(state, justify="right")
    for row, counts in rows.items():
        table.add_row(row, *(str(counts[state]) for state in shown))
    return table


def _failures_table(status: CampaignStatus) -> Table:
    more = status.totals["failed"] - SHOWN_FAILURES
    title = "Failed jobs" + (f", the first {SHOWN_FAILURES} of {status.totals['failed']}" if more > 0 else "")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("jobs", justify="right")
    for column in ("name", "candidate or job", "reason"):
        table.add_column(column, overflow="fold")
    equal: dict[str, list[FailedJob]] = defaultdict(list)
    for job in status.failed[:SHOWN_FAILURES]:
        equal[job.reason].append(job)
    for reason, jobs in equal.items():
        first = jobs[:SHOWN_EQUAL]
        left = [f"and {len(jobs) - SHOWN_EQUAL} more"] * (len(jobs) > SHOWN_EQUAL)
        names, candidates = [job.name for job in first] + left, [job.candidate_id or job.job_id for job in first]
        table.add_row(str(len(jobs)), *(Text("\n".join(words)) for words in (names, candidates, [reason])))
    return table
