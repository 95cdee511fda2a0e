"""Flow that grows training pairs with an interatomic potential, or with any other relax maker."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from jobflow import Flow, Maker

from cryslator_flows.engines.by_name import build_relax_maker
from cryslator_flows.jobs.collect_pairs import CollectPairsMaker
from cryslator_flows.jobs.grow_pairs import GrowPairsMaker
from cryslator_flows.jobs.placing import place

if TYPE_CHECKING:
    from cryslator_flows.crystals.enumeration import SubstitutionSpace
    from cryslator_flows.crystals.templates import AnyTemplateSource


@dataclass
class PairsFlowMaker(Maker):
    """Substitute the elements of templates and relax all candidates, to train from the pairs.

    The flow translates and selects nothing. `grown_pairs` reads the pairs from the JobStore, also while the flow runs.
    A pair holds the unrelaxed and the relaxed crystal (`PairRecord`), its ``template``, ``template_formula`` and
    ``substitution``. It has the ``energy_per_atom`` of the engine. With known energies of the elements it has the
    ``formation_energy_per_atom`` too.

    Parameters
    ----------
    name : str
        The flow name.
    relax_maker : Maker
        Any atomate2 maker with ``make(structure, prev_dir=None)``; default CHGNet.
    element_energies : dict
        Energies of the elements by the same engine and settings, in eV/atom.
    intermediates : int
        Number of evenly spaced ionic steps that are further unrelaxed crystals of each target. Documents of the relax
        maker must hold their structures: ``ionic_step_data`` of atomate2's force fields needs ``"mol_or_struct"``.
    grow_maker : GrowPairsMaker
        Enumerates the candidates and makes the jobs that relax them in chunks. `relax_maker`, `element_energies` and
        `intermediates` go to its maker of chunks.

    Examples
    --------
    >>> from cryslator_flows.crystals.substitution import ExplicitMaps
    >>> from cryslator_flows.crystals.templates import AflowTemplates
    >>> maker = PairsFlowMaker(name="oxides", intermediates=3)
    >>> maker.make([AflowTemplates(n_elements=3)], [ExplicitMaps(kind="maps", maps=[{"Ca": "Sr"}])]).name
    'oxides'
    """

    name: str = "pairs"
    relax_maker: Maker = field(default_factory=lambda: build_relax_maker("chgnet", {}))
    element_energies: dict[str, float] = field(default_factory=dict)
    intermediates: int = 0
    grow_maker: GrowPairsMaker = field(default_factory=GrowPairsMaker)

    def make(self, templates: list[AnyTemplateSource], substitutions: list[SubstitutionSpace]) -> Flow:
        """Make the flow.

        Parameters
        ----------
        templates : list
            Sources of templates, see `cryslator_flows.crystals.templates`.
        substitutions : list
            Substitution spaces, see `cryslator_flows.crystals.substitution`.

        Returns
        -------
        Flow
            Its output is a `GrownPairs`.
        """
        chunk_maker = replace(
            self.grow_maker.chunk_maker,
            relax_maker=self.relax_maker,
            collect_maker=CollectPairsMaker(element_energies=self.element_energies, intermediates=self.intermediates),
        )
        grow_maker = replace(self.grow_maker, chunk_maker=chunk_maker)
        grow = grow_maker.make(templates, substitutions, self.name)
        place(grow, "enumerate")
        flow = Flow([grow], output=grow.output, name=self.name)
        flow.update_metadata({"pairs_flow": self.name}, dynamic=True)
        return flow
