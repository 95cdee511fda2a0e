"""Job that adapts the translator to the candidates of a campaign before the selection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobflow import Flow, Maker, OutputReference, Response, job

from cryslator_flows.crystals.packing import PackedCandidates, Shortlist
from cryslator_flows.engines.by_name import chgnet_maker
from cryslator_flows.errors import CampaignError
from cryslator_flows.jobs.adapt_model import AdaptModelMaker
from cryslator_flows.jobs.enumerate import gather_in_tree
from cryslator_flows.jobs.gather import GatherMaker, join_batches
from cryslator_flows.jobs.placing import place
from cryslator_flows.jobs.potential_relax import elements_of, relax_compounds, relax_in_batches
from cryslator_flows.jobs.translate_chunk import TranslateChunkMaker
from cryslator_flows.screening.acquisition import RandomSample
from cryslator_flows.screening.cuts import Cuts

if TYPE_CHECKING:
    from jobflow import Job


@dataclass
class AdaptMaker(Maker):
    """Relax a random sample with a potential, fine-tune on half of it, and translate all candidates again.

    The job replaces itself by relaxations of the sample, a job that adapts the model, and translation jobs for all
    chunks of candidates. Its output has the newest `Shortlist` documents under ``parts``, and fields of `Adapted`
    under ``adaptation``, ``relaxed`` and ``compounds``. If the campaign's own model is kept, the translations are as
    before.

    Parameters
    ----------
    name : str
        The job name.
    relax_maker : Maker
        Any atomate2 maker of one job with ``make(structure, prev_dir=None)``; default CHGNet.
    batch : int
        Number of candidates in a job of relaxations.
    sample : RandomSample
        Chooses the candidates to relax.
    cuts : Cuts
        Cuts of the selection, for the shortlists.
    model_maker : AdaptModelMaker
        Maker of the job that adapts the model.
    translate_maker : TranslateChunkMaker
        Maker of the translation jobs.
    gather_maker : GatherMaker
        Maker of the jobs that gather shortlists.

    Examples
    --------
    >>> AdaptMaker(sample=RandomSample(100)).name
    'sample'
    """

    name: str = "sample"
    relax_maker: Maker = field(default_factory=chgnet_maker)
    batch: int = 100
    sample: RandomSample = field(default_factory=lambda: RandomSample(200))
    cuts: Cuts = field(default_factory=lambda: Cuts(top_k=10))
    model_maker: AdaptModelMaker = field(default_factory=AdaptModelMaker)
    translate_maker: TranslateChunkMaker = field(default_factory=TranslateChunkMaker)
    gather_maker: GatherMaker = field(default_factory=GatherMaker)

    @job
    def make(self, parts: list[Shortlist], chunks: list[PackedCandidates], campaign: str) -> Response[dict[str, Any]]:
        """Adapt the translator.

        Parameters
        ----------
        parts : list of Shortlist
            Shortlists of all candidates, with the candidates that the sample may have.
        chunks : list of PackedCandidates
            All candidates.
        campaign : str
            Name of the campaign.

        Raises
        ------
        CampaignError
            No candidate was translated.
        """
        sample = self.sample.choose(join_batches(parts))
        if not sample.n_candidates:
            raise CampaignError("potential.adapt: no candidate was translated, see the rejections of the translation")
        compounds = relax_compounds(self.relax_maker, elements_of(sample), self.name)
        batches = relax_in_batches(self.relax_maker, sample, self.batch, self.name)
        outputs = [batch.output for batch in batches]
        adapt = self.model_maker.make(campaign, self.sample.size, sample, outputs, compounds.output)
        place(adapt, "learn")
        adapted = OutputReference(adapt.uuid)
        translations: list[Job] = []
        for number, packed in enumerate(chunks, 1):
            translations.append(self.translate_maker.make(packed, self.cuts, None, adapted.model))
            translations[-1].append_name(f" {number}, adapted")
            place(translations[-1], "translate", adapted=True)
        newest, gathers = gather_in_tree(
            [translation.output for translation in translations], lambda group: self.gather_maker.make(group, self.cuts)
        )
        for gather in gathers:
            place(gather, "select")
        output = {
            "parts": newest,
            "adaptation": adapted.adaptation,
            "relaxed": adapted.relaxed,
            "compounds": adapted.compounds,
        }
        jobs: list[Flow | Job] = [compounds, *batches, adapt, *translations, *gathers]
        return Response(
            output={"sample": sample.arrays()["candidate_id"].tolist()},
            replace=Flow(jobs, output=output, name="adapt the translator"),
        )
