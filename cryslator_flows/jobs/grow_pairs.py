"""Job that grows training pairs: it relaxes substituted templates, chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobflow import Flow, Job, OutputReference, Response, job

from cryslator_flows.crystals.enumeration import SubstitutionSpace
from cryslator_flows.crystals.templates import AnyTemplateSource
from cryslator_flows.documents.grown_pairs import GrownPairs
from cryslator_flows.jobs.count_pairs import CountPairsMaker
from cryslator_flows.jobs.enumerate import EnumerateChunksMaker, gather_in_tree
from cryslator_flows.jobs.placing import place
from cryslator_flows.jobs.relax_chunk import RelaxChunkMaker
from cryslator_flows.jobs.relax_lanes import LANES
from cryslator_flows.jobs.summarize_pairs import SummarizePairsMaker


@dataclass
class GrowPairsMaker(EnumerateChunksMaker):
    """Substitute the elements of templates, relax the candidates chunk by chunk and keep the pairs.

    The job replaces itself by a job for each chunk. Four of them run side by side, the others wait. Its output is the
    `GrownPairs` of the last job. The pairs are in the documents of the chunks, `PairsChunk`.

    Parameters
    ----------
    name, charge_balanced, rescale_volume, chunk_size, filters
        As in `EnumerateChunksMaker`.
    chunk_maker : RelaxChunkMaker
        Maker of the jobs of the chunks.
    count_maker : CountPairsMaker
        Maker of the jobs that add up the counts of 25 others.
    summarize_maker : SummarizePairsMaker
        Maker of the last job.

    Examples
    --------
    >>> from cryslator_flows.crystals.substitution import ExplicitMaps
    >>> from cryslator_flows.crystals.templates import AflowTemplates
    >>> maker = GrowPairsMaker(chunk_size=50)
    >>> maker.make([AflowTemplates(n_elements=3)], [ExplicitMaps(kind="maps", maps=[{"Ca": "Sr"}])], "oxides").name
    'grow pairs'
    """

    name: str = "grow pairs"
    chunk_size: int = 50
    chunk_maker: RelaxChunkMaker = field(default_factory=RelaxChunkMaker)
    count_maker: CountPairsMaker = field(default_factory=CountPairsMaker)
    summarize_maker: SummarizePairsMaker = field(default_factory=SummarizePairsMaker)

    @job
    def make(
        self, templates: list[AnyTemplateSource], substitutions: list[SubstitutionSpace], flow_name: str
    ) -> Response[GrownPairs]:
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
        chunks, counts = self.enumerate(templates, substitutions)
        jobs: list[Job] = []
        for number, packed in enumerate(chunks):
            chunk = self.chunk_maker.make(packed, None if number < LANES else jobs[number - LANES].output.counts)
            chunk.append_name(f" {number + 1}")
            place(chunk, "select")
            jobs.append(chunk)
        counted, counting = gather_in_tree([chunk.output.counts for chunk in jobs], self._count)
        summary = self.summarize_maker.make(flow_name, counts, counted)
        place(summary, "summarize")
        return Response(replace=Flow([*jobs, *counting, summary], output=summary.output, name=self.name))

    def _count(self, parts: list[OutputReference]) -> Job:
        counting = self.count_maker.make(parts)
        place(counting, "select")
        return counting
