"""Plotly figures of the page, as plain dictionaries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cryslator_flows.relaxation.savings import paired_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryslator_flows.schemas import CampaignSummary, RelaxationComparison

Figure = dict[str, Any]
# The plotters of phase diagrams end at quaternary systems.
MOST_ELEMENTS = 4


def funnel(summary: CampaignSummary) -> Figure:
    """Candidates left after each stage."""
    counts = summary.counts
    stages = {
        "enumerated": counts.enumerated, "unique": counts.unique, "translated": summary.translated,
        "selected": summary.selected, "relaxed": summary.relaxed,
    }  # fmt: skip
    return {"data": [{"type": "funnel", "y": [*stages], "x": [*stages.values()]}], "layout": {"title": {"text": ""}}}


def steps(summary: CampaignSummary, comparisons: list[RelaxationComparison]) -> dict[str, Figure]:
    """Steps of each pair with the identity line: a figure for each kind of step that has pairs."""
    figures: dict[str, Figure] = {}
    for item in summary.savings:
        pairs = paired_steps(comparisons, item.quantity, item.start)
        if not pairs:
            continue
        empty = {
            "data": [],
            "layout": {
                "xaxis": {"type": "log", "title": {"text": f"{item.quantity}, unrelaxed start"}},
                "yaxis": {"type": "log", "title": {"text": f"{item.quantity}, other start"}},
            },
        }
        x, y = zip(*pairs, strict=True)
        ends = [min(x + y), max(x + y)]
        data = figures.setdefault(item.quantity, empty)["data"]
        data.append({"type": "scatter", "mode": "markers", "x": x, "y": y, "name": item.start})
        data.append({"type": "scatter", "mode": "lines", "x": ends, "y": ends, "name": "equal", "showlegend": False,
                     "line": {"color": "gray"}})  # fmt: skip
    return figures


def periodic_table(energies: dict[str, tuple[float, float]]) -> Figure:
    """Lowest predicted formation energy by substituted element; values are lowest and mean, in eV/atom."""
    from pymatgen.core import Element

    grid: list[list[float | None]] = [[None] * 18 for _ in range(9)]
    words = [[""] * 18 for _ in range(9)]
    hints = [[""] * 18 for _ in range(9)]
    for symbol, (lowest, mean) in energies.items():
        element = Element(symbol)
        # pymatgen puts lanthanides and actinides into group 3; they have rows of their own here.
        inner = element.is_lanthanoid or element.is_actinoid
        row = element.row + (1 if inner else -1)
        column = (element.Z - (57 if element.is_lanthanoid else 89) + 2) if inner else element.group - 1
        grid[row][column] = lowest
        words[row][column] = f"{symbol}<br>{lowest:.2f}"
        hints[row][column] = f"{symbol}: lowest {lowest:.3f}, mean {mean:.3f} eV/atom"
    heat = {"type": "heatmap", "z": grid, "text": words, "texttemplate": "%{text}", "colorscale": "Viridis",
            "hovertext": hints, "hoverinfo": "text",
            "textfont": {"size": 10}, "xgap": 2, "ygap": 2, "colorbar": {"title": {"text": "eV/atom"}}}  # fmt: skip
    axis = {"visible": False}
    return {"data": [heat], "layout": {"xaxis": axis, "yaxis": {**axis, "autorange": "reversed"}}}


def looks(structures: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Colour (that of Jmol, from ASE) and size of a marker, in pixels by covalent radius, for each element shown."""
    from ase.data import atomic_numbers, covalent_radii
    from ase.data.colors import jmol_colors

    symbols = {symbol for shown in structures.values() for item in shown.values() for symbol in item["symbols"]}
    return {
        symbol: {
            "color": "rgb({}, {}, {})".format(*(jmol_colors[atomic_numbers[symbol]] * 255).astype(int)),
            "size": round(6 + 7 * float(covalent_radii[atomic_numbers[symbol]]), 1),
        }
        for symbol in sorted(symbols)
    }


def predicted(comparisons: list[RelaxationComparison], uncertainties: dict[str, float]) -> Figure | None:
    """Predicted formation energies of the relaxed candidates, with the 68 % interval; None if there are none."""
    chosen = [item for item in comparisons if item.candidate_id in uncertainties]
    if not chosen:
        return None
    return {
        "data": [{
            "type": "scatter", "mode": "markers",
            "x": [f"{rank} {item.reduced_formula}" for rank, item in enumerate(chosen, 1)],
            "y": [item.formation_energy_per_atom for item in chosen],
            "error_y": {"type": "data", "array": [uncertainties[item.candidate_id] for item in chosen]},
        }],
        "layout": {"yaxis": {"title": {"text": "predicted eV/atom"}}},
    }  # fmt: skip


def hulls(rows: Sequence[tuple[str, float]], references: dict[str, float], limit: int = 12) -> dict[str, Figure]:
    """Phase diagrams of the systems of the most stable candidates; elements are at 0.

    Parameters
    ----------
    rows : sequence of (str, float)
        Formula and predicted formation energy in eV/atom, lowest first.
    references : dict
        Known formation energies by formula, in eV/atom.
    limit : int
        Most systems drawn.

    Returns
    -------
    dict
        Figures by chemical system.
    """
    from pymatgen.analysis.phase_diagram import PDEntry, PDPlotter, PhaseDiagram
    from pymatgen.core import Composition, Element

    lowest: dict[str, float] = dict(references)
    for formula, energy in rows:
        lowest[formula] = min(energy, lowest.get(formula, energy))
    known = [(Composition(formula), energy) for formula, energy in lowest.items()]
    systems: dict[str, set[Element]] = {}
    for formula, _ in rows:
        composition = Composition(formula)
        if 2 <= len(composition) <= MOST_ELEMENTS:
            systems.setdefault(composition.chemical_system, set(composition.elements))
        if len(systems) == limit:
            break
    figures = {}
    for system, elements in systems.items():
        entries = [PDEntry(Composition(element.symbol), 0.0) for element in elements]
        entries += [PDEntry(item, energy * item.num_atoms) for item, energy in known if set(item.elements) <= elements]
        plot = PDPlotter(PhaseDiagram(entries), backend="plotly", show_unstable=0.5).get_plot()
        figures[system] = json.loads(plot.to_json())
        figures[system]["layout"].pop("template", None)
    return figures
