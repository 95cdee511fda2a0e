"""Core-hours of earlier campaigns, from which the cost of a campaign is estimated."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from statistics import mean
from typing import TYPE_CHECKING

from cryslator_flows.crystals.source_files import STORE_FILE
from cryslator_flows.errors import CampaignError, StoreError
from cryslator_flows.running.local.folder import CampaignFolder
from cryslator_flows.running.spent_hours import SpentHours

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cryslator_flows.campaign.file import CampaignSettings
    from cryslator_flows.campaign.plan import Plan
    from cryslator_flows.documents.relaxations import Start
    from cryslator_flows.documents.stages import Stage


# Keys of `potential` that decide about the time of a relaxation.
ALIKE = {"maker", "kwargs"}


@dataclass
class EarlierHours(SpentHours):
    """Core-hours of finished work in earlier campaigns.

    Parameters
    ----------
    translations, potential, relaxations, elements
        As in `SpentHours`; those of elements are not collected.
    campaigns : list of str
        The campaigns of the relaxations.
    """

    campaigns: list[str] = field(default_factory=list)

    @property
    def number(self) -> int:
        """Number of relaxations."""
        return sum(map(len, self.relaxations.values()))

    def plan(self, plan: Plan) -> dict[Stage, float]:
        """Estimate the core-hours of each stage of a plan where earlier work tells the time.

        Parameters
        ----------
        plan : Plan
            The plan.
        """
        number = sum(number for number, _ in self.translations)
        each: dict[Stage, float | None] = {
            "translate": sum(hours for _, hours in self.translations) / number if number else None,
            "potential": mean(self.potential) if self.potential else None,
        }
        hours: dict[Stage, float | None] = {
            **{stage: None if one is None else one * plan.units[stage] for stage, one in each.items()},
            "relax": self.estimate(plan.costs),
        }
        return {stage: known for stage, known in hours.items() if known}

    def estimate(self, relaxations: dict[Start, int]) -> float | None:
        """Estimate the core-hours of some relaxations; a start without earlier relaxations costs the mean of all.

        Parameters
        ----------
        relaxations : dict
            Number of relaxations by start.
        """
        every = [hours for found in self.relaxations.values() for hours in found]
        if not every:
            return None
        return sum(number * mean(self.relaxations.get(start) or every) for start, number in relaxations.items())


def earlier_hours(campaign: CampaignSettings, beside: Path, named: Iterable[Path]) -> EarlierHours:
    """Read the core-hours of work that is like the campaign's: by its model, its potential and its relax maker.

    Parameters
    ----------
    campaign : CampaignSettings
        The campaign.
    beside : Path
        Folder of campaign folders; work of other models and makers is passed over.
    named : iterable of Path
        Campaign folders to read instead, if there are any.

    Raises
    ------
    CampaignError
        A named folder has no campaign, or one with another relax maker.
    """
    found = EarlierHours()
    maker = None if campaign.relaxation is None else campaign.relaxation.maker
    named = list(named)
    for path in named or sorted(file.parent for file in beside.glob(f"*/{STORE_FILE}")):
        folder = CampaignFolder(path, read_only=True)
        if not folder.exists:
            raise CampaignError(f"{path}: no campaign was run in this folder; give another")
        try:
            theirs = _add_folder(found, folder, campaign)
        except StoreError:
            # A damaged campaign that happens to lie beside says nothing about this one.
            if named:
                raise
            continue
        if named and maker is not None and theirs != maker:
            raise CampaignError(f"{path}: relaxes with {theirs!r}, not with {maker!r}; give another folder")
    return found


def _add_folder(found: EarlierHours, folder: CampaignFolder, campaign: CampaignSettings) -> object:
    """Add the work of a folder that is alike: same model, same potential, same relax maker; return its relax maker."""
    with folder.opened():
        content = json.loads(folder.content or "{}")
        theirs = (content.get("relaxation") or {}).get("maker")
        potential = None if campaign.potential is None else campaign.potential.model_dump(mode="json", include=ALIKE)
        same_maker = campaign.relaxation is not None and theirs == campaign.relaxation.maker
        same_potential = potential is not None and potential.items() <= (content.get("potential") or {}).items()
        if not (same_maker or same_potential or content.get("model") == campaign.model):
            return theirs
        spent = SpentHours.of(folder.results())
    if content.get("model") == campaign.model:
        found.translations += spent.translations
    if same_potential:
        found.potential += spent.potential
    if same_maker and spent.relaxations:
        for start, hours in spent.relaxations.items():
            found.relaxations[start] += hours
        found.campaigns.append(str(content["name"]))
    return theirs
