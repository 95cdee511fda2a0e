"""Job that sums a campaign up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version

from jobflow import JobConfig, Maker, OnMissing, job

from cryslator_flows.relaxation.savings import count_outcomes, measure_all_savings
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
    relaxations = [item for comparison in comparisons for item in comparison.relaxations]
    costs = [item.cost for item in relaxations if item.cost]
    guarded = Counter(item.start for item in relaxations if item.cost and item.cost.guard is not None)
    models = {chunk.model_name: chunk.model_version for chunk in chunks}
    return CampaignSummary(
        campaign=campaign,
        counts=counts,
        translated=sum(chunk.n_translated for chunk in chunks),
        not_translated=sum(len(chunk.rejections) for chunk in chunks),
        selected=n_selected,
        relaxed=sum(
            any(item.cost and item.cost.converged for item in comparison.relaxations) for comparison in comparisons
        ),
        outcomes=count_outcomes(comparisons),
        guarded=dict(guarded),
        synthetic=sum(cost.synthetic for cost in costs),
        engines=sorted({cost.engine for cost in costs}),
        savings=measure_all_savings(comparisons),
        translation_seconds=_seconds_per_candidate(chunks),
        versions={**{name: version(name) for name in PACKAGES}, **models},
    )


def _seconds_per_candidate(chunks: list[TranslatedChunk]) -> float | None:
    """Mean over the candidates of all chunks whose time is known."""
    timed = [(chunk.n_translated + len(chunk.rejections), chunk.seconds) for chunk in chunks]
    known = [(count, seconds) for count, seconds in timed if count and seconds is not None]
    if not known:
        return None
    return sum(count * seconds for count, seconds in known) / sum(count for count, _ in known)
