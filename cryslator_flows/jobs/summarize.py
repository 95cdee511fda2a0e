"""Job that summarizes a campaign."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from jobflow import JobConfig, Maker, OnMissing, job

from cryslator_flows.analysis.formation_energies import element_energies, elements_without_energy
from cryslator_flows.analysis.savings import count_outcomes, count_prerelaxations, measure_all_savings
from cryslator_flows.documents.adaptation import Adaptation
from cryslator_flows.documents.candidates import EnumerationCounts, TranslationStats
from cryslator_flows.documents.potential import PotentialStats
from cryslator_flows.documents.references import ElementReference
from cryslator_flows.documents.relaxations import Digests, RelaxationComparison
from cryslator_flows.documents.rounds import RoundOutcome
from cryslator_flows.documents.summary import CampaignSummary, Prerelaxations
from cryslator_flows.errors import CampaignError

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGES = ("cryslator-flows", "atomate2", "jobflow", "pymatgen", "torch", "custodian", "maggma")


@dataclass
class SummarizeMaker(Maker):
    """Summarize a campaign: its funnel and the saving by translation.

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
        counts: EnumerationCounts | None,
        stats: TranslationStats | None,
        n_selected: int | None,
        comparisons: list[Digests | None] | None,
        rounds: list[RoundOutcome] | None = None,
        potential: PotentialStats | None = None,
        adaptation: Adaptation | None = None,
        references: list[ElementReference | None] | None = None,
    ) -> CampaignSummary:
        """Summarize the campaign.

        Parameters
        ----------
        campaign : str
            Name of the campaign.
        counts : EnumerationCounts
            Counts of the enumeration.
        stats : TranslationStats
            Counts and times of the translation.
        n_selected : int
            Number of candidates selected.
        comparisons : list of Digests
            One for each chain of waves; empty without relaxations.
        rounds : list of RoundOutcome or None
            Outcomes of the rounds of active learning; None without rounds.
        potential : PotentialStats or None
            What the potential did; None without this stage.
        adaptation : Adaptation or None
            Adaptation of the translator; None without it.
        references : list of ElementReference or None
            The relaxed elements.

        Raises
        ------
        CampaignError
            A stage before the relaxations failed.
        """
        if counts is None or stats is None or n_selected is None or comparisons is None:
            raise CampaignError("nothing to summarize: enumeration, translation or selection failed; see its error")
        done = [comparison for lane in comparisons if lane is not None for comparison in lane.comparisons]
        elements = [item for item in references or () if item is not None]
        return summarize(campaign, counts, stats, n_selected, done, rounds or (), potential, adaptation, elements)


def summarize(
    campaign: str,
    counts: EnumerationCounts,
    stats: TranslationStats,
    n_selected: int,
    comparisons: list[RelaxationComparison],
    rounds: Sequence[RoundOutcome] = (),
    potential: PotentialStats | None = None,
    adaptation: Adaptation | None = None,
    references: Sequence[ElementReference] = (),
) -> CampaignSummary:
    """Summarize funnel, outcomes and savings of a campaign.

    Parameters are as in `SummarizeMaker.make`, except that the comparisons are in one list here.
    """
    relaxations = [item for comparison in comparisons for item in comparison.relaxations]
    costs = [item.cost for item in relaxations if item.cost]
    guarded = Counter(item.start for item in relaxations if item.cost and item.cost.guard is not None)
    return CampaignSummary(
        campaign=campaign,
        counts=counts,
        translated=stats.n_translated,
        not_translated=stats.n_rejected,
        out_of_domain=stats.n_out_of_domain,
        domain_reasons=stats.domain_reasons,
        left_out=stats.left_out,
        selected=n_selected,
        relaxed=sum(
            any(item.cost and item.cost.converged for item in comparison.relaxations) for comparison in comparisons
        ),
        outcomes=count_outcomes(comparisons),
        guarded=dict(guarded),
        synthetic=sum(cost.synthetic for cost in costs),
        engines=sorted({cost.engine for cost in costs}),
        savings=measure_all_savings(comparisons),
        rounds=list(rounds),
        potential=potential,
        adaptation=adaptation,
        element_energies=element_energies(references),
        elements_without_energy=elements_without_energy(references),
        translation_seconds=stats.seconds,
        prerelaxations=count_prerelaxations(comparisons) or _by_the_stage(potential, comparisons),
        reused=sum(comparison.reused_from is not None for comparison in comparisons),
        versions={**{name: version(name) for name in PACKAGES}, **stats.models},
    )


def _by_the_stage(potential: PotentialStats | None, comparisons: list[RelaxationComparison]) -> list[Prerelaxations]:
    """Return the cost of the structures that the stage `potential` gives to the relaxations."""
    if potential is None or potential.engine is None or not comparisons:
        return []
    return [
        Prerelaxations(
            start="translated_mlip",
            engines=[potential.engine],
            n_candidates=potential.n_relaxed,
            unconverged=potential.n_unconverged,
            ionic_steps=potential.ionic_steps,
            seconds=potential.seconds,
        )
    ]
