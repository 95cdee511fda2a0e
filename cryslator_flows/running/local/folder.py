"""The folder of a campaign on this machine."""

from __future__ import annotations

import json
import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from filelock import FileLock, Timeout
from jobflow import JobStore
from monty.json import MontyEncoder
from pydantic import TypeAdapter

from cryslator_flows.crystals.columns import squeeze, unsqueeze
from cryslator_flows.crystals.source_files import STORE_FILE
from cryslator_flows.documents.references import Known
from cryslator_flows.errors import CampaignError, StoreError
from cryslator_flows.results.results import CampaignResults
from cryslator_flows.running.local.journal import Journal
from cryslator_flows.system.current_folder import absolute_path
from cryslator_flows.system.sqlite_store import SQLiteStore
from cryslator_flows.system.whole_files import unwritable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cryslator_flows.documents.stages import Stage

LOCK_FILE = ".lock"
JOBS_FOLDER = "jobs"
JOB_FOLDER = re.compile(r"([\w-]{26,36})-(\d+)")


def open_job_store(folder: Path | str, read_only: bool = False) -> JobStore:
    """Return the campaign folder's JobStore: outputs, and big objects in the additional store ``data``."""
    path = str(Path(folder) / STORE_FILE)
    outputs = SQLiteStore(path, "outputs", indexed=("uuid", "metadata.stage"), read_only=read_only)
    return JobStore(outputs, additional_stores={"data": SQLiteStore(path, "data", read_only=read_only)})


@contextmanager
def sole_owner(folder: Path) -> Iterator[None]:
    """Prevent a second process from running the same campaign; the lock ends with its process.

    Raises
    ------
    StoreError
        Another process runs it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A process that checks whether the campaign runs holds the lock for a moment.
        lock = FileLock(folder / LOCK_FILE, timeout=1).acquire()
    except Timeout as error:
        raise StoreError(f"{folder}: another process is running this campaign; wait for it or stop it") from error
    except OSError as error:
        raise unwritable(folder, error) from error
    with lock:
        yield


class CampaignFolder:
    """The folder of a campaign on this machine: its store, its journal and its job folders.

    Parameters
    ----------
    path : Path or str
        The folder.
    read_only : bool
        Change nothing in the folder, so that a folder without write access can be read.
    """

    def __init__(self, path: Path | str, read_only: bool = False) -> None:
        self.path = absolute_path(path)
        self.job_store = open_job_store(self.path, read_only)
        store = str(self.path / STORE_FILE)
        self.journal = SQLiteStore(store, "journal", indexed=("entry", "state"), read_only=read_only, key="entry")

    @property
    def exists(self) -> bool:
        """Return True if a campaign was started here."""
        # Unlike Path.is_file, False for names that are too long for the system.
        return os.path.isfile(self.path / STORE_FILE)  # noqa: PTH113

    @contextmanager
    def opened(self) -> Iterator[Self]:
        """Connect store and journal for the duration of the context.

        Raises
        ------
        StoreError
            They cannot be opened, or have lost jobs that ran.
        """
        self.job_store.connect()
        self.journal.connect()
        try:
            self._check_whole()
            yield self
        finally:
            self.job_store.close()
            self.journal.close()

    def _check_whole(self) -> None:
        """Refuse a journal that lacks jobs with a folder: the journal had their start before."""
        jobs = self.path / JOBS_FOLDER
        # In this order: a job that starts now is in the journal before the journal is read.
        names = [JOB_FOLDER.fullmatch(path.name) for path in jobs.iterdir()] if jobs.is_dir() else []
        ran = {f"{name[1]}:{name[2]}" for name in names if name}
        if lost := len(ran) - Journal(self.journal).count(ran):
            store = self.path / STORE_FILE
            raise StoreError(
                f"{store}: has lost {lost} jobs that have a folder in {jobs}; put back {STORE_FILE}-wal, "
                "which a killed process leaves with the last stored documents, or start in another folder"
            )

    @property
    def content(self) -> str | None:
        """Return `Campaign.content` at the start of the campaign; None if it was not started."""
        row = self.journal.query_one({"entry": "campaign"})
        return None if row is None else str(row["content"])

    @property
    def planned(self) -> dict[Stage, float]:
        """Return the core-hours by stage that were estimated at the start of the campaign; empty if unknown."""
        row = self.journal.query_one({"entry": "campaign"})
        return {} if row is None else dict(row.get("planned") or {})

    def start(self, content: str, known: Sequence[Known], planned: dict[Stage, float] | None = None) -> None:
        """Store the content of the campaign that starts.

        Parameters
        ----------
        content : str
            `Campaign.content`.
        known : sequence of Known
            Relaxations that the campaign reuses.
        planned : dict or None
            Estimated core-hours by stage; None if unknown.
        """
        Journal(self.journal).restart()
        reused = squeeze(json.dumps(known, cls=MontyEncoder))
        campaign = {"entry": "campaign", "content": content, "planned": planned or {}}
        self.journal.update([campaign, {"entry": "known", "known": reused}], "entry")

    def restate(self, content: str) -> None:
        """Store the new content of a campaign whose finished jobs do not depend on the changes.

        Parameters
        ----------
        content : str
            `Campaign.content`.
        """
        self.journal.update({"entry": "campaign", "content": content, "planned": self.planned}, key="entry")

    def known(self) -> list[Known]:
        """Return the relaxations of other campaigns that the campaign reuses."""
        row = self.journal.query_one({"entry": "known"})
        return TypeAdapter(list[Known]).validate_json(unsqueeze(row["known"])) if row else []

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
        """Return the results of the campaign so far."""
        return CampaignResults(self.job_store, self.label)

    @property
    def is_running(self) -> bool:
        """Return True if a process runs the campaign now."""
        import fcntl

        try:
            # Not by FileLock, which opens the file for writing.
            with (self.path / LOCK_FILE).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False
