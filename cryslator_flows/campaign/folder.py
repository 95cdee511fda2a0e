"""The folder of a campaign on this machine."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from filelock import FileLock, Timeout
from jobflow import JobStore

from cryslator_flows.campaign.results import CampaignResults
from cryslator_flows.campaign.store import SQLiteStore
from cryslator_flows.errors import CampaignError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

STORE_FILE = "campaign.sqlite"
LOCK_FILE = ".lock"


def open_job_store(folder: Path | str) -> JobStore:
    """The campaign folder's JobStore: outputs, and big objects in the additional store ``data``."""
    path = str(Path(folder) / STORE_FILE)
    outputs = SQLiteStore(path, "outputs", indexed=("uuid", "metadata.stage"))
    return JobStore(outputs, additional_stores={"data": SQLiteStore(path, "data")})


@contextmanager
def sole_owner(folder: Path) -> Iterator[None]:
    """Keep a second process from running the same campaign; the lock dies with its process.

    Raises
    ------
    StoreError
        Another process runs it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Whoever looks whether the campaign runs holds the lock for a moment.
        lock = FileLock(folder / LOCK_FILE, timeout=1).acquire()
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
    path : Path or str
        The folder.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()
        self.job_store = open_job_store(self.path)
        self.journal = SQLiteStore(str(self.path / STORE_FILE), "journal", indexed=("entry",), key="entry")

    @property
    def exists(self) -> bool:
        """Whether a campaign was ever run here."""
        # Unlike Path.is_file, false for names that are too long for the system.
        return os.path.isfile(self.path / STORE_FILE)  # noqa: PTH113

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
