"""Flow of the stage between translation and relaxation: an interatomic potential relaxes, and selects."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from jobflow import Flow, Maker

from cryslator_flows.documents.potential import PotentialBatch
from cryslator_flows.engines.by_name import chgnet_maker
from cryslator_flows.jobs.placing import place
from cryslator_flows.jobs.potential_relax import elements_of, relax_compounds, relax_in_batches
from cryslator_flows.jobs.potential_select import PotentialSelectMaker, fit_references

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryslator_flows.crystals.packing import Selection, TranslatedCandidates
    from cryslator_flows.documents.potential import PotentialRelaxation
    from cryslator_flows.documents.references import Known
    from cryslator_flows.jobs.relax import RelaxSelectedMaker


@dataclass
class PotentialFlowMaker(Maker):
    """Relax candidates with an interatomic potential in batches, select by its energies, and relax the selected ones.

    Parameters
    ----------
    name : str
        The flow name.
    relax_maker : Maker
        Any atomate2 maker of one job with ``make(structure, prev_dir=None)``; default CHGNet.
    batch : int
        Number of candidates in a job.
    select_maker : PotentialSelectMaker
        Selects by the energies of the potential.

    Examples
    --------
    >>> PotentialFlowMaker(batch=500).name
    'potential'
    """

    name: str = "potential"
    relax_maker: Maker = field(default_factory=chgnet_maker)
    batch: int = 100
    select_maker: PotentialSelectMaker = field(default_factory=PotentialSelectMaker)

    def make(
        self,
        selected: TranslatedCandidates,
        selection: Selection,
        campaign: str,
        known: list[Known],
        relax_selected: RelaxSelectedMaker | None,
        max_relaxed: int | None = None,
        relaxed: Sequence[PotentialRelaxation] = (),
        compounds: Sequence[PotentialRelaxation] = (),
    ) -> Flow:
        """Make the flow.

        Parameters
        ----------
        selected : TranslatedCandidates
            The candidates that the translator selects.
        selection : Selection
            Document of that selection.
        campaign : str
            Name of the campaign.
        known : list of Known
            Relaxations of other campaigns, which are not repeated.
        relax_selected : RelaxSelectedMaker or None
            Relaxes what is left; None stops after this stage.
        max_relaxed : int or None
            Maximum number of candidates to relax in the same flow; `Selection.remaining` holds the others.
        relaxed : sequence of PotentialRelaxation
            Relaxations of candidates from the same starts, which are not repeated.
        compounds : sequence of PotentialRelaxation
            Relaxations of known compounds, not repeated if they determine the energies of all elements.

        Returns
        -------
        Flow
            Its output is that of `PotentialSelectMaker`.
        """
        names = set(selected.arrays()["candidate_id"].tolist())
        reused = [item for item in relaxed if item.name in names]
        batches = relax_in_batches(self.relax_maker, selected, self.batch, self.name, {item.name for item in reused})
        elements, known_compounds, jobs = elements_of(selected), PotentialBatch(relaxed=list(compounds)), batches
        enough = fit_references(known_compounds).energies.keys() >= set(elements)
        if not enough:
            jobs = [relax_compounds(self.relax_maker, elements, self.name), *batches]
        select = replace(self.select_maker, relax_maker=relax_selected, max_relaxed=max_relaxed).make(
            selected,
            [PotentialBatch(relaxed=reused), *(batch.output for batch in batches)],
            known_compounds if enough else jobs[0].output,
            selection,
            campaign,
            known,
        )
        place(select, "select")
        return Flow([*jobs, select], output=select.output, name=self.name)
