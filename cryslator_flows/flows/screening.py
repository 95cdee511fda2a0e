"""Flow of a whole screening campaign."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobflow import Flow, Maker

from cryslator_flows.flows.comparison import RelaxationComparisonFlowMaker
from cryslator_flows.jobs.enumerate import EnumerateMaker
from cryslator_flows.jobs.select import SelectMaker
from cryslator_flows.jobs.summarize import SummarizeMaker

if TYPE_CHECKING:
    from cryslator_flows.crystals.enumeration import SubstitutionSpace
    from cryslator_flows.crystals.templates import AnyTemplateSource


@dataclass
class ScreeningFlowMaker(Maker):
    """Screen the substitutions of templates: enumerate, translate, select, relax, summarize.

    The relaxations are made by ``select_maker.comparison_maker.relax_maker``, so atomate2's powerups reach it
    through this maker like through any other.

    Parameters
    ----------
    name : str
        The flow name.
    enumerate_maker : EnumerateMaker
        Enumerates the candidates and translates them in chunks.
    select_maker : SelectMaker
        Selects candidates and has them relaxed.
    summarize_maker : SummarizeMaker
        Sums the campaign up.
    """

    name: str = "screening"
    enumerate_maker: EnumerateMaker = field(default_factory=EnumerateMaker)
    select_maker: SelectMaker = field(
        default_factory=lambda: SelectMaker(top_k=10, comparison_maker=RelaxationComparisonFlowMaker())
    )
    summarize_maker: SummarizeMaker = field(default_factory=SummarizeMaker)

    def make(self, templates: list[AnyTemplateSource], substitutions: list[SubstitutionSpace]) -> Flow:
        """Make the flow.

        Parameters
        ----------
        templates : list
            Sources of templates, see `cryslator_flows.crystals.templates`.
        substitutions : list
            Substitution spaces, see `cryslator_flows.crystals.substitution`.

        Returns
        -------
        Flow
            Its output is a `CampaignSummary`.
        """
        enumeration = self.enumerate_maker.make(templates, substitutions)
        chunks = enumeration.output["chunks"]
        select = self.select_maker.make(chunks, self.name)
        summary = self.summarize_maker.make(
            self.name, enumeration.output["counts"], chunks, select.output["n_selected"], select.output["comparisons"]
        )
        flow = Flow([enumeration, select, summary], output=summary.output, name=self.name)
        flow.update_metadata({"campaign": self.name}, dynamic=True)
        return flow
