"""Search for the campaign that a user names, by its label or its file."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cryslator_flows.campaign.file import CampaignSettings, folder_label
from cryslator_flows.config import YamlFile
from cryslator_flows.errors import CampaignError
from cryslator_flows.running.started import find_started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryslator_flows.running.started import StartedCampaign


@contextmanager
def find_campaign(
    target: Path | str, project: str | None = None, folder: Path | str | None = None
) -> Iterator[StartedCampaign]:
    """Find a campaign by its label, its file or its folder of structures.

    Parameters
    ----------
    target : Path or str
        Its label, its campaign file, or the folder of structures that it screens as they are.
    project : str or None
        The jobflow-remote project. If None: the campaign folder if there is one, else the project in the campaign
        file, else jobflow-remote's default project.
    folder : Path, str or None
        The campaign folder, ``runs/NAME`` if None.

    Raises
    ------
    CampaignError
        The campaign file has a mistake.
    ProjectError
        The campaign folder does not exist, and the project cannot be opened.
    """
    # Files that the campaign file names may be gone. Unlike Path.is_file, isfile is False for names that are too long.
    is_file = os.path.isfile(target)  # noqa: PTH113
    campaign = YamlFile(target, CampaignError).parse(CampaignSettings) if is_file else None
    label = str(target)
    if campaign is not None:
        label = campaign.name
    elif os.path.isdir(target):  # noqa: PTH112
        label = folder_label(target)
    own_project = campaign.jobflow_remote.project if campaign else None
    with find_started(label, project, folder, own_project) as started:
        if campaign is not None:
            started.given_energies = campaign.element_energies
        yield started
