"""Core-hours of the finished work of a campaign, by stage."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryslator_flows.documents.relaxations import Start
    from cryslator_flows.documents.stages import Stage
    from cryslator_flows.results.results import CampaignResults


@dataclass
class SpentHours:
    """Core-hours of the jobs of a campaign that are done, as far as their documents have times.

    Parameters
    ----------
    translations : list of (int, float)
        Number of candidates and core-hours of each translation job; of one core, also where it started processes.
    potential : list of float
        Core-hours of each relaxation by the potential, known compounds included.
    relaxations : dict
        Core-hours of each relaxation of a candidate, by start.
    elements : list of float
        Core-hours of each relaxation of an element.
    """

    translations: list[tuple[int, float]] = field(default_factory=list)
    potential: list[float] = field(default_factory=list)
    relaxations: dict[Start, list[float]] = field(default_factory=lambda: defaultdict(list))
    elements: list[float] = field(default_factory=list)

    def by_stage(self) -> dict[Stage, float]:
        """Return the core-hours of each stage that has any."""
        of_candidates = [hours for found in self.relaxations.values() for hours in found]
        hours: dict[Stage, float] = {
            "translate": sum(hours for _, hours in self.translations),
            "potential": sum(self.potential),
            "relax": sum([*of_candidates, *self.elements]),
        }
        return {stage: spent for stage, spent in hours.items() if spent}

    @classmethod
    def of(cls, results: CampaignResults) -> SpentHours:
        """Read the core-hours of a finished or running campaign."""
        spent = cls()
        store, label = results.job_store, results.label
        translated = {"metadata.campaign": label, "metadata.stage": "translate", "output.stats": {"$exists": True}}
        for row in store.query(translated, ["output.stats"], load=False):
            stats = row["output"]["stats"]
            number = stats["n_translated"] + stats["n_rejected"]
            if stats.get("seconds") is not None:
                spent.translations.append((number, number * stats["seconds"] / 3600))
        for batch in results.potential_batches():
            spent.potential += [item.seconds / 3600 for item in batch.relaxed if item.seconds is not None]
        seconds: dict[tuple[str, Start, bool], float] = defaultdict(float)
        fields = ["metadata", "output.run_stats", "output.output.elapsed_time"]
        for row in store.query({"metadata.campaign": label, "metadata.stage": "relax"}, fields, load=False):
            output, work = row.get("output"), row["metadata"]
            # A restored symmetry takes no time and its document has none.
            known = _core_seconds(output) if isinstance(output, dict) else None
            if known is not None and work.get("candidate_id"):
                seconds[work["candidate_id"], work["start"], "element" in work] += known
        for (_, start, is_element), known in seconds.items():
            (spent.elements if is_element else spent.relaxations[start]).append(known / 3600)
        return spent


def _core_seconds(output: dict[str, Any]) -> float | None:
    """Return elapsed time times MPI ranks of VASP, or the time of one core of other engines; None where unknown."""
    stats = (output.get("run_stats") or {}).get("overall")
    if stats:
        return float(stats["elapsed_time"]) * max(int(stats["cores"]), 1)
    seconds = (output.get("output") or {}).get("elapsed_time")
    return None if seconds is None else float(seconds)
