"""The page's first table: the best candidates, relaxed ones if there are any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from cryslator_flows.analysis.ends import measured_engines
from cryslator_flows.report.headline import HULLS, main_saving
from cryslator_flows.report.selected_table import FITTED
from cryslator_flows.report.tables import describe_steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryslator_flows.documents.relaxations import RelaxationComparison, Start
    from cryslator_flows.documents.summary import CampaignSummary

# Rows of the first screen; the others open below them.
FIRST_ROWS = 8


class BestTable(NamedTuple):
    """Title of the table, titles of its columns, identifier and cells of each candidate, and notes in sentences."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]
    notes: list[str]


def best_relaxed(
    summary: CampaignSummary, comparisons: list[RelaxationComparison], relaxed: pd.DataFrame, notes: list[str]
) -> BestTable:
    """Make the table of the relaxed candidates, the most stable first.

    Parameters
    ----------
    summary : CampaignSummary
        The summary.
    comparisons : list of RelaxationComparison
        The relaxed candidates.
    relaxed : DataFrame
        From `relaxed_frame`.
    notes : list of str
        From `describe_energies`; notes on columns that are left out are left out too.

    Returns
    -------
    BestTable
        Columns without a value are left out. Steps are from the unrelaxed start and from the start of the main saving.
    """
    rows = {item.candidate_id: item for item in comparisons}
    engine = ", ".join(measured_engines(comparisons))
    hull = next((name for name in HULLS if relaxed[name].notna().any()), None)
    saving = main_saving(summary)
    columns: dict[str, Callable[[str, dict[Any, Any]], str]] = {
        "formula": lambda _, row: row["formula"],
        "template": lambda _, row: row["template_id"],
        "above known hull" if hull == "energy_above_known_hull" else "above hull": lambda _, row: (
            _number(row[hull], "{:+.3f}") if hull else ""
        ),
        "space group": lambda _, row: _text(row["space_group"]),
        "Å³/atom": lambda _, row: _number(row["volume_per_atom"], "{:.2f}"),
        f"energy by {engine}": lambda _, row: _number(row["formation_energy_per_atom"]),
        "predicted ± 90 %": lambda name, _: _predicted(
            rows[name].formation_energy_per_atom, rows[name].formation_energy_uncertainty_90
        ),
        f"steps → {saving.start}" if saving else "steps": lambda name, row: _steps(
            rows[name], saving.start if saving else row["start"]
        ),
    }
    other = ("Above hull:", "-:") if hull == "energy_above_known_hull" else ()
    steps = "Steps: ionic" if saving is None or saving.quantity == "ionic steps" else "Steps: ionic/electronic"
    kept = [f"{steps}.", *(note for note in notes if not note.startswith(other))]
    return _filled("Best relaxed candidates", relaxed, columns, kept)


def best_selected(selected: pd.DataFrame) -> BestTable:
    """Make the table of the first selected candidates, from `selected_frame`, by their energy above the known hull."""
    ranked = selected.sort_values("energy_above_known_hull", kind="stable")
    columns: dict[str, Callable[[str, dict[Any, Any]], str]] = {
        "formula": lambda _, row: row["formula"],
        "template": lambda _, row: row["template_id"],
        "above known hull": lambda _, row: _number(row["energy_above_known_hull"], "{:+.3f}"),
        "space group": lambda _, row: _text(row["space_group"]),
        "Å³/atom": lambda _, row: _number(row["volume_per_atom"], "{:.2f}"),
        "by the potential": lambda _, row: _number(row.get(FITTED)),
        "predicted ± 90 %": lambda _, row: _predicted(
            row["formation_energy_per_atom"], row["formation_energy_uncertainty_90"]
        ),
        "domain": lambda _, row: "outside" if row["out_of_domain"] else "",
    }
    return _filled("Best selected candidates", ranked, columns, [])


def _filled(
    title: str, frame: pd.DataFrame, columns: dict[str, Callable[[str, dict[Any, Any]], str]], notes: list[str]
) -> BestTable:
    """Make the table of the columns that have a value."""
    records = list(zip(frame.index, frame.to_dict(orient="records"), strict=True))
    cells = {name: [make(candidate, row) for candidate, row in records] for name, make in columns.items()}
    kept = {name: column for name, column in cells.items() if any(column)}
    rows = [(candidate, [column[place] for column in kept.values()]) for place, (candidate, _) in enumerate(records)]
    return BestTable(title, [*kept], rows, notes)


def _number(value: Any, form: str = "{:.3f}") -> str:
    return "" if pd.isna(value) else form.format(value)


def _text(value: Any) -> str:
    return "" if pd.isna(value) else str(value)


def _predicted(energy: float, uncertainty: float | None) -> str:
    return f"{_number(energy)} ± {uncertainty:.3f}" if uncertainty is not None else _number(energy)


def _steps(comparison: RelaxationComparison, start: Start) -> str:
    """Return the steps from the unrelaxed start and from another start; of one start alone if there is no other."""
    known = [describe_steps(comparison, name) for name in dict.fromkeys(("unrelaxed", start))]
    return " → ".join(item for item in known if item != "-")
