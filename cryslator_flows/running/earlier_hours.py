"""Core-hours of relaxations in earlier campaigns, from which the cost of a campaign is estimated."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from statistics import mean
from typing import TYPE_CHECKING, Any

from cryslator_flows.crystals.files import STORE_FILE
from cryslator_flows.errors import CampaignError, StoreError
from cryslator_flows.running.local.folder import CampaignFolder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cryslator_flows.campaign.file import CampaignSettings
    from cryslator_flows.documents.relaxations import Start


@dataclass
class EarlierHours:
    """Core-hours of finished relaxations by start.

    Parameters
    ----------
    hours : dict
        Core-hours of each relaxation, by start.
    campaigns : list of str
        The campaigns of these relaxations.
    """

    hours: dict[Start, list[float]] = field(default_factory=lambda: defaultdict(list))
    campaigns: list[str] = field(default_factory=list)

    @property
    def number(self) -> int:
        """Number of relaxations."""
        return sum(map(len, self.hours.values()))

    def estimate(self, relaxations: dict[Start, int]) -> float | None:
        """Estimate the core-hours of some relaxations; a start without earlier relaxations costs the mean of all.

        Parameters
        ----------
        relaxations : dict
            Number of relaxations by start.
        """
        every = [hours for found in self.hours.values() for hours in found]
        if not every:
            return None
        return sum(number * mean(self.hours.get(start) or every) for start, number in relaxations.items())


def earlier_hours(campaign: CampaignSettings, beside: Path, named: Iterable[Path]) -> EarlierHours:
    """Read the core-hours of relaxations by the campaign's relax maker.

    Parameters
    ----------
    campaign : CampaignSettings
        The campaign.
    beside : Path
        Folder of campaign folders; those of other makers are passed over.
    named : iterable of Path
        Campaign folders to read instead, if there are any.

    Raises
    ------
    CampaignError
        A named folder has no campaign, or one with another relax maker.
    """
    found = EarlierHours()
    maker = None if campaign.relaxation is None else campaign.relaxation.maker
    if maker is None:
        return found
    named = list(named)
    for path in named or sorted(file.parent for file in beside.glob(f"*/{STORE_FILE}")):
        folder = CampaignFolder(path, read_only=True)
        if not folder.exists:
            raise CampaignError(f"{path}: no campaign was run in this folder; give another")
        try:
            theirs = _add_folder(found, folder, maker)
        except StoreError:
            # A damaged campaign that happens to lie beside says nothing about this one.
            if named:
                raise
            continue
        if named and theirs != maker:
            raise CampaignError(f"{path}: relaxes with {theirs!r}, not with {maker!r}; give another folder")
    return found


def _add_folder(found: EarlierHours, folder: CampaignFolder, maker: str) -> object:
    """Add the relaxations of a folder if they are by a maker; return its own maker."""
    seconds: dict[tuple[str, Start], float] = defaultdict(float)
    fields = ["metadata", "output.run_stats", "output.output.elapsed_time"]
    with folder.opened():
        content = json.loads(folder.content or "{}")
        theirs = (content.get("relaxation") or {}).get("maker")
        if theirs != maker:
            return theirs
        for row in folder.job_store.query({"metadata.stage": "relax", "metadata.element": None}, fields, load=False):
            output, work = row.get("output"), row["metadata"]
            # A restored symmetry takes no time and its document has none.
            known = _core_seconds(output) if isinstance(output, dict) else None
            if known is not None and work.get("candidate_id"):
                seconds[work["candidate_id"], work["start"]] += known
    for (_, start), spent in seconds.items():
        found.hours[start].append(spent / 3600)
    if seconds:
        found.campaigns.append(str(content["name"]))
    return theirs


def _core_seconds(output: dict[str, Any]) -> float | None:
    """Return elapsed time times cores of VASP, or the time of one core of other engines; None where unknown."""
    stats = (output.get("run_stats") or {}).get("overall")
    if stats:
        return float(stats["elapsed_time"]) * max(int(stats["cores"]), 1)
    seconds = (output.get("output") or {}).get("elapsed_time")
    return None if seconds is None else float(seconds)
