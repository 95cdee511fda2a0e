"""Job that gathers shortlists, so that no job reads all chunks of a campaign."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from jobflow import Maker, job

from cryslator_flows.crystals.packing import Shortlist, TranslatedCandidates
from cryslator_flows.documents.candidates import TranslationStats
from cryslator_flows.screening.acquisition import Acquisition, RandomSample
from cryslator_flows.screening.cuts import Cuts


@dataclass
class GatherMaker(Maker):
    """Make one shortlist of several.

    Parameters
    ----------
    name : str
        The job name.
    """

    name: str = "gather"

    @job(data=["shortlist", "batch"], output_schema=Shortlist)
    def make(
        self, parts: list[Shortlist], cuts: Cuts, acquisition: Acquisition | RandomSample | None = None
    ) -> Shortlist:
        """Gather shortlists.

        Parameters
        ----------
        parts : list of Shortlist
            Outputs of translation jobs or of other gather jobs.
        cuts : Cuts
            Cuts of the selection.
        acquisition : Acquisition, RandomSample or None
            Choice of the next round of active learning or of an adaptation; None without them.
        """
        joined = TranslatedCandidates.join([part.shortlist for part in parts])
        left_out: Counter[str] = Counter()
        return Shortlist(
            shortlist=cuts.shortlist(joined, left_out),
            batch=None if acquisition is None else acquisition.choose(join_batches(parts)),
            stats=add_stats([part.stats for part in parts], left_out),
        )


def join_batches(parts: list[Shortlist]) -> TranslatedCandidates:
    """Join the candidates that the next round may relax, from several parts."""
    return TranslatedCandidates.join([part.batch for part in parts if part.batch is not None])


def add_stats(parts: list[TranslationStats], left_out: Counter[str]) -> TranslationStats:
    """Sum the counts, and average the times over the candidates whose time is known.

    Parameters
    ----------
    parts : list of TranslationStats
        Statistics of the parts.
    left_out : Counter
        Candidates of all parts that were left out now, by reason.
    """
    timed = [(item.n_translated + item.n_rejected, item.seconds) for item in parts if item.seconds is not None]
    known = sum(number for number, _ in timed)
    lost = left_out.copy()
    for item in parts:
        lost.update(item.left_out)
    return TranslationStats(
        n_translated=sum(item.n_translated for item in parts),
        n_rejected=sum(item.n_rejected for item in parts),
        n_out_of_domain=sum(item.n_out_of_domain for item in parts),
        domain_reasons=dict(sum((Counter(item.domain_reasons) for item in parts), Counter())),
        left_out=dict(lost),
        seconds=sum(number * seconds for number, seconds in timed) / known if known else None,
        models={name: version for item in parts for name, version in item.models.items()},
    )
