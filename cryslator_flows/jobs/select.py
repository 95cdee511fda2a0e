"""Job that selects translated candidates and has them relaxed."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobflow import Flow, Maker, Response, job

from cryslator_flows.crystals.packing import Selection, Shortlist, TranslatedCandidates
from cryslator_flows.documents.relaxations import Digests, RelaxationComparison
from cryslator_flows.jobs.gather import add_stats
from cryslator_flows.jobs.placing import place
from cryslator_flows.jobs.relax import RelaxSelectedMaker
from cryslator_flows.screening.cuts import Cuts

# Chains of waves that run beside each other: one slow relaxation holds up one of them only.
LANES = 4


@dataclass
class SelectMaker(Maker):
    """Keep the most stable translated candidates and send them to relaxation.

    The job's output is a `Selection`, stored before the first relaxation starts. It then replaces itself by chains of
    relaxations in waves, and its output holds ``n_selected``, ``stats`` and, for each chain, its `Digests` under
    ``comparisons``.

    Parameters
    ----------
    name : str
        The job name.
    cuts : Cuts
        What is kept.
    max_relaxed : int or None
        Relax at most this many in the same flow; the others are left in `Selection.remaining`.
    relax_maker : RelaxSelectedMaker or None
        Relaxes the selected candidates in waves; None stops after the selection.
    """

    name: str = "select"
    cuts: Cuts = field(default_factory=lambda: Cuts(top_k=10))
    max_relaxed: int | None = None
    relax_maker: RelaxSelectedMaker | None = None

    @job(data=["remaining"])
    def make(
        self,
        parts: list[Shortlist],
        campaign: str,
        known: list[RelaxationComparison],
        before: list[Digests] | None = None,
    ) -> Response:
        """Select.

        Parameters
        ----------
        parts : list of Shortlist
            What may be selected, of all candidates.
        campaign : str
            Name of the campaign.
        known : list of RelaxationComparison
            Relaxations of other campaigns; what one of them has is not relaxed again.
        before : list of Digests or None
            What rounds of active learning relaxed: selected whatever the cuts say now, and not relaxed again.
        """
        chosen = self.cuts.select(TranslatedCandidates.join([part.shortlist for part in parts]))
        names = chosen.arrays()["candidate_id"].tolist()
        relaxed = [item.candidate_id for digests in before or () for item in digests.comparisons]
        is_relaxed = set(relaxed)
        selected = chosen.take([index for index, name in enumerate(names) if name not in is_relaxed])
        taken, left = selected, None
        if self.relax_maker is not None and self.max_relaxed is not None and selected.n_candidates > self.max_relaxed:
            taken = selected.take(range(self.max_relaxed))
            left = selected.take(range(self.max_relaxed, selected.n_candidates))
        candidate_ids = [*dict.fromkeys([*names, *relaxed])]
        selection = Selection(
            n_selected=len(candidate_ids),
            candidate_ids=candidate_ids,
            stats=add_stats([part.stats for part in parts]),
            remaining=left,
            comparisons=list(before or ()),
        )
        if self.relax_maker is None or not selected.n_candidates:
            return Response(output=selection)
        lanes = relax_in_lanes(self.relax_maker, taken, campaign, known)
        output = {
            "n_selected": selection.n_selected,
            "stats": selection.stats,
            "comparisons": [*selection.comparisons, *(lane.output for lane in lanes)],
        }
        return Response(output=selection, replace=Flow(lanes, output=output, name="relax selected"))


def relax_in_lanes(
    maker: RelaxSelectedMaker,
    selected: TranslatedCandidates,
    campaign: str,
    known: list[RelaxationComparison],
) -> list[Flow]:
    """Make flows that relax the selected candidates, the most stable first in each.

    What was relaxed before is taken over here, at once, so that no wave carries what another one reuses.
    """
    reused, rows = maker.reuse(selected, campaign, known)
    n_lanes = min(LANES, -(-selected.n_candidates // maker.wave_size))
    lanes = []
    for first in range(n_lanes):
        ours = list(reused.values())[first::n_lanes]
        wave = maker.make(selected.take(rows[first::n_lanes]), campaign, [job.output for job in ours], Digests())
        place(wave, "select", maker.stage_configs)
        lanes.append(Flow([*ours, wave], output=wave.output, name=wave.name))
    return lanes
