"""Handlers of custodian in the VASP makers of any maker."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from atomate2.vasp.jobs.base import BaseVaspMaker
from atomate2.vasp.run import DEFAULT_HANDLERS
from jobflow.core.maker import recursive_call

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from custodian.custodian import ErrorHandler
    from jobflow import Maker


def add_handlers(maker: Maker, handlers: Sequence[ErrorHandler]) -> Maker:
    """Add handlers to every VASP maker inside a maker.

    Parameters
    ----------
    maker : Maker
        Any maker. A VASP maker whose ``run_vasp_kwargs`` name no handlers has atomate2's default handlers and keeps
        them.
    handlers : sequence of ErrorHandler
        The handlers, which are called before the others. A job of type ``direct`` never calls them, since it runs
        without custodian.

    Returns
    -------
    Maker
        A copy, or the same maker if it holds no VASP maker.
    """

    def add(vasp_maker: BaseVaspMaker) -> BaseVaspMaker:
        present = vasp_maker.run_vasp_kwargs.get("handlers", DEFAULT_HANDLERS)
        return replace(vasp_maker, run_vasp_kwargs={**vasp_maker.run_vasp_kwargs, "handlers": [*handlers, *present]})

    return update_vasp_makers(maker, add)


def vasp_makers(maker: Maker) -> list[BaseVaspMaker]:
    """List the VASP makers of atomate2 inside a maker, in the order of its fields."""
    found: list[BaseVaspMaker] = []

    def note(vasp_maker: BaseVaspMaker) -> BaseVaspMaker:
        found.append(vasp_maker)
        return vasp_maker

    update_vasp_makers(maker, note)
    return found


def update_vasp_makers(maker: Maker, update: Callable[[BaseVaspMaker], BaseVaspMaker]) -> Maker:
    """Update every VASP maker inside a maker.

    Parameters
    ----------
    maker : Maker
        Any maker.
    update : callable
        Makes the new VASP maker from the old one.

    Returns
    -------
    Maker
        A copy, or the same maker if it holds no VASP maker.
    """
    updated: list[BaseVaspMaker] = []

    def note(vasp_maker: BaseVaspMaker) -> BaseVaspMaker:
        updated.append(update(vasp_maker))
        return updated[-1]

    # The filter passes VASP makers only, which jobflow's types do not show.
    copy = recursive_call(maker, note, class_filter=BaseVaspMaker)  # type: ignore[arg-type]
    return copy if updated else maker
