"""The table that a campaign is for: relaxed candidates with the formation energies and the hull of their engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from cryslator_flows.analysis.ends import measured_engines
from cryslator_flows.analysis.formation_energies import is_corrected
from cryslator_flows.results.export import POTENTIAL_FILE
from cryslator_flows.results.relaxed_frame import CORRECTED_POTENTIALS, fetched_for
from cryslator_flows.system.console import as_text, new_table

if TYPE_CHECKING:
    from rich.table import Table

    from cryslator_flows.documents.references import FetchedPhases
    from cryslator_flows.documents.relaxations import RelaxationComparison
    from cryslator_flows.documents.summary import CampaignSummary

# Column of `relaxed_frame`, its title, and its decimals if it holds numbers.
COLUMNS: tuple[tuple[str, str, int | None], ...] = (
    ("formula", "formula", None),
    ("template_id", "template", None),
    ("formation_energy_per_atom", "formation energy", 3),
    ("energy_above_hull", "above hull", 3),
    ("energy_above_known_hull", "above known", 3),
    ("space_group", "space group", None),
    ("volume_per_atom", "Å³/atom", 2),
)


def shown_columns(relaxed: pd.DataFrame) -> list[tuple[str, str, int | None]]:
    """List the columns to show: the one for known compounds only if it has values."""
    return [item for item in COLUMNS if item[0] != "energy_above_known_hull" or relaxed[item[0]].notna().any()]


def relaxed_cells(relaxed: pd.DataFrame) -> list[list[str]]:
    """Return the cells of each relaxed candidate as text, with the steps of its lowest end last."""
    columns = shown_columns(relaxed)
    return [[*(_shown(row[name], decimals) for name, _, decimals in columns), _steps(row)]
            for row in relaxed.to_dict(orient="records")]  # fmt: skip


def _shown(value: Any, decimals: int | None) -> str:
    if pd.isna(value):
        return "-"
    return str(value) if decimals is None else f"{value:.{decimals}f}"


def _steps(row: dict[Any, Any]) -> str:
    known = [row[name] for name in ("ionic_steps", "electronic_steps") if not pd.isna(row[name])]
    return "/".join(map(str, known)) or "-"


def relaxed_table(relaxed: pd.DataFrame, notes: list[str]) -> Table:
    """Make a table of the relaxed candidates for the terminal; parameters from `relaxed_frame`, `describe_energies`."""
    columns = shown_columns(relaxed)
    titles = [f"{'' if decimals is None else '>'}{title.replace(' ', chr(10))}" for _, title, decimals in columns]
    table = new_table("Relaxed candidates, energies by their engine in eV/atom", *titles, ">steps")
    table.columns[1].no_wrap = False
    for cells in relaxed_cells(relaxed):
        table.add_row(*map(as_text, cells))
    table.caption = "\n".join(notes)
    return table


def describe_energies(
    summary: CampaignSummary,
    comparisons: list[RelaxationComparison],
    relaxed: pd.DataFrame,
    fetched: FetchedPhases | None = None,
) -> list[str]:
    """Describe in sentences what formation energies and hull of the relaxed candidates are relative to.

    Parameters
    ----------
    summary : CampaignSummary
        The summary, with the reasons for elements without an energy.
    comparisons : list of RelaxationComparison
        All comparisons of the campaign.
    relaxed : DataFrame
        From `relaxed_frame`.
    fetched : FetchedPhases or None
        As for `relaxed_frame`.
    """
    engines = measured_engines(comparisons)
    if len(engines) > 1:
        return [f"Relaxed by {', '.join(engines)}, whose energies cannot be compared: no formation energies."]
    engine = ", ".join(engines) or "no engine"
    lacking = [f"No formation energy with {symbol}: {why}." for symbol, why in summary.elements_without_energy.items()]
    if relaxed["formation_energy_per_atom"].isna().all():
        words = "No formation energies: the elements are not relaxed; give relaxation.element_energies."
        return lacking or [words]
    corrected = ", with MaterialsProject2020Compatibility" if is_corrected(comparisons) else ""
    sentences = [f"Formation energy: by {engine}, from its own energies of the elements{corrected}."]
    if (potential := summary.potential) is not None and potential.n_compounds:
        sentences.append(
            f"Fitted formation energy ({POTENTIAL_FILE} and selection): by {potential.engine}, from energies of the "
            f"elements that fit {potential.n_compounds} known compounds."
        )
    sentences.append("Above hull: of these elements and the candidates in this table.")
    if relaxed["energy_above_hull"].isna().any():
        sentences.append("-: no other relaxed candidate competes.")
    if fetched is not None and fetched.note is not None:
        sentences.append(f"{fetched.note}.")
    if fetched_for(comparisons, fetched):
        sentences.append("Above known: of compounds of the same functional from the Materials Project alone.")
    elif relaxed["energy_above_known_hull"].notna().any():
        sentences.append("Above known: of the known compounds of the Materials Project alone.")
    elif is_corrected(comparisons) or {*engines} <= {*CORRECTED_POTENTIALS}:
        sentences.append("No known compound is in these chemical systems.")
    else:
        sentences.append(f"Known compounds do not compete: {engine} has none of their energies' corrections.")
    return [*lacking, *sentences]
