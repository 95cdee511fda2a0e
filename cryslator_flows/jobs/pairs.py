"""Jobs that grow training pairs: relax substituted templates, chunk by chunk, and keep what became of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobflow import Flow, Job, JobConfig, Maker, OnMissing, OutputReference, Response, job

from cryslator_flows.crystals.enumeration import Enumeration, SubstitutionSpace
from cryslator_flows.crystals.packing import PackedCandidates
from cryslator_flows.crystals.templates import AnyTemplateSource
from cryslator_flows.jobs.compare import read_relaxation
from cryslator_flows.jobs.enumerate import gather_in_tree, some_chunks
from cryslator_flows.jobs.following import end_with_first_failure
from cryslator_flows.jobs.select import LANES
from cryslator_flows.jobs.stages import StageConfigs, jobs_of, place
from cryslator_flows.pairs.align import align
from cryslator_flows.pairs.comparisons import relaxed_pair
from cryslator_flows.pairs.grown import GrownPairs, PairCounts, PairsChunk
from cryslator_flows.pairs.raw import Dropped, RawPair
from cryslator_flows.pairs.trajectory import ionic_structures, trajectory_pairs
from cryslator_flows.relaxation.engines import chgnet_maker
from cryslator_flows.schemas import EnumerationCounts, Rejection
from cryslator_flows.translator.records import PairRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobflow import JobStore


@dataclass
class CollectPairsMaker(Maker):
    """Make pairs of the candidates of a chunk and of what they relaxed to.

    Runs also when relaxations failed, and then says so.

    Parameters
    ----------
    name : str
        The job name.
    element_energies : dict
        Energies of the elements by the engine that relaxes, in eV/atom, for formation energies.
    intermediates : int
        How many evenly spaced ionic steps are further unrelaxed crystals of each target.
    """

    name: str = "collect pairs"
    element_energies: dict[str, float] = field(default_factory=dict)
    intermediates: int = 0

    @job(config=JobConfig(on_missing_references=OnMissing.NONE), data=["pairs"], output_schema=PairsChunk)
    def make(self, packed: PackedCandidates, documents: list[list[Any]], job_uuids: list[list[str]]) -> PairsChunk:
        """Collect.

        Parameters
        ----------
        packed : PackedCandidates
            The candidates.
        documents : list
            For each of them the task documents of its jobs in the order they ran; None for a job that failed.
        job_uuids : list
            For each of them the uuids of those jobs.
        """
        pairs: list[PairRecord] = []
        rejections, engines, n_pairs = [], set(), 0
        for candidate, found, uuids in zip(packed.candidates(), documents, job_uuids, strict=True):
            relaxation = read_relaxation("unrelaxed", found, uuids)
            if relaxation.cost is not None:
                engines.add(relaxation.cost.engine)
            raw = relaxed_pair(candidate, [relaxation], self.element_energies)
            aligned = [raw] if isinstance(raw, Dropped) else self._align(raw, found)
            if isinstance(aligned[0], Dropped):
                rejections.append(Rejection(candidate_id=candidate.candidate_id, reason=aligned[0].reason))
            else:
                n_pairs += 1
                pairs += [item for item in aligned if not isinstance(item, Dropped)]
        counts = PairCounts(
            n_candidates=packed.n_candidates,
            n_pairs=n_pairs,
            n_intermediates=len(pairs) - n_pairs,
            dropped=Counter(item.reason for item in rejections),
            engines=sorted(engines),
        )
        rows = [pair.model_dump(mode="json", exclude_none=True) for pair in pairs]
        return PairsChunk(counts=counts, rejections=rejections, pairs=rows)

    def _align(self, pair: RawPair, documents: list[Any]) -> list[PairRecord | Dropped]:
        """Align a pair, which comes first, and its intermediates."""
        steps = [step for document in documents for step in ionic_structures(document)] if self.intermediates else []
        frames = trajectory_pairs(pair.name, pair.unrelaxed, pair.relaxed, steps, self.intermediates, pair.columns)
        return [align(frame) for frame in frames]


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
    stage_configs : dict
        For each stage the ``manager_config`` of its jobs, see `place`.
    """

    name: str = "relax chunk"
    relax_maker: Maker = field(default_factory=chgnet_maker)
    collect_maker: CollectPairsMaker = field(default_factory=CollectPairsMaker)
    stage_configs: StageConfigs = field(default_factory=dict)

    @job(config=JobConfig(on_missing_references=OnMissing.NONE))
    def make(self, packed: PackedCandidates, before: PairCounts | None = None) -> Response:  # noqa: ARG002
        """Relax a chunk.

        Parameters
        ----------
        packed : PackedCandidates
            The candidates.
        before : PairCounts or None
            Of the chunk that has to end before this one begins, if there is one; nothing else is done with it.
        """
        relaxations: list[Flow | Job] = []
        uuids: list[list[str]] = []
        for candidate in packed.candidates():
            relax = self.relax_maker.make(candidate.structure, prev_dir=None)
            relax.append_name(f" {candidate.reduced_formula}")
            place(relax, "relax", self.stage_configs, candidate_id=candidate.candidate_id)
            parts = jobs_of(relax)
            end_with_first_failure(parts)
            relaxations.append(relax)
            uuids.append([part.uuid for part in parts])
        # References without a schema: jobflow rebuilds the JSON schema of a task document at each access.
        documents = [[OutputReference(uuid) for uuid in of_candidate] for of_candidate in uuids]
        collect = self.collect_maker.make(packed, documents, uuids)
        place(collect, "compare", self.stage_configs)
        return Response(replace=Flow([*relaxations, collect], output=collect.output, name=self.name))


@dataclass
class CountPairsMaker(Maker):
    """Sum up the counts of several chunks.

    Parameters
    ----------
    name : str
        The job name.
    """

    name: str = "count pairs"

    @job(config=JobConfig(on_missing_references=OnMissing.NONE), output_schema=PairCounts)
    def make(self, parts: list[PairCounts | None]) -> PairCounts:
        """Count.

        Parameters
        ----------
        parts : list of PairCounts or None
            Of chunks, or of other jobs that count; None for one that failed.
        """
        return PairCounts.add(part for part in parts if part is not None)


@dataclass
class SummarizePairsMaker(Maker):
    """Say what became of the candidates of a flow of pairs.

    Parameters
    ----------
    name : str
        The job name.
    """

    name: str = "summarize pairs"

    @job(config=JobConfig(on_missing_references=OnMissing.NONE), output_schema=GrownPairs)
    def make(self, flow_name: str, enumeration: EnumerationCounts, parts: list[PairCounts | None]) -> GrownPairs:
        """Summarize.

        Parameters
        ----------
        flow_name : str
            Name of the flow.
        enumeration : EnumerationCounts
            What became of the substitutions.
        parts : list of PairCounts or None
            Of all chunks; None for one that failed.
        """
        counts = PairCounts.add(part for part in parts if part is not None)
        lost = enumeration.unique - counts.n_candidates
        if lost:
            counts = PairCounts.add(
                [counts, PairCounts(n_candidates=lost, dropped={"the job of its chunk failed": lost})]
            )
        return GrownPairs(name=flow_name, enumeration=enumeration, counts=counts)


@dataclass
class GrowPairsMaker(Maker):
    """Substitute the elements of templates, relax the candidates chunk by chunk and keep the pairs.

    The job replaces itself by a job for each chunk, four of which run beside each other: the others wait. Its output is
    that of the last one, a `GrownPairs`; the pairs are in the documents of the chunks, `PairsChunk`.

    Parameters
    ----------
    name : str
        The job name.
    charge_balanced : bool
        Drop candidates that no oxidation states known to pymatgen balance.
    rescale_volume : bool
        Scale candidates isotropically to the volume that pymatgen's DLSVolumePredictor expects.
    chunk_size : int
        Candidates in a chunk, about; see `Enumeration.chunks`.
    chunk_maker : RelaxChunkMaker
        Maker of the jobs of the chunks.
    count_maker : CountPairsMaker
        Maker of the jobs that sum up the counts of 25 others.
    summarize_maker : SummarizePairsMaker
        Maker of the last job.
    stage_configs : dict
        For each stage the ``manager_config`` of its jobs, see `place`.
    """

    name: str = "grow pairs"
    charge_balanced: bool = True
    rescale_volume: bool = False
    chunk_size: int = 50
    chunk_maker: RelaxChunkMaker = field(default_factory=RelaxChunkMaker)
    count_maker: CountPairsMaker = field(default_factory=CountPairsMaker)
    summarize_maker: SummarizePairsMaker = field(default_factory=SummarizePairsMaker)
    stage_configs: StageConfigs = field(default_factory=dict)

    @job
    def make(
        self, templates: list[AnyTemplateSource], substitutions: list[SubstitutionSpace], flow_name: str
    ) -> Response:
        """Grow pairs.

        Parameters
        ----------
        templates : list
            Sources of templates, see `cryslator_flows.crystals.templates`.
        substitutions : list
            Substitution spaces, see `cryslator_flows.crystals.substitution`.
        flow_name : str
            Name of the flow.

        Raises
        ------
        StructureError
            No candidate is left, or a source of templates does not exist.
        """
        enumeration = Enumeration(
            (template for source in templates for template in source.load()),
            substitutions,
            charge_balanced=self.charge_balanced,
            rescale_volume=self.rescale_volume,
        )
        jobs: list[Job] = []
        for number, packed in enumerate(some_chunks(enumeration, self.chunk_size)):
            chunk = self.chunk_maker.make(packed, None if number < LANES else jobs[number - LANES].output.counts)
            chunk.append_name(f" {number + 1}")
            place(chunk, "select", self.stage_configs)
            jobs.append(chunk)
        counted, counting = gather_in_tree([chunk.output.counts for chunk in jobs], self._count)
        summary = self.summarize_maker.make(flow_name, enumeration.counts, counted)
        place(summary, "summarize", self.stage_configs)
        return Response(replace=Flow([*jobs, *counting, summary], output=summary.output, name=self.name))

    def _count(self, parts: list[OutputReference]) -> Job:
        counting = self.count_maker.make(parts)
        place(counting, "select", self.stage_configs)
        return counting


def grown_pairs(job_store: JobStore, name: str) -> Iterator[RawPair | Dropped]:
    """The pairs that flows of `PairsFlowMaker` left in a JobStore so far, and what made none.

    Parameters
    ----------
    job_store : JobStore
        A connected JobStore.
    name : str
        Name of the flows. Of a candidate that several of them had, each pair is yielded.

    Yields
    ------
    RawPair or Dropped
        One for each candidate of the chunks that have ended and for each of its intermediates, as
        `cryslator_flows.pairs.make.PairFolder` takes them.
    """
    # Not just "pairs": jobflow would move metadata of that name to the additional store with the pairs of a chunk.
    found = job_store.query({"metadata.pairs_flow": name, "output.@class": PairsChunk.__name__}, ["uuid", "index"])
    for row in sorted(found, key=lambda row: row["uuid"]):
        # One by one: a chunk may be large, and a cursor would time out on whoever takes long.
        document = job_store.query_one({"uuid": row["uuid"], "index": row["index"]}, ["output"], load=True)
        chunk = PairsChunk.model_validate(document["output"])
        for rejection in chunk.rejections:
            yield Dropped(rejection.candidate_id, rejection.reason)
        for pair in chunk.pairs:
            yield _raw_pair(PairRecord.model_validate(pair))


def _raw_pair(record: PairRecord) -> RawPair:
    columns = {**(record.model_extra or {}), "formation_energy_per_atom": record.formation_energy_per_atom}
    return RawPair(
        name=record.target,
        target=record.target,
        unrelaxed=record.structure("unrelaxed"),
        relaxed=record.structure("relaxed"),
        columns={key: value for key, value in columns.items() if value is not None},
    )
