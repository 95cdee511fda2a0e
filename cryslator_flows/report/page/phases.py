"""Hulls of the page, the same as in the selection."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import TYPE_CHECKING

from pymatgen.analysis.phase_diagram import PDPlotter

from cryslator_flows.screening.cuts import hull_entries, phase_diagram

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymatgen.analysis.phase_diagram import PDEntry

    from cryslator_flows.report.page.figures import Figure

# The plotters of phase diagrams end at quaternary systems.
MOST_ELEMENTS = 4
MOST_SYSTEMS = 12


def draw_hulls(formulas: Iterable[str], lowest: dict[str, float], references: dict[str, float]) -> dict[str, Figure]:
    """Draw phase diagrams of the systems of the most stable candidates; elements are at 0.

    Parameters
    ----------
    formulas : iterable of str
        Formulas of the candidates in the hull, lowest energy first.
    lowest : dict
        Formula to the lowest predicted formation energy of all these candidates, in eV/atom.
    references : dict
        Known formation energies by formula, in eV/atom.

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
    entries = entries_within(systems, lowest, references)
    figures = {}
    for system in systems:
        plot = PDPlotter(phase_diagram(entries, system), backend="plotly", show_unstable=0.5).get_plot()
        figure = json.loads(plot.to_json())  # type: ignore[union-attr]  # None without a backend
        figure["layout"].pop("template", None)
        figures["-".join(sorted(system))] = figure
    return figures


def symbols_of(formula: str) -> frozenset[str]:
    """Return the symbols in a formula, without parsing it: a million candidates have too many formulas."""
    return frozenset(re.findall("[A-Z][a-z]?", formula))


def entries_within(
    systems: Iterable[frozenset[str]], lowest: dict[str, float], references: dict[str, float]
) -> dict[frozenset[str], list[PDEntry]]:
    """Return the entries of some systems and of the systems within them, see `hull_entries`.

    Parameters
    ----------
    systems : iterable of frozenset of str
        Symbols of the elements of each system.
    lowest, references : dict
        As in `draw_hulls`.
    """
    inside = {
        frozenset(part)
        for system in systems
        for size in range(1, len(system) + 1)
        for part in combinations(system, size)
    }
    return hull_entries({name: energy for name, energy in lowest.items() if symbols_of(name) in inside}, references)
