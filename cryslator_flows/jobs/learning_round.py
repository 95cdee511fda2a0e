"""Job that makes a round of active learning."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from jobflow import Flow, Maker, OutputReference, Response, job

from cryslator_flows.crystals.packing import PackedCandidates, Shortlist
from cryslator_flows.documents.references import Known
from cryslator_flows.documents.rounds import Learned
from cryslator_flows.jobs.enumerate import gather_in_tree
from cryslator_flows.jobs.gather import GatherMaker, join_batches
from cryslator_flows.jobs.learn import LearnMaker
from cryslator_flows.jobs.placing import place
from cryslator_flows.jobs.relax import RelaxSelectedMaker
from cryslator_flows.jobs.relax_lanes import relax_elements
from cryslator_flows.jobs.translate_chunk import TranslateChunkMaker
from cryslator_flows.screening.acquisition import Acquisition
from cryslator_flows.screening.cuts import Cuts

if TYPE_CHECKING:
    from jobflow import Job


@dataclass
class RoundMaker(Maker):
    """Relax a batch, fine-tune on it, translate all candidates again, and make the next round.

    The job replaces itself by relaxations of its batch and of elements that no round has relaxed yet, a job that
    fine-tunes, translation jobs for all chunks of candidates, and the next round. The job after the last round, or the
    first without a candidate left, ends the rounds. Its output is the output of all rounds. ``parts`` has the newest
    `Shortlist` documents, which hold all candidates that may be selected. ``digests`` and ``outcomes`` have the
    `Digests` and the `RoundOutcome` of each round, ``references`` the relaxed elements.

    Parameters
    ----------
    relax_maker : RelaxSelectedMaker
        Relaxes each batch in one wave, with its controls in each batch.
    name : str
        The job name.
    rounds : int
        Number of rounds.
    acquisition : Acquisition
        Chooses the batches.
    cuts : Cuts
        Cuts of the selection after the rounds, for the shortlists.
    learn_maker : LearnMaker
        Maker of the jobs that fine-tune.
    translate_maker : TranslateChunkMaker
        Maker of the translation jobs.
    gather_maker : GatherMaker
        Maker of the jobs that gather shortlists.
    """

    relax_maker: RelaxSelectedMaker
    name: str = "round"
    rounds: int = 3
    acquisition: Acquisition = field(default_factory=lambda: Acquisition(8))
    cuts: Cuts = field(default_factory=lambda: Cuts(top_k=10))
    learn_maker: LearnMaker = field(default_factory=LearnMaker)
    translate_maker: TranslateChunkMaker = field(default_factory=TranslateChunkMaker)
    gather_maker: GatherMaker = field(default_factory=GatherMaker)

    @job
    def make(
        self,
        parts: list[Shortlist],
        part_uuids: list[str],
        chunks: list[PackedCandidates],
        campaign: str,
        known: list[Known],
        learned: Learned | None = None,
    ) -> Response[dict[str, Any]]:
        """Make a round.

        Parameters
        ----------
        parts : list of Shortlist
            Candidates that the round may relax.
        part_uuids : list of str
            Uuids of the jobs that made `parts`.
        chunks : list of PackedCandidates
            All candidates.
        campaign : str
            Name of the campaign.
        known : list of Known
            Relaxations of other campaigns, which are not repeated.
        learned : Learned or None
            Output of the round before; None for the first round.
        """
        number = 1 + (len(learned.outcomes) if learned else 0)
        batch = self.acquisition.choose(join_batches(parts)) if number <= self.rounds else None
        if batch is None or not batch.n_candidates:
            return Response(output=_ended(part_uuids, learned))
        names = batch.arrays()["candidate_id"].tolist()
        relax_maker = self.relax_maker.with_controls(batch)
        reused, rows = relax_maker.reuse(batch, campaign, known)
        relaxed = dict(zip(rows, relax_maker.comparisons(batch.take(rows), campaign), strict=True))
        relaxations = [reused[row] if row in reused else relaxed[row] for row in range(batch.n_candidates)]
        for flow in relaxations:
            flow.update_metadata({"round": number}, dynamic=True)
        elements = relax_elements(
            relax_maker, relax_maker.elements_to_relax(batch, learned.references if learned else ()), known
        )
        learn = self.learn_maker.make(
            campaign, names, [flow.output for flow in relaxations], [flow.output for flow in elements], learned
        )
        acquisition = self.acquisition.excluding(names)
        translations = [
            self.translate_maker.make(packed, self.cuts, acquisition, OutputReference(learn.uuid).model)
            for packed in chunks
        ]
        newest, gathers = gather_in_tree(
            [translation.output for translation in translations],
            lambda group: self.gather_maker.make(group, self.cuts, acquisition),
        )
        self._place(number, learn, translations, gathers)
        following = replace(self, acquisition=acquisition).make(
            newest,
            [part.uuid for part in newest],
            # Not `chunks`: references stay small. jobflow-remote has no references to jobs of earlier rounds.
            [translation.output.packed for translation in translations],
            campaign,
            known,
            OutputReference(learn.uuid),
        )
        following.name = f"{self.name} {number + 1}" if number < self.rounds else f"end of {self.name}s"
        place(following, "select")
        jobs: list[Flow | Job] = [*elements, *relaxations, learn, *translations, *gathers, following]
        return Response(
            output={"round": number, "batch": names},
            replace=Flow(jobs, output=following.output, name=f"{self.name} {number}"),
        )

    def _place(self, number: int, learn: Job, translations: list[Job], gathers: list[Job]) -> None:
        learn.append_name(f" {number}")
        place(learn, "learn", round=number)
        for chunk, translation in enumerate(translations, 1):
            translation.append_name(f" {chunk}, round {number}")
            place(translation, "translate", round=number)
        for gather in gathers:
            place(gather, "select", round=number)


def _ended(part_uuids: list[str], learned: Learned | None) -> dict[str, Any]:
    """Return the output of all rounds; shortlists are references, so that they are not copied."""
    return {
        "parts": [OutputReference(uuid) for uuid in part_uuids],
        "digests": [learned.digests] if learned else [],
        "outcomes": learned.outcomes if learned else [],
        "references": learned.references if learned else [],
    }
