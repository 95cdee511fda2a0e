"""Hulls of the page, the same as in the selection."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pymatgen.analysis.phase_diagram import PDPlotter

from cryslator_flows.screening.hulls import hull_entries, phase_diagram
from cryslator_flows.screening.known_phases import symbols_of, systems_within

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryslator_flows.report.page.figures import Figure
    from cryslator_flows.screening.hulls import Competition

# The plotters of phase diagrams end at quaternary systems.
MOST_ELEMENTS = 4
MOST_SYSTEMS = 12


def draw_hulls(formulas: Iterable[str], lowest: dict[str, float], competition: Competition) -> dict[str, Figure]:
    """Draw phase diagrams of the systems of the most stable candidates; elements are at 0.

    Parameters
    ----------
    formulas : iterable of str
        Formulas of the candidates in the hull, lowest energy first.
    lowest : dict
        Formula to the lowest predicted formation energy of all these candidates, in eV/atom.
    competition : Competition
        Phases that the candidates may decompose into.

    Returns
    -------
    dict
        Figures by chemical system, `MOST_SYSTEMS` at most.
    """
    systems: dict[frozenset[str], None] = {}
    for formula in formulas:
        system = symbols_of(formula)
        if 2 <= len(system) <= MOST_ELEMENTS:
            systems[system] = None
        if len(systems) == MOST_SYSTEMS:
            break
    within = systems_within(systems)
    inside = {formula: energy for formula, energy in lowest.items() if symbols_of(formula) in within}
    entries = hull_entries(competition.within(systems), inside)
    figures = {}
    for system in systems:
        plot = PDPlotter(phase_diagram(entries, system), backend="plotly", show_unstable=0.5).get_plot()
        figure = json.loads(plot.to_json())  # type: ignore[union-attr]  # None without a backend
        figure["layout"].pop("template", None)
        figures["-".join(sorted(system))] = figure
    return figures
