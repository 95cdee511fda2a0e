"""The ends of relaxations that count: converged, and not by a test double."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryslator_flows.documents.relaxations import Relaxation, RelaxationComparison, RelaxationCost

FAILED = "relaxation failed"
NOT_CONVERGED = "not converged"
CONVERGENCE_UNKNOWN = "nothing says whether it converged"
TEST_DOUBLE = "made by a test double of the engine"


def converged_ends(relaxations: Iterable[Relaxation]) -> list[Relaxation]:
    """Return the relaxations of one candidate whose end counts, the lowest energy first.

    Parameters
    ----------
    relaxations : iterable of Relaxation
        The candidate relaxed from several starts by one engine.

    Returns
    -------
    list of Relaxation
        All have a finite energy. Ends of equal energy stay in the order given.
    """
    return sorted((item for item in relaxations if why_no_end(item) is None), key=_energy)


def lowest_ends(comparisons: Iterable[RelaxationComparison]) -> dict[str, Relaxation]:
    """Return the lowest converged end of each candidate that has one."""
    ends = {comparison.candidate_id: converged_ends(comparison.relaxations)[:1] for comparison in comparisons}
    return {candidate: end for candidate, lowest in ends.items() for end in lowest}


def measured_engines(comparisons: Sequence[RelaxationComparison]) -> list[str]:
    """List the engines of the relaxations, without test doubles."""
    costs = [item.cost for comparison in comparisons for item in comparison.relaxations if item.cost]
    return sorted({cost.engine for cost in costs if not cost.synthetic})


def why_no_end(relaxation: Relaxation) -> str | None:
    """Return the reason for which the end of a relaxation does not count; None if it does."""
    cost = relaxation.cost
    if cost is not None and cost.synthetic:
        return TEST_DOUBLE
    if relaxation.error is not None and relaxation.structure is None:
        return relaxation.error
    if cost is None or not math.isfinite(_energy(relaxation)):
        return FAILED
    return why_not_converged(cost)


def why_not_converged(cost: RelaxationCost) -> str | None:
    """Return the reason for which a relaxation is not known to have converged; None if it is."""
    if cost.converged is None:
        return CONVERGENCE_UNKNOWN
    return None if cost.converged else NOT_CONVERGED


def _energy(relaxation: Relaxation) -> float:
    return math.inf if relaxation.energy_per_atom is None else relaxation.energy_per_atom
