"""Job that sums a campaign up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from jobflow import JobConfig, Maker, OnMissing, job

from cryslator_flows.relaxation.savings import measure_savings, paired_steps
from cryslator_flows.schemas import CampaignSummary, EnumerationCounts, RelaxationComparison, TranslatedChunk

PACKAGES = ("cryslator-flows", "atomate2", "jobflow", "pymatgen", "torch", "custodian", "maggma")


@dataclass
class SummarizeMaker(Maker):
    """Write the funnel of a campaign and what translation saved.

    Parameters
    ----------
    name : str
        The job name.
    """

    name: str = "summarize"

    @job(config=JobConfig(on_missing_references=OnMissing.NONE), output_schema=CampaignSummary)
    def make(
        self,
        campaign: str,
        counts: EnumerationCounts,
        chunks: list[TranslatedChunk],
        n_selected: int,
        comparisons: list[RelaxationComparison | None],
    ) -> CampaignSummary:
        """Summarize.

        Parameters
        ----------
        campaign : str
            Name of the campaign.
        counts : EnumerationCounts
            Of the enumeration.
        chunks : list of TranslatedChunk
            Of the translation.
        n_selected : int
            Number of candidates selected.
        comparisons : list of RelaxationComparison
            One for each selected candidate; empty if nothing was relaxed.
        """
        done = [comparison for comparison in comparisons if comparison is not None]
        return summarize(campaign, counts, chunks, n_selected, done)


def summarize(
    campaign: str,
    counts: EnumerationCounts,
    chunks: list[TranslatedChunk],
    n_selected: int,
    comparisons: list[RelaxationComparison],
) -> CampaignSummary:
    """Funnel, outcomes and savings from the documents of a campaign; parameters as in `SummarizeMaker.make`."""
    costs = [item.cost for comparison in comparisons for item in comparison.relaxations if item.cost]
    savings: list[Any] = [
        measure_savings(paired_steps(comparisons, quantity), quantity)
        for quantity in ("electronic steps", "ionic steps")
    ]
    models = {item.model_name: item.model_version for chunk in chunks for item in chunk.translations}
    return CampaignSummary(
        campaign=campaign,
        counts=counts,
        translated=sum(chunk.n_translated for chunk in chunks),
        not_translated=sum(len(chunk.rejections) for chunk in chunks),
        selected=n_selected,
        relaxed=sum(
            any(item.cost and item.cost.converged for item in comparison.relaxations) for comparison in comparisons
        ),
        outcomes=dict(
            Counter(
                ending.outcome
                for comparison in comparisons
                for ending in comparison.endings
                if ending.start == "translated"
            )
        ),
        engines=sorted({cost.engine for cost in costs}),
        savings=[item for item in savings if item is not None],
        versions={**{name: version(name) for name in PACKAGES}, **models},
    )
