"""Job that summarizes grown pairs."""

from __future__ import annotations

from dataclasses import dataclass

from jobflow import JobConfig, Maker, OnMissing, job

from cryslator_flows.documents.candidates import EnumerationCounts
from cryslator_flows.documents.grown_pairs import GrownPairs, PairCounts


@dataclass
class SummarizePairsMaker(Maker):
    """Summarize the outcomes of the candidates of a flow of pairs.

    Parameters
    ----------
    name : str
        The job name.
    """

    name: str = "summarize pairs"

    @job(config=JobConfig(on_missing_references=OnMissing.NONE), output_schema=GrownPairs)
    def make(self, flow_name: str, enumeration: EnumerationCounts, parts: list[PairCounts | None]) -> GrownPairs:
        """Summarize the flow.

        Parameters
        ----------
        flow_name : str
            Name of the flow.
        enumeration : EnumerationCounts
            Counts of the enumeration.
        parts : list of PairCounts or None
            Counts of all chunks; None for a failed chunk.
        """
        counts = PairCounts.add(part for part in parts if part is not None)
        lost = enumeration.unique - counts.n_candidates
        if lost:
            counts = PairCounts.add(
                [counts, PairCounts(n_candidates=lost, dropped={"the job of its chunk failed": lost})]
            )
        return GrownPairs(name=flow_name, enumeration=enumeration, counts=counts)
