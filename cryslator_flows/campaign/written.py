"""All files that a campaign leaves for people to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryslator_flows.campaign.page.page import write_page
from cryslator_flows.campaign.report import write_files

if TYPE_CHECKING:
    from pathlib import Path

    from cryslator_flows.campaign.started import StartedCampaign
    from cryslator_flows.schemas import CampaignSummary, RelaxationComparison


def write_all(
    started: StartedCampaign,
    summary: CampaignSummary,
    comparisons: list[RelaxationComparison],
    unfinished: int,
    page: Path | None = None,
) -> list[Path]:
    """Write the page, the tables, the relaxed structures and the picture of a campaign, as far as it is.

    Parameters
    ----------
    started : StartedCampaign
        The campaign; the files go to its folder.
    summary : CampaignSummary
        Its summary of now.
    comparisons : list of RelaxationComparison
        Its comparisons of now.
    unfinished : int
        Jobs that wait or run.
    page : Path or None
        The page, ``report.html`` in the folder if None.

    Returns
    -------
    list of Path
        What was written, the page last.

    Raises
    ------
    StoreError
        The page cannot be written.
    """
    results = started.results
    paths = write_files(started.folder, summary, comparisons, results.chunks())
    page = page or started.folder / "report.html"
    return [*paths, write_page(page, summary, comparisons, results.chunks(), started.references, unfinished)]
