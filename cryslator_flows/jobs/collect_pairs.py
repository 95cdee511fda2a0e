"""Job that collects the pairs of a chunk of relaxed candidates."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from jobflow import JobConfig, Maker, OnMissing, job

from cryslator_flows.crystals.packing import PackedCandidates
from cryslator_flows.documents.candidates import Rejection
from cryslator_flows.documents.grown_pairs import PairCounts, PairsChunk
from cryslator_flows.jobs.compare import read_relaxation
from cryslator_flows.pairs.align import align
from cryslator_flows.pairs.raw import Dropped, RawPair
from cryslator_flows.pairs.sources.comparisons import relaxed_pair
from cryslator_flows.pairs.sources.trajectory import ionic_structures, trajectory_pairs
from cryslator_flows.training.records import PairRecord


@dataclass
class CollectPairsMaker(Maker):
    """Make pairs of the unrelaxed and the relaxed structures of a chunk of candidates.

    The job runs also when relaxations failed, and then records the failures.

    Parameters
    ----------
    name : str
        The job name.
    element_energies : dict
        Energies of the elements by the engine that relaxes, in eV/atom, for formation energies.
    intermediates : int
        Number of evenly spaced ionic steps that are further unrelaxed crystals of each target.
    """

    name: str = "collect pairs"
    element_energies: dict[str, float] = field(default_factory=dict)
    intermediates: int = 0

    @job(config=JobConfig(on_missing_references=OnMissing.NONE), data=["pairs"], output_schema=PairsChunk)
    def make(self, packed: PackedCandidates, documents: list[list[Any]], job_uuids: list[list[str]]) -> PairsChunk:
        """Collect the pairs of a chunk.

        Parameters
        ----------
        packed : PackedCandidates
            The candidates.
        documents : list
            For each candidate the task documents of its jobs in the order they ran; None for a failed job.
        job_uuids : list
            For each candidate the uuids of these jobs.
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
        """Align a pair and its intermediates; the pair comes first."""
        steps = [step for document in documents for step in ionic_structures(document)] if self.intermediates else []
        frames = trajectory_pairs(pair.name, pair.unrelaxed, pair.relaxed, steps, self.intermediates, pair.columns)
        return [align(frame) for frame in frames]
