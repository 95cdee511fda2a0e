"""The run of a campaign on this machine, in a folder from which it can be resumed."""

from __future__ import annotations

import json
import shlex
import warnings
from contextlib import contextmanager
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING

from cryslator_flows.campaign.plan import make_plan
from cryslator_flows.campaign.preflight import check_campaign, check_folder, refuse
from cryslator_flows.campaign.survey import Survey, look_quickly
from cryslator_flows.documents.stages import HIDDEN_JOB, STAGES
from cryslator_flows.errors import CampaignError
from cryslator_flows.running.earlier_hours import earlier_hours
from cryslator_flows.running.local.folder import JOBS_FOLDER, CampaignFolder, sole_owner
from cryslator_flows.running.local.job_loop import Happening, LocalRun
from cryslator_flows.system.console import note, progress_bars, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from jobflow import Job

    from cryslator_flows.campaign.file import CampaignSettings
    from cryslator_flows.documents.references import Known
    from cryslator_flows.documents.stages import Stage
    from cryslator_flows.documents.summary import CampaignSummary
    from cryslator_flows.running.local.journal import JobRow

    Report = Callable[[Happening, Job | JobRow], None]


class CampaignRun:
    """One campaign and its folder.

    Parameters
    ----------
    campaign : CampaignSettings
        The campaign.
    path : Path or str
        Its folder.
    reuse : sequence of Path or str
        Folders of other campaigns, whose relaxations are reused. They are read when the campaign starts.
    """

    def __init__(self, campaign: CampaignSettings, path: Path | str, reuse: Sequence[Path | str] = ()) -> None:
        self.campaign = campaign
        self.folder = CampaignFolder(path)
        self.reuse = [CampaignFolder(folder, read_only=True) for folder in reuse]
        self.failures: dict[str, str] = {}
        self._notes: list[str] | None = None

    @cached_property
    def survey(self) -> Survey:
        """The candidates of the campaign, as far as seconds allow to count them."""
        return look_quickly(self.campaign)

    def check(self) -> list[str]:
        """Check all that the campaign needs on this machine, once.

        Returns
        -------
        list of str
            Remarks that stop nothing.

        Raises
        ------
        PreflightError
            Something is missing. The error has everything that is.
        """
        if self._notes is None:
            is_new = not self.folder.exists
            found = check_campaign(self.campaign, lambda: self.survey.elements, load=is_new)
            self._notes = refuse([*check_folder(self.folder.path), *found])
        return self._notes

    def run(self, report: Report, rerun_failed: bool = False) -> CampaignSummary:
        """Run the campaign, or its remaining jobs.

        Parameters
        ----------
        report : callable
            Called with each happening and its job.
        rerun_failed : bool
            Run failed relaxations again.

        Returns
        -------
        CampaignSummary
            The summary, which is also in the store.

        Raises
        ------
        PreflightError
            Something is missing on this machine, see `check`.
        CampaignError
            The campaign file changed since the start, or enumeration or translation failed.
        StoreError
            The folder cannot be written, another process runs there, or another flow was started there.
        """
        self.check()
        with sole_owner(self.folder.path), self.folder.opened() as folder:
            changed = self._start()
            run = LocalRun(folder.job_store, folder.journal, folder.path / JOBS_FOLDER, report)
            if changed:
                run.keep_first_job()
            folder.restate(self.campaign.content())
            run.run(self.campaign.to_flow(folder.known()), rerun_failed)
            self.failures = run.failures()
            return self._summary()

    def _known(self) -> Iterator[Known]:
        maker = self.campaign.to_maker() if self.reuse else None
        keys = set() if maker is None else {*maker.settings_keys(), maker.elements_key()} - {None}
        for other in self.reuse:
            if not other.exists:
                raise CampaignError(f"{other.path}: no campaign was run in this folder; give another")
            with other.opened():
                results = other.results()
                yield from (item for item in results.comparisons() if item.settings in keys)
                yield from (item for item in results.references() if item.settings in keys)

    def _planned(self) -> dict[Stage, float]:
        """Estimate the core-hours by stage from the campaigns beside; empty if not all candidates are counted."""
        if not self.survey.is_complete or not self.survey.counts.unique:
            return {}
        earlier = earlier_hours(self.campaign, self.folder.path.parent, ())
        return earlier.plan(make_plan(self.campaign, self.survey))

    def _start(self) -> bool:
        """Start the campaign; refuse a changed campaign if its finished jobs depend on the change.

        Returns
        -------
        bool
            True if the jobs from the selection on must be made again.
        """
        content = self.folder.content
        if content is None or not self.folder.journal.count({"state": "done"}):
            self.folder.start(self.campaign.content(), list(self._known()), self._planned())
            return False
        changed = self.campaign.changed_keys(content)
        # Relaxed elements alone are soon made again.
        translated, relaxed = (
            self.folder.job_store.count({"metadata.stage": stage, "metadata.element": None})
            for stage in ("translate", "relax")
        )
        # A model that was repaired in place needs no other jobs.
        repaired = changed == ["model"] and json.loads(content)["model"] == self.campaign.model
        if (changed == ["relaxation"] and not relaxed) or (repaired and not translated):
            return True
        if changed and not translated and not relaxed:
            self.folder.job_store.remove_docs({})
            self.folder.start(self.campaign.content(), list(self._known()), self._planned())
        elif changed:
            raise CampaignError(
                f"campaign {self.campaign.name!r}: {self.campaign.changes(content)} changed since it was started in "
                f"{self.folder.path}; change it back, or run it in another folder{self._elsewhere()}"
            )
        return False

    def _elsewhere(self) -> str:
        """Return the end of an error: the command that runs the campaign in a free folder beside this one."""
        here = self.folder.path
        free = next(path for number in count(2) if not (path := here.with_name(f"{here.name}-{number}")).exists())
        command = f"cryslator screen {self.campaign.source} --output {shlex.quote(shown(free))}"
        if self.campaign.relaxation is None:
            return f": {command}"
        return f", with the relaxations of the same settings: {command} --reuse {shlex.quote(shown(here))}"

    def _summary(self) -> CampaignSummary:
        results = self.folder.results()
        if results.stored_summary() is None:
            reason = next(iter(self.failures.values()), "no job ended")
            raise CampaignError(
                f"campaign {self.campaign.name!r}: not finished ({reason}); fix that and give the same command again"
            )
        # The current one: candidates may have run again since the summary was stored.
        return results.current_summary(results.comparisons())


@contextmanager
def job_bars(by_stage: bool = False) -> Iterator[Report]:
    """Show the progress of the known jobs, and silence warnings of other packages meanwhile.

    Parameters
    ----------
    by_stage : bool
        Show a bar for each stage with jobs in place of one for all.

    Yields
    ------
    callable
        The `report` of `LocalRun`.
    """
    with warnings.catch_warnings(), progress_bars() as progress:
        warnings.simplefilter("ignore")
        names: tuple[str, ...] = STAGES if by_stage else ("campaign",)
        bars = {name: progress.add_task(name, total=0, note="", visible=not by_stage) for name in names}

        def report(happening: Happening, job: Job | JobRow) -> None:
            if job.name == HIDDEN_JOB:
                return
            bar = bars[job.metadata["stage"] if by_stage else "campaign"]
            if happening == "queued":
                progress.update(bar, total=(progress.tasks[bar].total or 0) + 1, visible=True)
            elif happening == "started":
                progress.update(bar, note=job.name)
            else:
                progress.update(bar, advance=1, note="")
            if happening == "failed":
                remark = " (recorded; the campaign continues)" if "candidate_id" in job.metadata else ""
                note("failed:", f"{job.name}{remark}")

        yield report
