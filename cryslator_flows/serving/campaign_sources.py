"""Places whose campaigns are served: folders on this machine, or a jobflow-remote project."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cryslator_flows.campaign.file import folder_label
from cryslator_flows.crystals.source_files import STORE_FILE
from cryslator_flows.errors import CampaignError
from cryslator_flows.running.find import find_campaign
from cryslator_flows.running.local.folder import CampaignFolder
from cryslator_flows.running.remote.project import open_project
from cryslator_flows.running.started import StartedCampaign
from cryslator_flows.running.status import REMOTE_STATES
from cryslator_flows.system.current_folder import absolute_path

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from contextlib import AbstractContextManager

    from cryslator_flows.running.remote.project import RemoteProject

RUNS = "runs"


class CampaignSource(Protocol):
    """A place with campaigns, each of which has a key that stays the same."""

    @property
    def place(self) -> str:
        """Folder or project, in words."""

    def marks(self) -> dict[str, Hashable]:
        """Return a mark for the key of each campaign, cheaply; it changes whenever the campaign does."""

    def opened(self, key: str) -> AbstractContextManager[StartedCampaign]:
        """Open a campaign to read it, in any thread."""


@dataclass
class FolderSource:
    """The campaigns of a folder.

    Parameters
    ----------
    folder : Path
        A campaign folder, or a folder that holds campaign folders.
    given_energies : dict
        See `StartedCampaign`.

    Examples
    --------
    >>> FolderSource(Path("nowhere")).marks()
    {}
    """

    folder: Path
    given_energies: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = absolute_path(self.folder)

    @property
    def place(self) -> str:
        """The folder, in words."""
        return f"folder {self.folder}"

    def marks(self) -> dict[str, Hashable]:
        """Return a mark for the name of each campaign folder: times of the folder and its store, if a process runs."""
        folders = (store.parent for pattern in (STORE_FILE, f"*/{STORE_FILE}") for store in self.folder.glob(pattern))
        return {
            path.name: (
                *(_stamp(file) for file in (path, path / STORE_FILE, path / f"{STORE_FILE}-wal")),
                CampaignFolder(path, read_only=True).is_running,
            )
            for path in sorted(folders)
        }

    @contextmanager
    def opened(self, key: str) -> Iterator[StartedCampaign]:
        """Open a campaign to read it; SQLite connections belong to one thread, so each use has its own."""
        path = self.folder if key == self.folder.name and (self.folder / STORE_FILE).exists() else self.folder / key
        with CampaignFolder(path, read_only=True).opened() as place:
            yield StartedCampaign(place.label, place.path, place, self.given_energies)


@dataclass
class ProjectSource:
    """The campaigns of a jobflow-remote project.

    Parameters
    ----------
    project : RemoteProject
        The project, open.
    label : str or None
        The one campaign that is served; None for all.
    given_energies : dict
        See `StartedCampaign`.
    """

    project: RemoteProject
    label: str | None = None
    given_energies: dict[str, float] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The project, in words."""
        return f"jobflow-remote project {self.project.name}"

    def marks(self) -> dict[str, Hashable]:
        """Return a mark for the label of each campaign: its jobs by state, and when the last one ended.

        Raises
        ------
        ProjectError
            The database does not answer.
        """
        group = {"campaign": "$job.metadata.campaign", "state": "$state"}
        pipeline = [
            {"$match": {"job.metadata.campaign": self.label or {"$ne": None}}},
            {"$group": {"_id": group, "jobs": {"$sum": 1}, "last": {"$max": "$updated_on"}}},
        ]
        marks: dict[str, dict[str, tuple[int, str]]] = {}
        with self.project.answering():
            for row in self.project.controller.jobs.aggregate(pipeline):
                states = marks.setdefault(row["_id"]["campaign"], {})
                state = REMOTE_STATES.get(row["_id"]["state"], "running")
                # A job takes several steps with its worker, which change nothing here.
                last = "" if state == "running" else str(row["last"])
                jobs, before = states.get(state, (0, ""))
                states[state] = jobs + row["jobs"], max(before, last)
        return {label: tuple(sorted(states.items())) for label, states in sorted(marks.items())}

    @contextmanager
    def opened(self, key: str) -> Iterator[StartedCampaign]:
        """Open a campaign to read it; all threads share the connections of the project."""
        with self.project.answering():
            yield StartedCampaign(key, absolute_path(Path(RUNS) / key), self.project, self.given_energies)


@contextmanager
def find_source(target: str | None = None, project: str | None = None) -> Iterator[CampaignSource]:
    """Find the campaigns that a user names.

    Parameters
    ----------
    target : str or None
        A campaign by its name, its file or its folder; or a folder of campaigns. None for all campaigns of the
        project, or of the folder ``runs`` without one.
    project : str or None
        The jobflow-remote project.

    Raises
    ------
    CampaignError
        There is no such campaign, or no campaign in the folder.
    ProjectError
        The project cannot be opened.
    """
    if target is None and project is not None:
        with closing(open_project(project)) as opened:
            source = ProjectSource(opened)
            source.marks()
            yield source
        return
    folder = FolderSource(Path(target or RUNS))
    # Unlike Path.is_dir, isdir is False for names that are too long.
    if project is None and (target is None or os.path.isdir(target)):  # noqa: PTH112
        started = Path(RUNS) / folder_label(target or RUNS) / STORE_FILE
        if folder.marks():
            yield folder
            return
        if target is None or not started.is_file():
            raise CampaignError(
                f"{target or RUNS}: no campaign in this folder or in the folders inside it; name another folder, or a "
                "jobflow-remote project with --project; cryslator screen CAMPAIGN_FILE starts a campaign"
            )
    with find_campaign(str(target), project) as found:
        found.status()
        if isinstance(found.place, CampaignFolder):
            yield FolderSource(found.folder, found.given_energies)
        else:
            yield ProjectSource(found.place, found.label, found.given_energies)


def _stamp(path: Path) -> tuple[int, int, int]:
    """Return identity, time and size of a file; zeros without it."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_ino, found.st_mtime_ns, found.st_size
