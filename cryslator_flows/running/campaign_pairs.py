"""Training pairs from a started campaign."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cryslator_flows.pairs.sources.comparisons import comparison_pairs
from cryslator_flows.running.find import find_campaign
from cryslator_flows.running.local.folder import CampaignFolder
from cryslator_flows.running.started import StartedCampaign

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryslator_flows.pairs.raw import Dropped, RawPair


def campaign_pairs(target: str, project: str | None = None) -> Iterator[RawPair | Dropped]:
    """Yield pairs from all candidates that a campaign has relaxed so far.

    Parameters
    ----------
    target : str
        The campaign: its folder, its label or its campaign file.
    project : str or None
        The jobflow-remote project, see `find_campaign`.

    Yields
    ------
    RawPair or Dropped
        One for each candidate, see `comparison_pairs`. Formation energies use ``relaxation.element_energies`` of the
        campaign file.

    Raises
    ------
    CampaignError
        The campaign does not exist, or its enumeration has not ended.
    ProjectError
        The folder does not exist, and the project cannot be opened.
    """
    with _opened(target, project) as started:
        comparisons = started.results.comparisons()
        if not comparisons:
            started.results.stages()
        yield from comparison_pairs(comparisons, started.element_energies)


@contextmanager
def _opened(target: str, project: str | None) -> Iterator[StartedCampaign]:
    place = CampaignFolder(Path(target), read_only=True)
    if place.exists:
        with place.opened():
            yield StartedCampaign(place.label, place.path, place)
    else:
        with find_campaign(target, project) as started:
            yield started
