"""Flow that relaxes one candidate from one or both starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobflow import Flow, Job, Maker, OutputReference

from cryslator_flows.jobs.compare import CompareMaker
from cryslator_flows.relaxation.engines import build_relax_maker

if TYPE_CHECKING:
    from cryslator_flows.schemas import Candidate, Start, Translation


@dataclass
class RelaxationComparisonFlowMaker(Maker):
    """Relax a candidate from its unrelaxed and its translated structure and compare.

    Parameters
    ----------
    name : str
        The flow name.
    relax_maker : Maker
        Any atomate2 maker with ``make(structure, prev_dir=None)``; both starts get the same.
    compare_maker : CompareMaker
        Maker of the comparison job.
    """

    name: str = "relaxation comparison"
    relax_maker: Maker = field(default_factory=lambda: build_relax_maker("chgnet", {}))
    compare_maker: CompareMaker = field(default_factory=CompareMaker)

    def make(self, candidate: Candidate, translation: Translation, starts: list[Start]) -> Flow:
        """Make the flow.

        Parameters
        ----------
        candidate : Candidate
            The candidate, with its unrelaxed structure.
        translation : Translation
            Its translation.
        starts : list of str
            Structures to start from, ``unrelaxed``, ``translated`` or both.

        Returns
        -------
        Flow
            Its output is a `RelaxationComparison`.
        """
        structures = {"unrelaxed": candidate.structure, "translated": translation.structure}
        relaxations: list[Flow | Job] = []
        documents, job_uuids = {}, {}
        for start in starts:
            relax = self.relax_maker.make(structures[start], prev_dir=None)
            relax.append_name(f" {candidate.reduced_formula} {start}")
            relax.update_metadata({"candidate_id": candidate.candidate_id, "start": start})
            relaxations.append(relax)
            jobs = [relax] if isinstance(relax, Job) else [job for job, _ in relax.iterflow()]
            job_uuids[start] = [job.uuid for job in jobs]
            # References without a schema: jobflow rebuilds the JSON schema of a task document at each access.
            documents[start] = [OutputReference(job.uuid) for job in jobs]
        compare = self.compare_maker.make(candidate, translation, documents, job_uuids)
        compare.append_name(f" {candidate.reduced_formula}")
        compare.update_metadata({"candidate_id": candidate.candidate_id})
        return Flow([*relaxations, compare], output=compare.output, name=f"{self.name} {candidate.reduced_formula}")
