"""Run a campaign on this machine in a folder that it can be resumed from."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from filelock import FileLock, Timeout
from jobflow import JobStore

from cryslator_flows.campaign.local import Happening, LocalRun
from cryslator_flows.campaign.results import CampaignResults
from cryslator_flows.campaign.store import SQLiteStore
from cryslator_flows.errors import CampaignError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from jobflow import Job

    from cryslator_flows.campaign.file import Campaign
    from cryslator_flows.schemas import CampaignSummary, RelaxationComparison

STORE_FILE = "campaign.sqlite"
LOCK_FILE = ".lock"


def open_job_store(folder: Path) -> JobStore:
    """The campaign folder's JobStore: outputs, and big objects in the additional store ``data``."""
    path = str(folder / STORE_FILE)
    outputs = SQLiteStore(path, "outputs", indexed=("uuid", "metadata.stage"))
    return JobStore(outputs, additional_stores={"data": SQLiteStore(path, "data")})


@contextmanager
def _sole_owner(folder: Path) -> Iterator[None]:
    """Keep a second process from running the same campaign; the lock dies with its process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_FILE, timeout=0).acquire()
    except Timeout as error:
        raise StoreError(f"{folder}: another process is running this campaign; wait for it or stop it") from error
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written ({error.strerror or error}); choose another folder") from error
    with lock:
        yield


class CampaignFolder:
    """The folder of a campaign that runs or ran on this machine: its store, its journal and its job folders.

    Parameters
    ----------
    path : Path
        The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.job_store = open_job_store(self.path)
        self.journal = SQLiteStore(str(self.path / STORE_FILE), "journal", indexed=("entry",), key="entry")

    @property
    def exists(self) -> bool:
        """Whether a campaign was ever run here."""
        return (self.path / STORE_FILE).is_file()

    @contextmanager
    def opened(self) -> Iterator[Self]:
        """Connect store and journal as long as the context lasts."""
        self.job_store.connect()
        self.journal.connect()
        try:
            yield self
        finally:
            self.job_store.close()
            self.journal.close()

    @property
    def content(self) -> str | None:
        """What `Campaign.content` was when the campaign was started; None if it never was."""
        row = self.journal.query_one({"entry": "campaign"})
        return None if row is None else str(row["content"])

    @property
    def label(self) -> str:
        """Name of the campaign.

        Raises
        ------
        CampaignError
            No campaign was started here.
        """
        if self.content is None:
            raise CampaignError(f"{self.path}: no campaign was started in this folder; cryslator screen starts one")
        return str(json.loads(self.content)["name"])

    def results(self) -> CampaignResults:
        """What the campaign left so far."""
        return CampaignResults(self.job_store, self.label)

    @property
    def is_running(self) -> bool:
        """Whether a process runs the campaign now."""
        try:
            with FileLock(self.path / LOCK_FILE, timeout=0):
                return False
        except Timeout:
            return True


class CampaignRun:
    """One campaign and the folder that it runs in.

    Parameters
    ----------
    campaign : Campaign
        The campaign.
    path : Path
        Its folder.
    reuse : sequence of Path
        Folders of other campaigns, whose relaxations are not made again. Looked at when the campaign starts.
    """

    def __init__(self, campaign: Campaign, path: Path, reuse: Sequence[Path] = ()) -> None:
        self.campaign = campaign
        self.folder = CampaignFolder(path)
        self.reuse = [CampaignFolder(folder) for folder in reuse]
        self.failures: dict[str, str] = {}

    def run(self, report: Callable[[Happening, Job], None]) -> CampaignSummary:
        """Run the campaign, or what is left of it.

        Parameters
        ----------
        report : callable
            Called with everything that happens and its job.

        Returns
        -------
        CampaignSummary
            Also in the store.

        Raises
        ------
        CampaignError
            The campaign file changed since the campaign was started, or enumeration or translation failed.
        StoreError
            The folder cannot be written or another process runs there.
        """
        with _sole_owner(self.folder.path), self.folder.opened() as folder:
            self._check_unchanged()
            run = LocalRun(folder.job_store, folder.journal, folder.path / "jobs", report)
            run.run(self.campaign.to_flow(list(self._known())))
            self.failures = run.failures()
            return self._summary()

    def _known(self) -> Iterator[RelaxationComparison]:
        settings = self.campaign.to_maker().settings_key() if self.reuse else None
        for other in self.reuse:
            if not other.exists:
                raise CampaignError(f"{other.path}: no campaign was run in this folder, there is nothing to reuse")
            with other.opened():
                yield from (item for item in other.results().comparisons() if item.settings == settings)

    def _check_unchanged(self) -> None:
        """Refuse a campaign that changed after its first job was done; before that it simply starts anew."""
        journal, content = self.folder.journal, self.folder.content
        if content is None or not journal.count({"state": "done"}):
            journal.remove_docs({})
            journal.update({"entry": "campaign", "content": self.campaign.content()}, key="entry")
        elif changed := self.campaign.changed_keys(content):
            raise CampaignError(
                f"campaign {self.campaign.name!r}: {', '.join(changed)} changed since it was started in "
                f"{self.folder.path}; change it back, or give another folder with --output"
            )

    def _summary(self) -> CampaignSummary:
        summary = self.folder.results().stored_summary()
        if summary is None:
            reason = next(iter(self.failures.values()), "no job ended")
            raise CampaignError(
                f"campaign {self.campaign.name!r}: not finished ({reason}); mend that and give the same command again"
            )
        return summary
