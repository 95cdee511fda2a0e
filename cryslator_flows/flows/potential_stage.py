"""Flow of the stage between translation and relaxation: an interatomic potential relaxes, and selects."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from jobflow import Flow, Maker

from cryslator_flows.engines.by_name import chgnet_maker
from cryslator_flows.jobs.placing import place
from cryslator_flows.jobs.potential_relax import RelaxBatchMaker, RelaxReferencesMaker
from cryslator_flows.jobs.potential_select import PotentialSelectMaker
from cryslator_flows.screening.known_phases import symbols_of

if TYPE_CHECKING:
    from cryslator_flows.crystals.packing import Selection, TranslatedCandidates
    from cryslator_flows.documents.relaxations import RelaxationComparison
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
        known: list[RelaxationComparison],
        relax_selected: RelaxSelectedMaker | None,
        max_relaxed: int | None = None,
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
        known : list of RelaxationComparison
            Relaxations of other campaigns, which are not repeated.
        relax_selected : RelaxSelectedMaker or None
            Relaxes what is left; None stops after this stage.
        max_relaxed : int or None
            Maximum number of candidates to relax in the same flow; `Selection.remaining` holds the others.

        Returns
        -------
        Flow
            Its output is that of `PotentialSelectMaker`.
        """
        elements = sorted({symbol for formula in selected.arrays()["formula"] for symbol in symbols_of(str(formula))})
        compounds = RelaxReferencesMaker(relax_maker=self.relax_maker).make(elements)
        batch_maker = RelaxBatchMaker(relax_maker=self.relax_maker)
        batches = []
        for number, first in enumerate(range(0, selected.n_candidates, self.batch), 1):
            last = min(first + self.batch, selected.n_candidates)
            batches.append(batch_maker.make(selected.take(range(first, last))))
            batches[-1].append_name(f" {number}")
        for work in (compounds, *batches):
            place(work, "potential")
        select = replace(self.select_maker, relax_maker=relax_selected, max_relaxed=max_relaxed).make(
            selected, [batch.output for batch in batches], compounds.output, selection, campaign, known
        )
        place(select, "select")
        return Flow([compounds, *batches, select], output=select.output, name=self.name)
