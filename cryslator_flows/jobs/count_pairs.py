"""Job that counts the pairs of several chunks."""

from __future__ import annotations

from dataclasses import dataclass

from jobflow import JobConfig, Maker, OnMissing, job

from cryslator_flows.documents.grown_pairs import PairCounts


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
        """Add counts up.

        Parameters
        ----------
        parts : list of PairCounts or None
            Counts of chunks, or of other jobs that count; None for a failed job.
        """
        return PairCounts.add(part for part in parts if part is not None)
