"""The result of a campaign: relaxed candidates, with formation energies and a hull by their engine."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pymatgen.symmetry.analyzer import SymmetryUndeterminedError

from cryslator_flows.analysis.ends import lowest_ends, measured_engines
from cryslator_flows.analysis.formation_energies import formation_energies, is_corrected
from cryslator_flows.screening.fetched_phases import THERMO_TYPES
from cryslator_flows.screening.hulls import Competition, hull_energies
from cryslator_flows.screening.known_phases import symbols_of, systems_within

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from cryslator_flows.documents.references import FetchedPhases
    from cryslator_flows.documents.relaxations import RelaxationComparison, RelaxationCost

# Potentials that learnt the corrected energies of the Materials Project, which the known compounds have too.
CORRECTED_POTENTIALS = ("CHGNet",)
# The Materials Project's own precision for relaxed structures, in angstrom.
SYMPREC = 0.1
RELAXED_COLUMNS = [
    "formula", "template_id", "formation_energy_per_atom", "energy_above_hull", "energy_above_known_hull",
    "space_group", "volume_per_atom", "ionic_steps", "electronic_steps", "start", "competitors", "n_atoms",
    "energy_per_atom", "predicted_formation_energy_per_atom", "engine",
]  # fmt: skip


def relaxed_frame(
    comparisons: list[RelaxationComparison],
    element_energies: dict[str, float],
    competition: Competition,
    fetched: FetchedPhases | None = None,
) -> pd.DataFrame:
    """Make a table of the relaxed candidates, the most stable first.

    Parameters
    ----------
    comparisons : list of RelaxationComparison
        All comparisons of the campaign; candidates without a converged end are left out.
    element_energies : dict
        Symbol to energy of the element by the same engine, in eV/atom.
    competition : Competition
        Known phases that the candidates may decompose into.
    fetched : FetchedPhases or None
        Phases that the campaign fetched from the Materials Project, see `fetch_phases`.

    Returns
    -------
    DataFrame
        By ``candidate_id``; all values are of its lowest converged end. ``formation_energy_per_atom`` is relative to
        the elements by the same engine. ``energy_above_hull`` is above the hull of these elements and all relaxed
        candidates. It is missing if no other relaxed candidate is in the chemical system or within it; their number is
        in ``competitors``. ``energy_above_known_hull`` is above the hull of known phases alone, for engines on the
        scale of their energies, see `known_competition`. Energies are in eV/atom, volumes in cubic angstrom.
    """
    ends = lowest_ends(comparisons)
    chosen = [item for item in comparisons if item.candidate_id in ends]
    found = formation_energies(chosen, element_energies) if len(measured_engines(chosen)) == 1 else None
    energies = {} if found is None or found.fitted else found.energies
    hull = _hull([item for item in chosen if item.candidate_id in energies], energies)
    rows = []
    for item in chosen:
        end = ends[item.candidate_id]
        energy = energies.get(item.candidate_id, np.nan)
        above, competitors = hull.get(item.reduced_formula, (np.nan, 0))
        rows.append({
            "candidate_id": item.candidate_id,
            "formula": item.reduced_formula,
            "template_id": item.template_id,
            "formation_energy_per_atom": energy,
            # Unlike max, it keeps an unknown energy unknown.
            "energy_above_hull": float(np.maximum(0.0, energy - above)) if competitors else np.nan,
            "competitors": competitors,
            "predicted_formation_energy_per_atom": item.formation_energy_per_atom,
            **end.model_dump(include={"start", "energy_per_atom"}),
            **_cost(end.cost),
            **describe_structure(end.structure),
        })  # fmt: skip
    frame = pd.DataFrame(rows, columns=["candidate_id", *RELAXED_COLUMNS]).set_index("candidate_id")
    known = known_competition(chosen, competition, fetched)
    if known is not None:
        frame["energy_above_known_hull"] = known.energies_above(
            frame["formula"].tolist(), frame["formation_energy_per_atom"].tolist()
        )
    frame = frame.astype({"ionic_steps": "Int64", "electronic_steps": "Int64", "energy_above_known_hull": float})
    return frame.sort_values(
        ["energy_above_known_hull", "energy_above_hull", "formation_energy_per_atom"], kind="stable"
    )


def known_competition(
    comparisons: list[RelaxationComparison], competition: Competition, fetched: FetchedPhases | None
) -> Competition | None:
    """Return the known phases whose energies may stand beside the engine's; None if there are none.

    The shipped known compounds have the corrections of the Materials Project. So must the engine's energies: by
    `is_corrected`, or because a potential learnt them. Fetched phases of the same functional take their place.
    """
    corrected = is_corrected(comparisons)
    if phases := fetched_for(comparisons, fetched):
        return Competition(phases, known=False)
    learnt = {*measured_engines(comparisons)} <= {*CORRECTED_POTENTIALS}
    return competition if corrected or learnt else None


def fetched_for(comparisons: list[RelaxationComparison], fetched: FetchedPhases | None) -> dict[str, float]:
    """Return the fetched phases of the functional of all lowest ends; empty if there are none.

    Energies of GGA(+U) need the corrections of `is_corrected`, energies of r2SCAN need none.
    """
    run_types = {end.entry_parameters.get("run_type") for end in lowest_ends(comparisons).values()}
    thermo_types = {THERMO_TYPES.get(str(name)) for name in run_types}
    if fetched is None or len(thermo_types) != 1 or not (run_types == {"r2SCAN"} or is_corrected(comparisons)):
        return {}
    return fetched.energies.get(str(thermo_types.pop()), {})


def _hull(chosen: list[RelaxationComparison], energies: dict[str, float]) -> dict[str, tuple[float, int]]:
    """Return the energy of the hull at each formula, and the number of other candidates in its system or within it."""
    lowest: dict[str, float] = {}
    for item in chosen:
        energy = energies[item.candidate_id]
        lowest[item.reduced_formula] = min(energy, lowest.get(item.reduced_formula, np.inf))
    number = Counter(symbols_of(item.reduced_formula) for item in chosen)
    hull = hull_energies(lowest, {}, lowest)
    return {
        formula: (energy, sum(number[part] for part in systems_within([symbols_of(formula)])) - 1)
        for formula, energy in hull.items()
    }


def _cost(cost: RelaxationCost | None) -> dict[str, object]:
    if cost is None:
        return {}
    return {"engine": cost.engine, "ionic_steps": cost.ionic_steps, "electronic_steps": cost.total_electronic_steps}


def describe_structure(structure: Structure | None) -> dict[str, object]:
    """Return space group, volume per atom in cubic angstrom and number of atoms; empty without a structure."""
    if structure is None:
        return {}
    try:
        space_group = structure.get_space_group_info(symprec=SYMPREC)[0]
    except SymmetryUndeterminedError:
        space_group = None
    volume = structure.volume / len(structure)
    return {"space_group": space_group, "volume_per_atom": volume, "n_atoms": len(structure)}
