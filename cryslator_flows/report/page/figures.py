"""Plotly figures of the page, as plain dictionaries."""

from __future__ import annotations

from math import log10
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pymatgen.core import Composition, Element

from cryslator_flows.analysis.savings import paired_steps
from cryslator_flows.report.savings_tables import MARKERS, describe_interval, savings_panels
from cryslator_flows.report.tables import filter_rows, property_rows
from cryslator_flows.system.look import BLUE, GREY

if TYPE_CHECKING:
    from cryslator_flows.documents.relaxations import RelaxationComparison
    from cryslator_flows.documents.summary import CampaignSummary
    from cryslator_flows.report.page.agreement import Agreement

Figure = dict[str, Any]
LINE = {"type": "scatter", "mode": "lines", "line": {"color": GREY, "width": 1}, "hoverinfo": "skip"}
# Plotly's names of matplotlib's shapes.
SYMBOLS = {"^": "triangle-up", "o": "circle", "s": "square", "D": "diamond"}
# Above the plot a legend fits on the narrowest screen.
LEGEND = {
    "showlegend": True, "margin": {"t": 60},
    "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
}  # fmt: skip


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
    """Draw the steps of each pair in a square with the line of equal steps: a figure for each kind of step with pairs.

    The saving of each start stands in the square.
    """
    figures: dict[str, Figure] = {}
    for quantity, series in savings_panels(summary, comparisons).items():
        counts = [step for _, pairs in series for pair in pairs for step in pair]
        ends = max(min(counts), 1) / 1.3, max(counts) * 1.3
        other = series[0][0].start if len(series) == 1 else "other"
        figure = figures[quantity] = _square(quantity, other, *ends)
        for place, (item, _) in enumerate(series):
            named = [
                (*pair, f"{row.reduced_formula}<br>{row.candidate_id}")
                for row in comparisons
                for pair in paired_steps([row], item.quantity, item.start)
            ]
            x, y, names = zip(*named, strict=True)
            color, marker, size = MARKERS[item.start]
            figure["data"].append({
                "type": "scatter", "mode": "markers", "x": x, "y": y, "name": item.start, "text": names,
                "marker": {"color": color, "symbol": SYMBOLS[marker], "size": size + 2},
                "hovertemplate": f"%{{text}}<br>unrelaxed %{{x}}, {item.start} %{{y}} {quantity}<extra></extra>",
            })  # fmt: skip
            pairs = (
                f"{item.n_pairs} pairs" if item.interval is None else f"{describe_interval(item)}, {item.n_pairs} pairs"
            )
            figure["layout"]["annotations"].append({
                "xref": "x domain", "yref": "y domain", "x": 0.03, "y": 0.98 - 0.14 * place,
                "xanchor": "left", "yanchor": "top", "showarrow": False, "align": "left",
                "text": f"<b>{item.start}: {item.saving:+.0%}</b><br>{pairs}",
            })  # fmt: skip
    return figures


def _square(quantity: str, other: str, low: float, high: float) -> Figure:
    """Draw a square with equal logarithmic axes, its diagonal and the shaded half with fewer steps."""
    # Full labels: plotly would write 2 for 20.
    ticks = [digit * 10**power for power in range(7) for digit in (1, 2, 5)]
    axis = {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:,}" for tick in ticks],
            "range": [log10(low), log10(high)]}  # fmt: skip
    return {
        "data": [
            {**LINE, "x": [low, high], "y": [low, high], "name": "equal", "showlegend": False},
            {**LINE, "x": [low, high, high], "y": [low, high, low], "fill": "toself", "line": {"width": 0},
             "fillcolor": f"{MARKERS['translated'][0]}1a", "showlegend": False},
        ],
        "layout": {
            "xaxis": _titled(f"{quantity}, unrelaxed start", constrain="domain", **axis),
            "yaxis": _titled(f"{quantity}, {other} start", constrain="domain", scaleanchor="x", **axis),
            "showlegend": False, "annotations": [], "margin": {"t": 30, "r": 10, "b": 45},
        },
    }  # fmt: skip


def residuals(found: Agreement, comparisons: list[RelaxationComparison]) -> Figure | None:
    """Draw the mean error of the predictions for candidates with each element; None where a fit takes errors away."""
    if found.fitted:
        return None
    errors: dict[str, list[float]] = {}
    for row in comparisons:
        if row.candidate_id in found.energies:
            error = row.formation_energy_per_atom - found.energies[row.candidate_id]
            for element in Composition(row.reduced_formula):
                errors.setdefault(str(element), []).append(error)
    means = dict(sorted(((symbol, sum(known) / len(known)) for symbol, known in errors.items()), key=itemgetter(1)))
    bars = {
        "type": "bar", "x": [*means], "y": [*means.values()], "marker": {"color": BLUE},
        "text": [str(len(errors[symbol])) for symbol in means], "textposition": "outside", "cliponaxis": False,
        "hovertemplate": "%{x}: %{y:+.3f} eV/atom, %{text} candidates<extra></extra>",
    }  # fmt: skip
    axes = {"xaxis": _titled("element (number of candidates)", type="category"),
            "yaxis": _titled("predicted - engine, eV/atom")}  # fmt: skip
    return {"data": [bars], "layout": {**axes, "margin": {"t": 20}}}


def periodic_table(energies: dict[str, tuple[float, float]]) -> Figure:
    """Draw the lowest predicted formation energy by substituted element; values are lowest and mean, in eV/atom."""
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
            "textfont": {"size": 10}, "xgap": 2, "ygap": 2,
            "colorbar": {"title": {"text": "eV/atom", "side": "top"}, "orientation": "h", "len": 0.4, "thickness": 12,
                         "x": 0.4, "y": 0.98, "yanchor": "top"}}  # fmt: skip
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
    margin = 0.05 * (max([*predictions, *engine]) - min([*predictions, *engine])) or 0.1
    ends = [min([*predictions, *engine]) - margin, max([*predictions, *engine]) + margin]
    return {
        "data": [
            {**LINE, "x": ends, "y": ends, "name": "equal"},
            *_with_intervals("x", [found.uncertainties[name] for name in found.energies], dots),
        ],
        "layout": {
            **LEGEND,
            "xaxis": _titled("predicted, eV/atom", range=ends, constrain="domain"),
            "yaxis": _titled(f"{found.engine_label}, eV/atom", range=ends, constrain="domain", scaleanchor="x"),
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
