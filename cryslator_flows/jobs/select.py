"""Job that selects translated candidates and passes them on to relaxation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobflow import Maker, Response, job

from cryslator_flows.crystals.packing import Selection, Shortlist, TranslatedCandidates
from cryslator_flows.documents.potential import PotentialRelaxation
from cryslator_flows.documents.references import ElementReference, Known
from cryslator_flows.documents.relaxations import Digests
from cryslator_flows.jobs.gather import add_stats
from cryslator_flows.jobs.relax import RelaxSelectedMaker
from cryslator_flows.jobs.relax_lanes import relax_selection, split
from cryslator_flows.screening.cuts import Cuts

if TYPE_CHECKING:
    from cryslator_flows.flows.potential_stage import PotentialFlowMaker


@dataclass
class SelectMaker(Maker):
    """Keep the most stable translated candidates and pass them on to relaxation.

    The job's output is a `Selection`, stored before the first relaxation starts. The job then replaces itself by chains
    of relaxations in waves, after the elements that occur. The output then holds ``n_selected``, ``stats``, under
    ``references`` each `ElementReference` and under ``comparisons`` the `Digests` of each chain.

    Parameters
    ----------
    name : str
        The job name.
    cuts : Cuts
        Cuts that select candidates.
    max_relaxed : int or None
        Maximum number of candidates to relax in the same flow; `Selection.remaining` holds the others.
    relax_maker : RelaxSelectedMaker or None
        Relaxes the selected candidates in waves; None stops after the selection.
    potential_maker : PotentialFlowMaker or None
        Relaxes the selected candidates with an interatomic potential and selects among them; None for no such stage.

    Examples
    --------
    >>> from cryslator_flows.screening.cuts import Cuts
    >>> SelectMaker(cuts=Cuts(top_k=50)).make([], campaign="perovskites").name
    'select'
    """

    name: str = "select"
    cuts: Cuts = field(default_factory=lambda: Cuts(top_k=10))
    max_relaxed: int | None = None
    relax_maker: RelaxSelectedMaker | None = None
    potential_maker: PotentialFlowMaker | None = None

    @job(data=["remaining"])
    def make(
        self,
        parts: list[Shortlist],
        campaign: str,
        known: list[Known],
        before: list[Digests] | None = None,
        prerelaxed: dict[str, list[PotentialRelaxation]] | None = None,
        references: list[ElementReference] | None = None,
        made: dict[str, Any] | None = None,
    ) -> Response[Selection]:
        """Select.

        Parameters
        ----------
        parts : list of Shortlist
            Shortlists of all candidates.
        campaign : str
            Name of the campaign.
        known : list of Known
            Relaxations of other campaigns, which are not repeated.
        before : list of Digests or None
            Relaxations of rounds of active learning. Their candidates are selected for any cuts and not relaxed again.
        prerelaxed : dict or None
            Relaxations by the potential that are not repeated: of candidates under ``relaxed``, of known compounds
            under ``compounds``.
        references : list of ElementReference or None
            Elements that rounds of active learning relaxed, which are not relaxed again.
        made : dict or None
            Output that this job stored before. The job then relaxes the same elements.
        """
        left_out: Counter[str] = Counter()
        chosen = self.cuts.select(TranslatedCandidates.join([part.shortlist for part in parts]), left_out)
        names = chosen.arrays()["candidate_id"].tolist()
        relaxed = [item.candidate_id for digests in before or () for item in digests.comparisons]
        is_relaxed = set(relaxed)
        selected = chosen.take([index for index, name in enumerate(names) if name not in is_relaxed])
        whole = self.relax_maker is None or self.potential_maker is not None
        _, left = split(selected, None if whole else self.max_relaxed)
        elements = [] if self.relax_maker is None else self.relax_maker.elements_to_relax(selected, references or ())
        candidate_ids = [*dict.fromkeys([*names, *relaxed])]
        selection = Selection(
            n_selected=len(candidate_ids),
            candidate_ids=candidate_ids,
            stats=add_stats([part.stats for part in parts], left_out),
            remaining=left,
            elements=elements if made is None else made.get("elements", []),
            references=references or [],
            comparisons=list(before or ()),
        )
        if self.potential_maker is not None and selected.n_candidates:
            stage = self.potential_maker.make(
                selected, selection, campaign, known, self.relax_maker, self.max_relaxed, **(prerelaxed or {})
            )
            return Response(output=selection, replace=stage)
        if self.relax_maker is None or not selected.n_candidates:
            return Response(output=selection)
        flow = relax_selection(self.relax_maker, selection, selected, self.max_relaxed, known, campaign)
        return Response(output=selection, replace=flow)
