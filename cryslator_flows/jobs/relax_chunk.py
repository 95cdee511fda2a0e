"""Job that relaxes a chunk of candidates."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobflow import Flow, Job, JobConfig, Maker, OnMissing, OutputReference, Response, job

from cryslator_flows.crystals.packing import PackedCandidates
from cryslator_flows.documents.grown_pairs import PairCounts, PairsChunk
from cryslator_flows.engines.by_name import chgnet_maker
from cryslator_flows.jobs.collect_pairs import CollectPairsMaker
from cryslator_flows.jobs.following import end_with_first_failure
from cryslator_flows.jobs.placing import place


@dataclass
class RelaxChunkMaker(Maker):
    """Relax the unrelaxed structures of a chunk of candidates and collect the pairs.

    Parameters
    ----------
    name : str
        The job name.
    relax_maker : Maker
        Any atomate2 maker with ``make(structure, prev_dir=None)``.
    collect_maker : CollectPairsMaker
        Maker of the job that collects the pairs.
    """

    name: str = "relax chunk"
    relax_maker: Maker = field(default_factory=chgnet_maker)
    collect_maker: CollectPairsMaker = field(default_factory=CollectPairsMaker)

    @job(config=JobConfig(on_missing_references=OnMissing.NONE))
    def make(self, packed: PackedCandidates, before: PairCounts | None = None) -> Response[PairsChunk]:  # noqa: ARG002
        """Relax a chunk.

        Parameters
        ----------
        packed : PackedCandidates
            The candidates.
        before : PairCounts or None
            Counts of the chunk that must end before this one begins; they have no other use.
        """
        relaxations: list[Flow | Job] = []
        documents: list[list[OutputReference]] = []
        for candidate in packed.candidates():
            relax = self.relax_maker.make(candidate.structure, prev_dir=None)
            relax.append_name(f" {candidate.reduced_formula}")
            place(relax, "relax", candidate_id=candidate.candidate_id)
            relaxations.append(relax)
            documents.append(end_with_first_failure(relax))
        uuids = [[document.uuid for document in of_candidate] for of_candidate in documents]
        collect = self.collect_maker.make(packed, documents, uuids)
        place(collect, "compare")
        return Response(replace=Flow([*relaxations, collect], output=collect.output, name=self.name))
