"""Did two starts of one candidate end in the same minimum?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymatgen.core.structure_matcher import StructureMatcher

if TYPE_CHECKING:
    from cryslator_flows.schemas import Outcome, Relaxation


def compare_ends(relaxations: list[Relaxation], energy_tolerance: float) -> tuple[Outcome, float | None]:
    """Classify how the relaxations of one candidate ended.

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
    outcome : str
        See `cryslator_flows.schemas.Outcome`.
    energy_difference : float or None
        Translated minus unrelaxed end, in eV/atom; None if one of them is missing.
    """
    ends = {item.start: item for item in relaxations}
    unrelaxed, translated = ends.get("unrelaxed"), ends.get("translated")
    difference = None
    if unrelaxed and translated and unrelaxed.energy_per_atom is not None and translated.energy_per_atom is not None:
        difference = translated.energy_per_atom - unrelaxed.energy_per_atom
    if any(item.cost is None or item.structure is None for item in relaxations):
        return "failed", difference
    if not all(item.cost.converged for item in relaxations if item.cost):
        return "unconverged", difference
    if unrelaxed is None or translated is None or difference is None:
        return "not compared", difference
    same = StructureMatcher(scale=False).fit(unrelaxed.structure, translated.structure)
    if same and abs(difference) <= energy_tolerance:
        return "same minimum", difference
    return ("translated lower" if difference < 0 else "translated higher"), difference
