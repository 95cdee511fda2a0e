"""Comparison of the minima in which the relaxations of one candidate ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymatgen.core.structure_matcher import StructureMatcher

from cryslator_flows.documents.relaxations import Ending

if TYPE_CHECKING:
    from cryslator_flows.documents.relaxations import Outcome, Relaxation


def compare_ends(relaxations: list[Relaxation], energy_tolerance: float) -> list[Ending]:
    """Compare the end of each relaxation of one candidate with the end from the unrelaxed structure.

    Two ends are the same minimum if their energies agree and StructureMatcher, volumes not scaled, finds the
    structures equal.

    Parameters
    ----------
    relaxations : list of Relaxation
        One for each start.
    energy_tolerance : float
        Largest difference of energies that counts as equal, in eV/atom.

    Returns
    -------
    list of Ending
        One for each start but the unrelaxed one, in the order of `relaxations`.
    """
    unrelaxed = next((item for item in relaxations if item.start == "unrelaxed"), None)
    others = [item for item in relaxations if item.start != "unrelaxed"]
    return [_compare(item, unrelaxed, energy_tolerance) for item in others]


def _compare(item: Relaxation, unrelaxed: Relaxation | None, energy_tolerance: float) -> Ending:
    difference = None
    if unrelaxed and unrelaxed.energy_per_atom is not None and item.energy_per_atom is not None:
        difference = item.energy_per_atom - unrelaxed.energy_per_atom
    return Ending(
        start=item.start,
        outcome=_outcome(item, unrelaxed, difference, energy_tolerance),
        energy_difference=difference,
    )


def _outcome(
    item: Relaxation, unrelaxed: Relaxation | None, difference: float | None, energy_tolerance: float
) -> Outcome:
    both = [item] if unrelaxed is None else [item, unrelaxed]
    ended = [(one.cost.converged, one.structure) for one in both if one.cost is not None and one.structure is not None]
    if len(ended) < len(both):
        return "failed"
    converged = [flag for flag, _ in ended]
    if False in converged:
        return "unconverged"
    if unrelaxed is None or difference is None or None in converged:
        return "not compared"
    (_, structure), (_, reference) = ended
    same = StructureMatcher(scale=False).fit(reference, structure)
    if same and abs(difference) <= energy_tolerance:
        return "same minimum"
    return "ended lower" if difference < 0 else "ended higher"
