"""One start of an engine, and sums over several."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, Field

from cryslator_flows.documents.relaxations import RelaxationCost

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

T = TypeVar("T")


class Attempt(BaseModel):
    """Steps and time that one start of an engine spent."""

    attempt_id: str | None = Field(description="Equal in all copies of one attempt; None until OUTCAR has its head")
    electronic_steps: list[int] = Field(description="Electronic (SCF) steps of each ionic step that began")
    discarded: bool = Field(False, description="Custodian corrected an error after it and started the engine again")
    response_steps: list[int] = Field(default_factory=list, description="Steps of each loop of linear response")
    converged: bool | None = Field(
        None, description="True if it ended by itself and reached the relaxation's criterion; None if unknown"
    )
    n_kpoints: int | None = Field(None, description="Irreducible k-points")
    wall_time: float | None = Field(None, description="Wall time that the engine reports at its end, in s")
    synthetic: bool = Field(False, description="Made by a test double of the engine")


def sum_attempts(attempts: Sequence[Attempt], engine: str, dir_name: str, guard: str | None = None) -> RelaxationCost:
    """Sum the cost of a relaxation over its attempts.

    Parameters
    ----------
    attempts : sequence of Attempt
        In the order they ran.
    engine : str
        The engine.
    dir_name : str
        The directory of the run.
    guard : str, optional
        The guard's reason to return to the unrelaxed structure.

    Returns
    -------
    RelaxationCost
        Without a finished electronic step the counts are unknown (None), not 0. The k-points are unknown if attempts
        differ in them. The wall time is unknown if an attempt was killed before it reported its time.
    """
    last = attempts[-1] if attempts else None
    steps = [step for attempt in attempts for step in attempt.electronic_steps]
    discarded = sum(sum(attempt.electronic_steps) for attempt in attempts if attempt.discarded)
    return RelaxationCost(
        engine=engine,
        ionic_steps=len(steps) if steps else None,
        electronic_steps=steps or None,
        attempts=len(attempts) or None,
        discarded_electronic_steps=discarded if steps else None,
        n_kpoints=only(attempt.n_kpoints for attempt in attempts if attempt.electronic_steps),
        response_steps=[step for attempt in attempts for step in attempt.response_steps] or None,
        converged=None if last is None else False if last.discarded else last.converged,
        guard=guard,
        synthetic=any(attempt.synthetic for attempt in attempts),
        wall_time=total(attempt.wall_time for attempt in attempts),
        dir_name=dir_name,
    )


def sum_costs(costs: Sequence[RelaxationCost]) -> RelaxationCost:
    """Sum the cost of a relaxation that ran in several parts.

    Parameters
    ----------
    costs : sequence of RelaxationCost
        In the order they ran, at least one.

    Returns
    -------
    RelaxationCost
        A sum with an unknown part is None. K-points that differ are None. Converged if the last part converged.
    """
    return RelaxationCost(
        engine=costs[-1].engine,
        ionic_steps=total(cost.ionic_steps for cost in costs),
        electronic_steps=joined(cost.electronic_steps for cost in costs),
        attempts=total(cost.attempts for cost in costs),
        discarded_electronic_steps=total(cost.discarded_electronic_steps for cost in costs),
        n_kpoints=only(cost.n_kpoints for cost in costs),
        response_steps=joined(cost.response_steps for cost in costs),
        converged=costs[-1].converged,
        guard=next((cost.guard for cost in costs if cost.guard is not None), None),
        synthetic=any(cost.synthetic for cost in costs),
        wall_time=total(cost.wall_time for cost in costs),
        core_hours=total(cost.core_hours for cost in costs),
        dir_name=costs[-1].dir_name,
    )


def total(numbers: Iterable[T | None]) -> T | None:
    """Return the sum; None if a number is unknown or the list is empty."""
    numbers = list(numbers)
    if not numbers or None in numbers:
        return None
    return sum(numbers)  # type: ignore[arg-type,return-value]


def joined(lists: Iterable[list[int] | None]) -> list[int] | None:
    """Join all lists; None if one of them is unknown."""
    lists = list(lists)
    return None if None in lists else [number for part in lists for number in part or ()]


def only(values: Iterable[T | None]) -> T | None:
    """Return the value that all share; None if they differ or the list is empty."""
    found = set(values)
    return found.pop() if len(found) == 1 else None
