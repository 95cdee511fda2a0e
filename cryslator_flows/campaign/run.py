"""Run a campaign on this machine in a folder that it can be resumed from."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock, Timeout
from jobflow import JobStore
from pydantic import BaseModel

from cryslator_flows.campaign.local import Happening, LocalRun
from cryslator_flows.campaign.store import SQLiteStore
from cryslator_flows.crystals.packing import TranslatedChunk
from cryslator_flows.errors import CampaignError, StoreError
from cryslator_flows.schemas import CampaignSummary, RelaxationComparison

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobflow import Job

    from cryslator_flows.campaign.file import Campaign

STORE_FILE = "campaign.sqlite"
Document = TypeVar("Document", bound=BaseModel)


def open_job_store(folder: Path) -> JobStore:
    """The campaign folder's JobStore: outputs, and big objects in the additional store ``data``."""
    path = str(folder / STORE_FILE)
    return JobStore(SQLiteStore(path, "outputs"), additional_stores={"data": SQLiteStore(path, "data")})


@contextmanager
def _sole_owner(folder: Path) -> Iterator[None]:
    """Keep a second process from running the same campaign; the lock dies with its process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0).acquire()
    except Timeout as error:
        raise StoreError(f"{folder}: another process is running this campaign; wait for it or stop it") from error
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written ({error.strerror or error}); choose another folder") from error
    with lock:
        yield


class CampaignRun:
    """One campaign and the folder that holds its store and its job folders.

    Parameters
    ----------
    campaign : Campaign
        The campaign.
    folder : Path
        Its folder.
    """

    def __init__(self, campaign: Campaign, folder: Path) -> None:
        self.campaign = campaign
        self.folder = folder.absolute()
        self.job_store = open_job_store(self.folder)
        self.journal = SQLiteStore(str(self.folder / STORE_FILE), "journal", indexed=("entry",), key="entry")
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
        with _sole_owner(self.folder):
            self.job_store.connect()
            self.journal.connect()
            try:
                self._check_unchanged()
                run = LocalRun(self.job_store, self.journal, self.folder / "jobs", report)
                run.run(self.campaign.to_flow())
                self.failures = run.failures()
                return self._summary()
            finally:
                self.job_store.close()
                self.journal.close()

    def _check_unchanged(self) -> None:
        """Refuse a campaign that changed after its first job was done; before that it simply starts anew."""
        now = json.loads(self.campaign.model_dump_json())
        before = self.journal.query_one({"entry": "campaign"})
        if before is None or not self.journal.count({"state": "done"}):
            self.journal.remove_docs({})
            self.journal.update({"entry": "campaign", "content": json.dumps(now)}, key="entry")
            return
        was: dict[str, Any] = json.loads(before["content"])
        changed = [key for key in now if now[key] != was.get(key)]
        if changed:
            raise CampaignError(
                f"campaign {self.campaign.name!r}: {', '.join(changed)} changed since it was started in {self.folder}; "
                "change it back, or give another folder with --output"
            )

    def _summary(self) -> CampaignSummary:
        documents = self.documents(CampaignSummary)
        if not documents:
            reason = next(iter(self.failures.values()), "no job ended")
            raise CampaignError(
                f"campaign {self.campaign.name!r}: not finished ({reason}); mend that and give the same command again"
            )
        return documents[-1]

    def documents(self, kind: type[Document]) -> list[Document]:
        """All outputs of one kind in the store, big objects loaded."""
        self.job_store.connect()
        rows = self.job_store.query({"output.@class": kind.__name__}, load=True)
        return [kind.model_validate(row["output"]) for row in rows]

    def comparisons(self) -> list[RelaxationComparison]:
        """All comparisons so far, lowest predicted formation energy first."""
        return sorted(self.documents(RelaxationComparison), key=lambda comparison: comparison.formation_energy_per_atom)

    def chunks(self) -> list[TranslatedChunk]:
        """All translated chunks so far."""
        return self.documents(TranslatedChunk)
