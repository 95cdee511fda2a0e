"""Find the campaign that a user names, by its label or its file."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cryslator_flows.campaign.file import Campaign
from cryslator_flows.campaign.started import find_started

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryslator_flows.campaign.started import StartedCampaign


@contextmanager
def find_campaign(target: str, project: str | None = None, folder: Path | None = None) -> Iterator[StartedCampaign]:
    """Find a campaign.

    Parameters
    ----------
    target : str
        Its label, or its campaign file.
    project : str or None
        The jobflow-remote project. None for the campaign folder if there is one, else the project that the campaign
        file names, else jobflow-remote's own default.
    folder : Path or None
        The campaign folder, ``runs/NAME`` if None.

    Raises
    ------
    CampaignError
        The campaign file has a mistake.
    ProjectError
        There is no campaign folder, and the project cannot be opened.
    """
    campaign = Campaign.from_file(Path(target)) if Path(target).is_file() else None
    label = campaign.name if campaign else target
    own_project = campaign.jobflow_remote.project if campaign else None
    with find_started(label, project, folder, own_project) as started:
        if campaign is not None:
            started.given_energies = campaign.element_energies
        yield started
