"""All files that a campaign leaves for its users."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cryslator_flows.report.page.candidate_table import CandidateTable
from cryslator_flows.report.page.whole_page import PageContent, write_page
from cryslator_flows.report.plan_tables import hours_rows
from cryslator_flows.report.savings_tables import plot_savings, savings_panels
from cryslator_flows.report.selected_table import first_selected
from cryslator_flows.results.export import (
    POTENTIAL_FILE,
    RELAXED_FILE,
    cell,
    write_candidates,
    write_relaxed,
    write_relaxed_table,
)
from cryslator_flows.results.frames import potential_frame
from cryslator_flows.results.relaxed_frame import relaxed_frame
from cryslator_flows.system.whole_files import is_full, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pandas as pd

    from cryslator_flows.crystals.packing import TranslatedChunk
    from cryslator_flows.documents.relaxations import RelaxationComparison
    from cryslator_flows.documents.summary import CampaignSummary
    from cryslator_flows.running.started import StartedCampaign
    from cryslator_flows.running.status import CampaignStatus
    from cryslator_flows.screening.hulls import Competition


def write_all(
    started: StartedCampaign,
    summary: CampaignSummary,
    comparisons: list[RelaxationComparison],
    status: CampaignStatus,
    relaxed: pd.DataFrame,
    selected: pd.DataFrame | None,
    page: Path | None = None,
) -> list[Path]:
    """Write the page, the tables, the relaxed structures and the picture of a campaign so far.

    Parameters
    ----------
    started : StartedCampaign
        The campaign; the files go to its folder, if the folder can be written.
    summary : CampaignSummary
        Its current summary.
    comparisons : list of RelaxationComparison
        Its current comparisons.
    status : CampaignStatus
        Its current status.
    relaxed : DataFrame
        Its relaxed candidates, see `relaxed_frame`.
    selected : DataFrame or None
        From `first_selected`.
    page : Path or None
        The page, ``report.html`` in the folder if None.

    Returns
    -------
    list of Path
        The written files, the page last; empty if the folder cannot be written and no other page is given.

    Raises
    ------
    StoreError
        A file cannot be written.
    """
    candidates = CandidateTable(started.cuts, {item.candidate_id for item in comparisons})
    chunks, competition = candidates.read(started.results.chunks()), started.cuts.competition()
    writable = _is_writable(started.folder)
    chosen = started.results.selected()
    paths = write_files(started.folder, summary, comparisons, chunks, competition, chosen) if writable else []
    if page is None and not writable:
        return []
    for _ in chunks:  # The page needs all of them.
        pass
    content = _content(started, summary, comparisons, candidates, status, relaxed, selected)
    if writable and len(potential := potential_frame(started.results, summary, competition)):
        paths.append(started.folder / POTENTIAL_FILE)
        write_whole(paths[-1], potential.map(cell).to_csv())
    if writable and len(relaxed):
        paths.append(started.folder / RELAXED_FILE)
        write_relaxed_table(paths[-1], relaxed)
    return [*paths, write_page(page or started.folder / "report.html", content)]


def read_content(started: StartedCampaign, status: CampaignStatus) -> PageContent:
    """Read the content of the page of a campaign so far; nothing is written.

    Parameters
    ----------
    started : StartedCampaign
        The campaign.
    status : CampaignStatus
        Its current status.

    Raises
    ------
    CampaignError
        Enumeration has not ended.
    """
    comparisons = started.results.comparisons()
    summary = started.results.current_summary(comparisons)
    candidates = CandidateTable(started.cuts, {item.candidate_id for item in comparisons})
    for _ in candidates.read(started.results.chunks()):
        pass
    fetched = started.results.fetched_phases()
    relaxed = relaxed_frame(comparisons, started.element_energies, started.cuts.competition(), fetched)
    selected = first_selected(started, summary, comparisons)
    return _content(started, summary, comparisons, candidates, status, relaxed, selected)


def _content(
    started: StartedCampaign,
    summary: CampaignSummary,
    comparisons: list[RelaxationComparison],
    candidates: CandidateTable,
    status: CampaignStatus,
    relaxed: pd.DataFrame,
    selected: pd.DataFrame | None,
) -> PageContent:
    return PageContent(
        summary,
        comparisons,
        candidates,
        settings=started.settings,
        relaxed=relaxed,
        selected=selected,
        fetched=started.results.fetched_phases(),
        element_energies=started.element_energies,
        unfinished=status.unfinished,
        failed=status.totals["failed"],
        reasons=sorted({job.reason for job in status.failed}),
        job_command=started.job_command,
        hours=hours_rows(started.core_hours()),
    )


def write_files(
    folder: Path,
    summary: CampaignSummary,
    comparisons: list[RelaxationComparison],
    chunks: Iterable[TranslatedChunk],
    competition: Competition,
    chosen: list[str] | None,
) -> list[Path]:
    """Write summary, candidates, relaxed structures and the picture of the savings.

    Parameters
    ----------
    folder : Path
        The folder to write to; it is made if missing.
    summary : CampaignSummary
        The summary.
    comparisons : list of RelaxationComparison
        The relaxed candidates.
    chunks : iterable of TranslatedChunk
        The translated candidates.
    competition : Competition
        Phases that the candidates may decompose into.
    chosen : list of str or None
        The selected candidates, see `CampaignResults.selected`.

    Returns
    -------
    list of Path
        ``summary.json``, ``candidates.csv`` and the folder ``relaxed``, with a CIF of the lowest converged end of each
        candidate. If there are pairs, ``savings.png`` too.
    """
    paths = [folder / "summary.json", folder / "candidates.csv"]
    write_whole(paths[0], summary.model_dump_json(indent=2) + "\n")
    write_candidates(paths[1], chunks, competition, chosen)
    if write_relaxed(folder / "relaxed", comparisons):
        paths.append(folder / "relaxed")
    if savings_panels(summary, comparisons):
        paths.append(plot_savings(folder / "savings.png", summary, comparisons))
    return paths


def _is_writable(folder: Path) -> bool:
    """Return True if a folder, existing or not, can be written and its disk has space."""
    above = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return os.access(above, os.W_OK) and not is_full(above)
