"""The public interface beside the translator: a campaign from file to results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cryslator_flows.campaign.file import CampaignSettings
from cryslator_flows.report.written import write_all
from cryslator_flows.results.frames import CampaignFrames
from cryslator_flows.running.local.run import CampaignRun, progress_bar
from cryslator_flows.running.started import find_started

if TYPE_CHECKING:
    from collections.abc import Sequence


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
        """Run the campaign on this machine, or what is left of it, as ``cryslator screen`` does.

        Interrupt it whenever you like: the next call goes on where it stopped. The folder then holds the files that
        ``cryslator screen`` leaves, `report.html` to look at among them.

        Parameters
        ----------
        folder : Path, str or None
            The campaign folder, ``runs/NAME`` if None.
        rerun_failed : bool
            Run candidates again whose relaxations failed before.
        reuse : sequence of Path or str
            Folders of other campaigns: what they relaxed is not relaxed again.

        Returns
        -------
        CampaignFrames
            As from `results`.

        Raises
        ------
        CampaignError
            The campaign changed since it was started in this folder, or enumeration or translation failed.
        StoreError
            The folder cannot be written, or another process runs there.
        """
        run = CampaignRun(self, folder or Path("runs") / self.name, reuse)
        with progress_bar() as report:
            run.run(report, rerun_failed)
        with find_started(self.name, folder=run.folder.path) as started:
            frames = CampaignFrames.read(started.results)
            write_all(started, frames.summary, list(frames.comparisons.values()), started.status())
        return frames

    def results(
        self, folder: Path | str | None = None, project: str | None = None, name: str | None = None
    ) -> CampaignFrames:
        """What the campaign left so far, as DataFrames, wherever it runs or ran.

        All translated candidates are read into memory, where 100,000 take 70 MB and a second
        (``python -m tests.benchmarks.results`` measures it). Millions are better read in chunks of some thousands, one
        in memory at a time, by `CampaignResults.chunks`, which `find_started` leads to.

        Parameters
        ----------
        folder : Path, str or None
            The campaign folder, ``runs/NAME`` if None.
        project : str or None
            The jobflow-remote project. None for the campaign folder if there is one, else the project that the
            campaign file names, else jobflow-remote's own default.
        name : str or None
            What ``cryslator submit --again`` called the run, NAME-2 and so on; the campaign's own name if None.

        Raises
        ------
        CampaignError
            There are no results of that name yet; the message has the nearest name or all that there are.
        ProjectError
            There is no campaign folder, and the project cannot be opened.
        """
        with find_started(name or self.name, project, folder, self.jobflow_remote.project) as started:
            return CampaignFrames.read(started.results)
