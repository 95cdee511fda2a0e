"""Flow of a whole screening campaign."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from jobflow import Flow, Maker

from cryslator_flows.flows.relaxation_comparison import RelaxationComparisonFlowMaker
from cryslator_flows.flows.relaxed_elements import RelaxElementFlowMaker
from cryslator_flows.jobs.adapt import AdaptMaker
from cryslator_flows.jobs.enumerate import EnumerateMaker
from cryslator_flows.jobs.learning_round import RoundMaker
from cryslator_flows.jobs.placing import place
from cryslator_flows.jobs.relax import RelaxSelectedMaker
from cryslator_flows.jobs.relax_lanes import relax_in_lanes
from cryslator_flows.jobs.select import SelectMaker
from cryslator_flows.jobs.summarize import SummarizeMaker
from cryslator_flows.translator.model_folder import find_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobflow import OutputReference

    from cryslator_flows.crystals.enumeration import SubstitutionSpace
    from cryslator_flows.crystals.packing import TranslatedCandidates
    from cryslator_flows.crystals.templates import AnyTemplateSource
    from cryslator_flows.documents.references import Known
    from cryslator_flows.documents.relaxations import Start


@dataclass
class ScreeningFlowMaker(Maker):
    """Screen the substitutions of templates: enumerate, translate, learn in rounds, select, relax, summarize.

    ``select_maker.relax_maker.comparison_maker.relax_maker`` makes the relaxations. atomate2's powerups on this maker
    reach it, as with any other maker.

    Parameters
    ----------
    name : str
        The flow name.
    enumerate_maker : EnumerateMaker
        Enumerates the candidates and translates them in chunks.
    select_maker : SelectMaker
        Selects candidates and makes the jobs that relax them.
    summarize_maker : SummarizeMaker
        Summarizes the campaign.
    round_maker : RoundMaker or None
        Makes rounds of active learning between translation and selection; None for no rounds. This maker sets its
        cuts and its relax maker.
    adapt_maker : AdaptMaker or None
        Adapts the translator to a sample of the candidates before the selection; None without. It takes the place of
        rounds. This maker sets its cuts.

    Examples
    --------
    >>> from cryslator_flows.crystals.substitution import ExplicitMaps
    >>> from cryslator_flows.crystals.templates import AflowTemplates
    >>> maker = ScreeningFlowMaker(name="perovskites")
    >>> maker.make([AflowTemplates(n_elements=3)], [ExplicitMaps(kind="maps", maps=[{"Ca": "Sr"}])]).name
    'perovskites'
    """

    name: str = "screening"
    enumerate_maker: EnumerateMaker = field(default_factory=EnumerateMaker)
    select_maker: SelectMaker = field(
        default_factory=lambda: SelectMaker(relax_maker=RelaxSelectedMaker(RelaxationComparisonFlowMaker()))
    )
    summarize_maker: SummarizeMaker = field(default_factory=SummarizeMaker)
    round_maker: RoundMaker | None = None
    adapt_maker: AdaptMaker | None = None

    def make(
        self,
        templates: list[AnyTemplateSource],
        substitutions: list[SubstitutionSpace],
        known: Sequence[Known | OutputReference] = (),
    ) -> Flow:
        """Make the flow.

        Parameters
        ----------
        templates : list
            Sources of templates, see `cryslator_flows.crystals.templates`.
        substitutions : list
            Substitution spaces, see `cryslator_flows.crystals.substitution`.
        known : sequence of Known or OutputReference
            Relaxations of other campaigns, which are not repeated.

        Returns
        -------
        Flow
            Its output is a `CampaignSummary`.
        """
        cuts, rounds, adapt = self.select_maker.cuts, self._round_maker(), self._adapt_maker()
        choice = adapt.sample if adapt is not None else None if rounds is None else rounds.acquisition
        enumeration = self.enumerate_maker.make(templates, substitutions, cuts, choice)
        place(enumeration, "enumerate")
        jobs, enumerated = [enumeration], enumeration.output
        parts, digests, outcomes, references = enumerated["parts"], None, None, None
        adaptation, prerelaxed = None, None
        if adapt is not None:
            sample = adapt.make(parts, enumerated["chunks"], self.name)
            place(sample, "select")
            jobs.append(sample)
            parts, adaptation = sample.output["parts"], sample.output["adaptation"]
            prerelaxed = {name: sample.output[name] for name in ("relaxed", "compounds")}
        elif rounds is not None:
            first = rounds.make(parts, enumerated["part_uuids"], enumerated["chunks"], self.name, list(known))
            first.append_name(" 1", dynamic=False)
            place(first, "select")
            jobs.append(first)
            parts, digests, outcomes, references = (
                first.output[name] for name in ("parts", "digests", "outcomes", "references")
            )
        select = self.select_maker.make(parts, self.name, list(known), digests, prerelaxed, references)
        place(select, "select")
        summary = self.summarize_maker.make(
            self.name,
            enumeration.output["counts"],
            select.output.stats,
            select.output.n_selected,
            select.output.comparisons,
            outcomes,
            select.output.potential,
            adaptation,
            select.output.references,
        )
        place(summary, "summarize")
        flow = Flow([*jobs, select, summary], output=summary.output, name=self.name)
        flow.update_metadata({"campaign": self.name}, dynamic=True)
        return flow

    def make_relaxations(
        self,
        selected: TranslatedCandidates,
        known: Sequence[Known] = (),
        prerelaxed: TranslatedCandidates | None = None,
    ) -> Flow:
        """Make a flow that relaxes candidates from `Selection.remaining` of `make`.

        Parameters
        ----------
        selected : TranslatedCandidates
            All remaining candidates or some.
        known : sequence of Known
            Relaxations of other campaigns, which are not repeated.
        prerelaxed : TranslatedCandidates or None
            The same candidates from `Selection.prerelaxed`; None without a potential.

        Raises
        ------
        ValueError
            This maker stops after the selection.
        """
        relax_maker = self.select_maker.relax_maker
        if relax_maker is None:
            raise ValueError(f"{self.name}: stops after the selection; set select_maker.relax_maker")
        # The controls are among the candidates that `make` relaxes.
        others = replace(relax_maker, controls=0)
        flow = Flow(relax_in_lanes(others, selected, self.name, list(known), prerelaxed), name=self.name)
        flow.update_metadata({"campaign": self.name}, dynamic=True)
        return flow

    def elements_key(self) -> str | None:
        """Hash all that decides about the relaxation of elements; None if the campaign relaxes none."""
        relax_maker = self.select_maker.relax_maker
        if relax_maker is None or relax_maker.known_elements is None:
            return None
        return RelaxElementFlowMaker(relax_maker=relax_maker.comparison_maker.relax_maker).settings_key()

    def settings_keys(self) -> set[str]:
        """Hash all that decides about relaxations, once for each choice of starts; empty without relaxations.

        Raises
        ------
        ModelError
            The model does not exist.
        """
        relax_maker = self.select_maker.relax_maker
        if relax_maker is None:
            return set()
        model = find_model(self.enumerate_maker.translate_maker.model_name)
        # Those of the controls, of the others, and of candidates whose translation is uncertain.
        choices: list[tuple[Start, ...]] = [
            relax_maker.control_starts,
            (relax_maker.other_start,),
            ("translated_mlip",),
        ]
        settings_key = relax_maker.comparison_maker.settings_key
        return {settings_key(model.config().name, model.version(), starts) for starts in choices}

    def _round_maker(self) -> RoundMaker | None:
        relax_maker = self.select_maker.relax_maker
        if self.round_maker is None or relax_maker is None:
            return None
        return replace(self.round_maker, cuts=self.select_maker.cuts, relax_maker=relax_maker)

    def _adapt_maker(self) -> AdaptMaker | None:
        return None if self.adapt_maker is None else replace(self.adapt_maker, cuts=self.select_maker.cuts)
