"""The jobs that a maker makes, and the functions behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobflow import Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobflow import Flow


def jobs_of(work: Job | Flow) -> list[Job]:
    """List the jobs of a job or flow in the order they run."""
    return [work] if isinstance(work, Job) else [job for job, _ in work.iterflow()]


def undecorated(make: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that jobflow's ``@job`` wraps, to run it inside another job.

    Parameters
    ----------
    make : callable
        The ``make`` of a class, as in ``undecorated(AseRelaxMaker.make)(maker, structure)``.
    """
    return make.original  # type: ignore[attr-defined]  # jobflow sets it, and its types do not show it.
