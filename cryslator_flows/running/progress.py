"""How fast a campaign that is watched goes on."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cryslator_flows.running.status import ENDED

if TYPE_CHECKING:
    from cryslator_flows.running.status import CampaignStatus

# Fewer jobs than these tell nothing about how long the others take.
JOBS_FOR_ETA = 2


class WatchedProgress:
    """Rates and remaining times, from what finished since the first look."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._before: Counter[str] = Counter()
        self._seconds = 0.0
        self._finished: Counter[str] = Counter()
        self._unfinished: dict[str, int] = {}

    def add(self, seconds: float, status: CampaignStatus) -> None:
        """Take in a look at the campaign.

        Parameters
        ----------
        seconds : float
            When, by any clock that only goes forward, in s.
        status : CampaignStatus
            What was seen.
        """
        ended = Counter({stage: sum(states[state] for state in ENDED) for stage, states in status.counts.items()})
        if self._began is None:
            self._began, self._before = seconds, ended
        self._seconds = seconds - self._began
        self._finished = ended - self._before
        self._unfinished = {stage: states.total() - ended[stage] for stage, states in status.counts.items()}

    @property
    def rate(self) -> float | None:
        """Jobs that ended per minute, over the watched time; None at the first look."""
        return 60 * self._finished.total() / self._seconds if self._seconds > 0 else None

    def remaining(self) -> dict[str, float | None]:
        """Seconds that the known jobs of each unfinished stage still take; None before two of them ended."""
        return {
            stage: number * self._seconds / self._finished[stage] if self._finished[stage] >= JOBS_FOR_ETA else None
            for stage, number in self._unfinished.items()
            if number
        }

    def lines(self) -> list[str]:
        """Rate and remaining times, for people to read."""
        rate = "unknown yet" if self.rate is None else f"{self.rate:.1f} jobs per minute"
        lines = [f"Rate while watching: {rate}"]
        for stage, seconds in self.remaining().items():
            left = "unknown yet" if seconds is None else f"about {_words(seconds)}"
            known = ", of the jobs known so far" if stage in ("relax", "compare") else ""
            lines.append(f"{stage}: {left} to go{known}" if seconds is not None else f"{stage}: time to go {left}")
        return lines


def _words(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
