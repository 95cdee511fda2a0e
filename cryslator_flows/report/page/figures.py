"""Plotly figures of the page, as plain dictionaries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cryslator_flows.analysis.savings import paired_steps
from cryslator_flows.report.savings_tables import MARKERS
from cryslator_flows.report.tables import filter_rows, property_rows
from cryslator_flows.system.look import BLUE, GREY

if TYPE_CHECKING:
    from cryslator_flows.documents.relaxations import RelaxationComparison
    from cryslator_flows.documents.summary import CampaignSummary
    from cryslator_flows.report.page.agreement import Agreement

Figure = dict[str, Any]
LINE = {"type": "scatter", "mode": "lines", "line": {"color": GREY, "width": 1}, "hoverinfo": "skip"}
# Plotly's names of matplotlib's shapes.
SYMBOLS = {"o": "circle", "s": "square", "D": "diamond"}
# Above the plot a legend fits on the narrowest screen.
LEGEND = {"showlegend": True, "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"}}


def _titled(text: str, **axis: Any) -> dict[str, Any]:
    return {"title": {"text": text}, "automargin": True, **axis}


def funnel(summary: CampaignSummary) -> Figure:
    """Draw the number of candidates after each stage."""
    counts = summary.counts
    stages = {
        "enumerated": counts.enumerated,
        **{name: left for name, left, _ in filter_rows(counts)},
        "unique": counts.unique, "translated": summary.translated,
        **{name: left for name, left, _ in property_rows(summary)},
        **({} if summary.potential is None else {"potential": summary.potential.n_relaxed}),
        "selected": summary.selected, "relaxed": summary.relaxed,
    }  # fmt: skip
    data = {
        "type": "funnel", "y": [*stages], "x": [*stages.values()], "marker": {"color": MARKERS["translated"][0]},
        "textinfo": "value", "textposition": "auto",
        "hovertemplate": "%{y}: %{x} candidates, %{percentPrevious:.1%} of the stage before<extra></extra>",
    }  # fmt: skip
    return {"data": [data], "layout": {"yaxis": {"automargin": True}, "margin": {"t": 30, "b": 10, "l": 90}}}


def steps(summary: CampaignSummary, comparisons: list[RelaxationComparison]) -> dict[str, Figure]:
    """Draw the steps of each pair with the identity line: a figure for each kind of step with pairs."""
    figures: dict[str, Figure] = {}
    for item in summary.savings:
        pairs = [
            (*pair, f"{row.reduced_formula}<br>{row.candidate_id}")
            for row in comparisons
            for pair in paired_steps([row], item.quantity, item.start)
        ]
        if not pairs:
            continue
        x, y, names = zip(*pairs, strict=True)
        figure = figures.setdefault(item.quantity, _paired_axes(item.quantity))
        figure["data"][0]["x"] = figure["data"][0]["y"] = [*figure["data"][0]["x"], *_ends([*x, *y])]
        color, marker, size = MARKERS[item.start]
        figure["data"].append({
            "type": "scatter", "mode": "markers", "x": x, "y": y, "name": item.start, "text": names,
            "marker": {"color": color, "symbol": SYMBOLS[marker], "size": size + 2},
            "hovertemplate": f"%{{text}}<br>unrelaxed %{{x}}, {item.start} %{{y}} {item.quantity}<extra></extra>",
        })  # fmt: skip
    return figures


def _paired_axes(quantity: str) -> Figure:
    # Full labels: plotly would write 2 for 20.
    ticks = [digit * 10**power for power in range(7) for digit in (1, 2, 5)]
    axis = {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:,}" for tick in ticks]}
    return {
        "data": [{**LINE, "x": [], "y": [], "name": "equal"}],
        "layout": {
            "xaxis": _titled(f"{quantity} from the unrelaxed start", **axis),
            "yaxis": _titled(f"{quantity} from the other start", **axis),
            **LEGEND,
        },
    }


def _ends(values: list[Any]) -> list[Any]:
    return [min(values), max(values)]


def periodic_table(energies: dict[str, tuple[float, float]]) -> Figure:
    """Draw the lowest predicted formation energy by substituted element; values are lowest and mean, in eV/atom."""
    from pymatgen.core import Element

    grid: list[list[float | None]] = [[None] * 18 for _ in range(9)]
    words = [[""] * 18 for _ in range(9)]
    hints = [[""] * 18 for _ in range(9)]
    for symbol, (lowest, mean) in energies.items():
        element = Element(symbol)
        # pymatgen puts lanthanides and actinides into group 3; here they have separate rows.
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


def predicted(comparisons: list[RelaxationComparison], uncertainties: dict[str, tuple[float, float]]) -> Figure | None:
    """Draw predicted formation energies of the relaxed candidates with both intervals; None without candidates."""
    chosen = [item for item in comparisons if item.candidate_id in uncertainties]
    if not chosen:
        return None
    dots = {
        # With the rank, for several candidates may have the same formula.
        "x": [f"{rank} {item.reduced_formula}" for rank, item in enumerate(chosen, 1)],
        "y": [item.formation_energy_per_atom for item in chosen],
        "text": [item.candidate_id for item in chosen],
        "hovertemplate": "%{x}: %{y:.3f} eV/atom<br>%{text}<extra></extra>",
    }
    return {
        "data": _with_intervals("y", [uncertainties[item.candidate_id] for item in chosen], dots),
        "layout": {
            **LEGEND,
            "xaxis": _titled("relaxed candidates"),
            "yaxis": _titled("predicted formation energy, eV/atom"),
        },
    }


def agreement(found: Agreement, comparisons: list[RelaxationComparison]) -> Figure:
    """Draw predicted formation energies with both intervals against the engine's, with the identity line."""
    rows = {item.candidate_id: item for item in comparisons}
    predictions = [rows[name].formation_energy_per_atom for name in found.energies]
    engine = [*found.energies.values()]
    dots = {
        "x": predictions,
        "y": engine,
        "text": [f"{rows[name].reduced_formula}<br>{name}" for name in found.energies],
        "hovertemplate": f"%{{text}}<br>predicted %{{x:.3f}}, {found.engine} %{{y:.3f}} eV/atom<extra></extra>",
    }
    ends = _ends([*predictions, *engine])
    return {
        "data": [
            {**LINE, "x": ends, "y": ends, "name": "equal"},
            *_with_intervals("x", [found.uncertainties[name] for name in found.energies], dots),
        ],
        "layout": {
            **LEGEND,
            "xaxis": _titled("predicted formation energy, eV/atom"),
            "yaxis": _titled(f"formation energy by {found.engine_label}, eV/atom"),
        },
    }


def _with_intervals(axis: str, widths: list[tuple[float, float]], trace: dict[str, Any]) -> list[dict[str, Any]]:
    """Draw dots with a thick bar for the 68 % interval, on a thin bar for the 90 % interval."""
    common = {"type": "scatter", "mode": "markers", **trace}
    bar = {"type": "data", "color": BLUE}
    return [
        {**common, "name": "90 % interval", "marker": {"size": 1, "color": BLUE}, "hoverinfo": "skip",
         "hovertemplate": None, f"error_{axis}": {**bar, "array": [wide for _, wide in widths], "thickness": 1}},
        {**common, "name": "68 % interval", "marker": {"size": 8, "color": BLUE},
         f"error_{axis}": {**bar, "array": [narrow for narrow, _ in widths], "thickness": 3, "width": 0}},
    ]  # fmt: skip
