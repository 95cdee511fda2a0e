"""Rates and remaining times of a watched campaign."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cryslator_flows.running.status import ENDED

if TYPE_CHECKING:
    from cryslator_flows.running.status import CampaignStatus

# With fewer jobs the time of the others cannot be estimated.
JOBS_FOR_ETA = 2


class WatchedProgress:
    """Rates and remaining times, from the jobs that ended since the first look."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._before: Counter[str] = Counter()
        self._seconds = 0.0
        self._finished: Counter[str] = Counter()
        self._unfinished: dict[str, int] = {}

    def add(self, seconds: float, status: CampaignStatus) -> None:
        """Add a status of the campaign.

        Parameters
        ----------
        seconds : float
            Time of the status by a monotonic clock, in s.
        status : CampaignStatus
            The status.
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
        """Estimate the remaining seconds of the known jobs of each unfinished stage; None before two of them ended."""
        return {
            stage: number * self._seconds / self._finished[stage] if self._finished[stage] >= JOBS_FOR_ETA else None
            for stage, number in self._unfinished.items()
            if number
        }

    def lines(self) -> list[str]:
        """Describe rate and remaining times in words."""
        rate = "unknown yet" if self.rate is None else f"{self.rate:.1f} jobs per minute"
        lines = [f"Rate while watching: {rate}"]
        for stage, seconds in self.remaining().items():
            left = "unknown yet" if seconds is None else f"about {in_words(seconds)}"
            known = ", of the jobs known so far" if stage in ("relax", "compare") else ""
            lines.append(f"{stage}: {left} to go{known}" if seconds is not None else f"{stage}: time to go {left}")
        return lines


def in_words(seconds: float) -> str:
    """Return a time in hours and minutes, or in minutes and seconds.

    >>> in_words(7380), in_words(75)
    ('2 h 3 min', '1 min 15 s')
    """
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
