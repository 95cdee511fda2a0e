"""The function behind a maker's job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def undecorated(make: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that jobflow's ``@job`` wraps, to run it inside another job.

    Parameters
    ----------
    make : callable
        The ``make`` of a class, as in ``undecorated(AseRelaxMaker.make)(maker, structure)``.
    """
    return make.original  # type: ignore[attr-defined]  # jobflow sets it, and its types do not show it.
