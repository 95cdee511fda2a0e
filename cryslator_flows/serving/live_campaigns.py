"""Campaigns that a server watches: their jobs, their pages and their candidates, each read when it has changed."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from cryslator_flows.errors import CryslatorError, one_line, without_passwords
from cryslator_flows.report.headline import headline
from cryslator_flows.report.page.whole_page import BESIDE, LivePart, draw_page
from cryslator_flows.report.written import read_content
from cryslator_flows.running.local.folder import CampaignFolder
from cryslator_flows.running.status import ENDED, CampaignStatus
from cryslator_flows.serving.candidate_search import FoundRow, searchable

if TYPE_CHECKING:
    from collections.abc import Hashable

    from cryslator_flows.report.page.whole_page import PageContent
    from cryslator_flows.serving.campaign_sources import CampaignSource

SCRIPT = Path(__file__).with_name("live.js").read_text(encoding="utf-8")
# A campaign is read again after this multiple of the time that it took, so that many changes cost a quarter of a core.
REST = 3
# Pages of some megabytes that stay in memory.
MOST_PAGES = 20
# States of another server have other names, as its pages may be of another version.
SERVER = secrets.token_hex(4)


@dataclass(frozen=True)
class LiveStatus:
    """The jobs of a campaign at one moment.

    Parameters
    ----------
    label : str
        The campaign's label.
    folder : Path
        Folder of its reports.
    state : str
        Text that is another after each change that the page shows.
    word : str
        State of the campaign in a word.
    progress : str
        Its jobs in words.
    status : CampaignStatus or None
        Its status; None if it cannot be read.
    error : str
        Reason why it cannot be read; else empty.
    """

    label: str
    folder: Path
    state: str
    word: str
    progress: str
    status: CampaignStatus | None = None
    error: str = ""

    @property
    def is_final(self) -> bool:
        """True if no job waits or runs."""
        return self.status is not None and self.status.is_finished


@dataclass(frozen=True)
class Listing:
    """Results of a campaign in one line, and its candidates for a search.

    Parameters
    ----------
    state : str
        State of the campaign when it was read.
    translated, selected, relaxed : int or None
        Numbers of candidates; None if there are no results.
    best : str
        Its best result in words.
    rows : list of FoundRow
        The candidates in the table of its page.
    error : str
        Reason why its results cannot be read, or are not there yet; else empty.
    """

    state: str
    translated: int | None = None
    selected: int | None = None
    relaxed: int | None = None
    best: str = ""
    rows: list[FoundRow] = field(default_factory=list)
    error: str = ""


class Page(NamedTuple):
    """A drawn page, and the state of the campaign that it shows."""

    state: str
    html: bytes


class LiveCampaign:
    """A campaign that a server watches.

    Threads may share it: one reads the campaign, and the others wait for the result.

    Parameters
    ----------
    source : CampaignSource
        Its place.
    key : str
        Its key there.
    """

    def __init__(self, source: CampaignSource, key: str) -> None:
        self.source = source
        self.key = key
        self.listing: Listing | None = None
        self._drawn: Page | None = None
        self._looking, self._reading = Lock(), Lock()
        self._mark: Hashable = None
        self._seen: LiveStatus | None = None
        self._rest_until = 0.0

    def look(self, mark: Hashable) -> LiveStatus:
        """Return the jobs of the campaign, which are read if its mark has changed, or after an error."""
        with self._looking:
            if self._seen is None or self._seen.error or mark != self._mark:
                self._seen, self._mark = self._read_jobs(), mark
            return self._seen

    def shown_state(self, seen: LiveStatus) -> str:
        """Return the state that a page would show that is requested now."""
        return seen.state if self._drawn is None or self._is_due(self._drawn.state, seen) else self._drawn.state

    def page(self, seen: LiveStatus) -> Page:
        """Return the page, which is drawn if the campaign has changed.

        Raises
        ------
        CryslatorError
            The results cannot be read, or are not there yet.
        """
        with self._reading:
            if self._drawn is None or self._is_due(self._drawn.state, seen):
                began = monotonic()
                content = self._read(seen)
                html = draw_page(content, seen.folder, LivePart(SCRIPT, seen.state, seen.is_final))
                self._drawn = Page(seen.state, html.encode())
                self._rest(began)
            return self._drawn

    def read_listing(self, seen: LiveStatus) -> None:
        """Read the results, if the campaign has changed or after an error, which becomes a part of the listing."""
        with self._reading:
            if self.listing is None or self._is_due("" if self.listing.error else self.listing.state, seen):
                began = monotonic()
                try:
                    self._read(seen)
                # Whatever is wrong with one campaign, the others are shown.
                except Exception as error:
                    self.listing = Listing(seen.state, error=without_passwords(one_line(error)))
                self._rest(began)

    def forget_page(self) -> None:
        """Free the memory of the page."""
        self._drawn = None

    def _is_due(self, state: str, seen: LiveStatus) -> bool:
        return state != seen.state and monotonic() >= self._rest_until

    def _rest(self, began: float) -> None:
        now = monotonic()
        self._rest_until = now + REST * (now - began)

    def _read(self, seen: LiveStatus) -> PageContent:
        with self.source.opened(self.key) as started:
            content = read_content(started, seen.status or CampaignStatus(started.label, ""))
        summary = content.summary
        words = headline(summary, content.relaxed, content.selected).sentence
        self.listing = Listing(
            seen.state, summary.translated, summary.selected, summary.relaxed, words, searchable(content)
        )
        return content

    def _read_jobs(self) -> LiveStatus:
        try:
            with self.source.opened(self.key) as started:
                status = started.status()
                revision, folder = started.revision(), started.folder
        except Exception as error:
            words = without_passwords(one_line(error))
            return LiveStatus(self.key, Path(), state_of(words), "error", "cannot be read", error=words)
        totals = status.totals
        done = sum(totals[state] for state in ENDED)
        word = _word(status, isinstance(started.place, CampaignFolder))
        progress = f"{word}: {done} of {totals.total()} jobs done"
        if totals["failed"]:
            progress += f", {totals['failed']} of them failed"
        # Jobs that start change no page.
        jobs = bool(status.go_on), *(totals[state] for state in ENDED), totals.total()
        shown = revision, jobs, [name for name in BESIDE if (folder / name).is_file()]
        return LiveStatus(status.label, folder, state_of(shown), word, progress, status)


class Catalog:
    """All campaigns of a place.

    Parameters
    ----------
    source : CampaignSource
        The place.
    """

    def __init__(self, source: CampaignSource) -> None:
        self.source = source
        self._campaigns: dict[str, LiveCampaign] = {}
        self._drawn: OrderedDict[str, None] = OrderedDict()
        self._lock, self._listing = Lock(), Lock()

    def look(self) -> dict[str, tuple[LiveCampaign, LiveStatus]]:
        """Return the campaigns that there are now, by key."""
        marks = self.source.marks()
        with self._lock:
            self._campaigns = {key: self._campaigns.get(key) or LiveCampaign(self.source, key) for key in marks}
            campaigns = dict(self._campaigns)
        return {key: (campaigns[key], campaigns[key].look(mark)) for key, mark in marks.items()}

    def page(self, campaign: LiveCampaign, seen: LiveStatus) -> Page:
        """Return the page of a campaign; only the last pages stay in memory."""
        page = campaign.page(seen)
        with self._lock:
            self._drawn[campaign.key] = None
            self._drawn.move_to_end(campaign.key)
            while len(self._drawn) > MOST_PAGES:
                oldest = self._campaigns.get(self._drawn.popitem(last=False)[0])
                if oldest is not None:
                    oldest.forget_page()
        return page

    def start_reading(self) -> None:
        """Read the results of all campaigns that have changed in another thread, unless one reads them already."""
        if self._listing.acquire(blocking=False):
            # It ends with the process, which does not wait for it.
            Thread(target=self._read_listings, daemon=True).start()

    def _read_listings(self) -> None:
        try:
            for campaign, seen in self.look().values():
                if not seen.error:
                    campaign.read_listing(seen)
        # The next look reports what is wrong with the place.
        except CryslatorError:
            pass
        finally:
            self._listing.release()


def _word(status: CampaignStatus, is_folder: bool) -> str:
    if status.is_finished:
        return "finished"
    if status.go_on:
        return "stopped"
    return "running" if is_folder or status.totals["running"] else "waiting"


def state_of(content: object) -> str:
    """Return a short text that is another for any other content, and on any other server."""
    return f"{SERVER}-{hashlib.sha256(repr(content).encode()).hexdigest()[:16]}"
