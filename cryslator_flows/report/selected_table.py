"""The ranked table of the selected candidates, which stands in a report before there are relaxations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from cryslator_flows.crystals.packing import PREDICTED
from cryslator_flows.results.frames import potential_frame
from cryslator_flows.results.selected_frame import selected_frame
from cryslator_flows.system.console import as_text, new_table

if TYPE_CHECKING:
    from rich.table import Table

    from cryslator_flows.documents.relaxations import RelaxationComparison
    from cryslator_flows.documents.summary import CampaignSummary
    from cryslator_flows.running.started import StartedCampaign

# Candidates that a report shows; the files have all.
MOST_SHOWN = 20
FITTED = "fitted_formation_energy_per_atom"


def first_selected(
    started: StartedCampaign, summary: CampaignSummary, comparisons: list[RelaxationComparison]
) -> pd.DataFrame | None:
    """Read the first selected candidates as a `selected_frame`; None if candidates are relaxed, or none is selected."""
    if comparisons or not (chosen := started.results.selected()):
        return None
    competition = started.cuts.competition()
    potential = potential_frame(started.results, summary, competition)
    return selected_frame(chosen[:MOST_SHOWN], started.results.chunks(), competition, potential)


def selected_table(selected: pd.DataFrame, n_selected: int) -> Table:
    """Make a table of selected candidates for the terminal.

    Parameters
    ----------
    selected : DataFrame
        The first of them, from `selected_frame`.
    n_selected : int
        Number of all.
    """
    fitted = FITTED in selected
    predicted = [name for name in selected if name.startswith(PREDICTED)]
    number = f"the first {len(selected)} of {n_selected}" if n_selected > len(selected) else f"all {n_selected}"
    energies = [">fitted\nenergy", ">predicted\nenergy"] if fitted else [">formation energy\n(90 %)"]
    table = new_table(
        f"Selected candidates, {number}, energies in eV/atom", "formula", "template", *energies, ">above\nknown",
        "space\ngroup", "in\ndomain", *(f">{name.replace(' ', chr(10))}" for name in predicted),
    )  # fmt: skip
    # In a narrow terminal the templates shrink first; one word stays on one line.
    table.columns[1].no_wrap, table.columns[1].max_width = False, None
    for row in selected.to_dict(orient="records"):
        table.add_row(
            as_text(row["formula"]),
            as_text(row["template_id"]),
            *([_shown(row[FITTED])] if fitted else []),
            f"{row['formation_energy_per_atom']:.3f} ± {row['formation_energy_uncertainty_90']:.3f}",
            _shown(row["energy_above_known_hull"]),
            row["space_group"] or "-",
            "no" if row["out_of_domain"] else "yes",
            *(_shown(row[name]) for name in predicted),
        )
    by = "the potential, fitted to known compounds" if fitted else "the translator"
    table.caption = (
        f"Energies by {by}. Above known: above the hull of known compounds; -: none is known there.\n"
        "Space groups are those of the translated structures, which cryslator export writes as CIF files."
    )
    return table


def _shown(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.3f}"
