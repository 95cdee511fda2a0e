"""Phase diagrams of the page, of the same hulls as the selection's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pymatgen.analysis.phase_diagram import PDPlotter
from pymatgen.core import Composition

from cryslator_flows.jobs.selection import hull_entries, phase_diagram

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryslator_flows.campaign.page.figures import Figure

# The plotters of phase diagrams end at quaternary systems.
MOST_ELEMENTS = 4
MOST_SYSTEMS = 12


def draw_hulls(formulas: Iterable[str], lowest: dict[str, float], references: dict[str, float]) -> dict[str, Figure]:
    """Phase diagrams of the systems of the most stable candidates; elements are at 0.

    Parameters
    ----------
    formulas : iterable of str
        Of the candidates that the hull is made of, lowest energy first.
    lowest : dict
        Formula to the lowest predicted formation energy of all these candidates, in eV/atom.
    references : dict
        Known formation energies by formula, in eV/atom.

    Returns
    -------
    dict
        Figures by chemical system, `MOST_SYSTEMS` at most.
    """
    systems: dict[str, frozenset[str]] = {}
    for formula in formulas:
        composition = Composition(formula)
        if 2 <= len(composition) <= MOST_ELEMENTS:
            systems.setdefault(composition.chemical_system, frozenset(map(str, composition.elements)))
        if len(systems) == MOST_SYSTEMS:
            break
    wanted = [set(symbols) for symbols in systems.values()]
    inside = {
        formula: energy
        for formula, energy in lowest.items()
        if any(set(map(str, Composition(formula).elements)) <= symbols for symbols in wanted)
    }
    entries = hull_entries(inside, references)
    figures = {}
    for name, symbols in systems.items():
        plot = PDPlotter(phase_diagram(entries, symbols), backend="plotly", show_unstable=0.5).get_plot()
        figures[name] = json.loads(plot.to_json())
        figures[name]["layout"].pop("template", None)
    return figures
