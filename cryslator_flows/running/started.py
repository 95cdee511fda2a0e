"""A started campaign, on this machine or on jobflow-remote."""

from __future__ import annotations

import json
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryslator_flows.analysis.formation_energies import element_energies
from cryslator_flows.campaign.inputs import DIGESTS
from cryslator_flows.crystals.source_files import STORE_FILE
from cryslator_flows.documents.stages import STAGES
from cryslator_flows.errors import CampaignError, ProjectError, nearest
from cryslator_flows.results.results import CampaignResults
from cryslator_flows.running.folder_status import FolderWatch
from cryslator_flows.running.local.folder import CampaignFolder
from cryslator_flows.running.remote.project import RemoteProject, open_project
from cryslator_flows.running.spent_hours import SpentHours
from cryslator_flows.running.status import remote_status
from cryslator_flows.screening.cuts import Cuts
from cryslator_flows.system.sqlite_store import SQLiteStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryslator_flows.documents.stages import Stage
    from cryslator_flows.running.status import CampaignStatus


@dataclass
class StartedCampaign:
    """A running or finished campaign.

    Parameters
    ----------
    label : str
        Its label.
    folder : Path
        Folder of its reports.
    place : CampaignFolder or RemoteProject
        Folder or project of its jobs.
    given_energies : dict
        Energies of the elements in its campaign file now, in eV/atom; empty without the file.
    """

    label: str
    folder: Path
    place: CampaignFolder | RemoteProject
    given_energies: dict[str, float] = field(default_factory=dict)
    _watch: FolderWatch | None = field(default=None, init=False, repr=False)

    @property
    def results(self) -> CampaignResults:
        """Results of the campaign so far."""
        return CampaignResults(self.place.job_store, self.label)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Campaign file at the start of the campaign, see `Campaign.content`; empty if unknown."""
        if isinstance(self.place, CampaignFolder):
            content = self.place.content
        else:
            flow = self.place.controller.flows.find_one({"metadata.campaign": self.label}, ["metadata.campaign_file"])
            content = flow["metadata"].get("campaign_file") if flow else None
        settings = dict(json.loads(content)) if content else {}
        settings.pop(DIGESTS, None)
        return settings

    @property
    def element_energies(self) -> dict[str, float]:
        """Energies of the elements by its engine, in eV/atom.

        The engine relaxed them, except those in the campaign file now or at the start.
        """
        started_with = (self.settings.get("relaxation") or {}).get("element_energies", {})
        return element_energies(self.results.references()) | (self.given_energies or started_with)

    @property
    def cuts(self) -> Cuts:
        """Cuts of its selection."""
        selection = self.settings.get("selection", {})
        return Cuts(**{name: value for name, value in selection.items() if name != "controls"})

    def core_hours(self) -> dict[Stage, tuple[float | None, float | None]]:
        """Return planned and spent core-hours by stage; None where unknown. The plan is from `cryslator screen`."""
        planned = self.place.planned if isinstance(self.place, CampaignFolder) else {}
        spent = SpentHours.of(self.results).by_stage()
        return {stage: (planned.get(stage), spent.get(stage)) for stage in STAGES if stage in planned or stage in spent}

    @property
    def job_command(self) -> str | None:
        """Command that describes a job when its uuid is added; None for a campaign folder."""
        return f"{self.place.command} job info" if isinstance(self.place, RemoteProject) else None

    def status(self) -> CampaignStatus:
        """Return the jobs of the campaign by stage and state.

        Raises
        ------
        CampaignError
            The project does not hold the campaign.
        ProjectError
            The project's database does not answer any more.
        """
        if isinstance(self.place, CampaignFolder):
            self._watch = self._watch or FolderWatch(self.place)
            return self._watch.look()
        with self.place.answering():
            return remote_status(self.place, self.label)

    def revision(self) -> str:
        """Return a mark of the campaign's documents, which changes with each new document."""
        store = self.place.job_store.docs_store
        if isinstance(store, SQLiteStore):
            return str(store.revision)
        newest = store.query_one({"metadata.campaign": self.label}, ["completed_at"], sort={"completed_at": -1})
        return "" if newest is None else str(newest.get("completed_at"))


@contextmanager
def find_started(
    label: str, project: str | None = None, folder: Path | str | None = None, own_project: str | None = None
) -> Iterator[StartedCampaign]:
    """Find a campaign by its label.

    Parameters
    ----------
    label : str
        Its label.
    project : str or None
        The jobflow-remote project. If None: the campaign folder if there is one, else `own_project`, else
        jobflow-remote's default project.
    folder : Path, str or None
        The campaign folder, ``runs/NAME`` if None.
    own_project : str or None
        The project in the campaign file.

    Raises
    ------
    CampaignError
        The folder belongs to another campaign.
    ProjectError
        The campaign folder does not exist, and the project cannot be opened.
    """
    place = CampaignFolder(folder or Path("runs") / label, read_only=True)
    if project is None and place.exists:
        with place.opened():
            if place.label != label:
                raise CampaignError(
                    f"campaign {label!r}: {place.path} is the folder of campaign {place.label!r}; give this name, or "
                    "another folder"
                )
            yield StartedCampaign(label, place.path, place)
        return
    wanted = project or own_project
    try:
        opened = open_project(wanted)
    except ProjectError as error:
        if wanted:
            raise
        others = [path.parent.name for path in place.path.parent.glob(f"*/{STORE_FILE}")]
        known = f" ({nearest(place.path.name, others)})" if others else ""
        raise ProjectError(
            f"campaign {label!r}: campaign folder {place.path} does not exist{known}, and {error}"
        ) from error
    with closing(opened):
        yield StartedCampaign(label, place.path, opened)
