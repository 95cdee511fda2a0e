"""The public interface of campaigns, from file to results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cryslator_flows.campaign.file import CampaignSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryslator_flows.results.frames import CampaignFrames


class Campaign(CampaignSettings):
    """A screening campaign.

    Examples
    --------
    >>> from pathlib import Path
    >>> campaign = Campaign.from_file(Path("workflows/mn-oxides-laptop.yaml"))
    >>> campaign.name
    'mn-oxides-laptop'
    >>> flow = campaign.to_flow()
    """

    def run(
        self, folder: Path | str | None = None, rerun_failed: bool = False, reuse: Sequence[Path | str] = ()
    ) -> CampaignFrames:
        """Run the campaign, or its remaining jobs, on this machine, as ``cryslator screen`` does.

        Interrupt it at any time; the next call continues where it stopped. The folder then holds the files of
        ``cryslator screen``, with the page `report.html`.

        Parameters
        ----------
        folder : Path, str or None
            The campaign folder, ``runs/NAME`` if None.
        rerun_failed : bool
            Run failed relaxations again.
        reuse : sequence of Path or str
            Folders of other campaigns, whose relaxations are reused.

        Returns
        -------
        CampaignFrames
            The same as from `results`.

        Raises
        ------
        CampaignError
            The campaign changed since its start in this folder, or enumeration or translation failed.
        StoreError
            The folder cannot be written, or another process runs there.
        """
        from cryslator_flows.report.selected_table import first_selected
        from cryslator_flows.report.written import write_all
        from cryslator_flows.results.frames import CampaignFrames
        from cryslator_flows.running.local.run import CampaignRun, job_bars
        from cryslator_flows.running.started import find_started

        run = CampaignRun(self, folder or Path("runs") / self.name, reuse)
        with job_bars() as report:
            run.run(report, rerun_failed)
        with find_started(self.name, folder=run.folder.path) as started:
            frames = CampaignFrames.read(started.results, started.cuts.competition(), started.element_energies)
            summary, comparisons = frames.summary, list(frames.comparisons.values())
            selected = first_selected(started, summary, comparisons)
            write_all(started, summary, comparisons, started.status(), frames.relaxed, selected)
        return frames

    def results(
        self, folder: Path | str | None = None, project: str | None = None, name: str | None = None
    ) -> CampaignFrames:
        """Return the results of the campaign so far as DataFrames, from any place where it runs or ran.

        All translated candidates are read into memory. 100,000 take 70 MB and one second
        (``python -m tests.benchmarks.results`` measures it). For millions read `CampaignResults.chunks`, see
        `find_started`: it holds one chunk of some thousands in memory at a time.

        Parameters
        ----------
        folder : Path, str or None
            The campaign folder, ``runs/NAME`` if None.
        project : str or None
            The jobflow-remote project. If None: the campaign folder if there is one, else the project in the campaign
            file, else jobflow-remote's default project.
        name : str or None
            Name of the run by ``cryslator submit --again``, NAME-2 and so on; the campaign's name if None.

        Raises
        ------
        CampaignError
            No results of this name exist yet; the message has the nearest name or all names.
        ProjectError
            The campaign folder does not exist, and the project cannot be opened.
        """
        from cryslator_flows.results.frames import CampaignFrames
        from cryslator_flows.running.started import find_started

        with find_started(name or self.name, project, folder, self.jobflow_remote.project) as started:
            started.given_energies = self.element_energies
            return CampaignFrames.read(started.results, started.cuts.competition(), started.element_energies)
