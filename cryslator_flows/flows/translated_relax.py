"""Flow that translates one structure and relaxes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobflow import Flow, Maker

from cryslator_flows.crystals.ase_atoms import structure_of
from cryslator_flows.engines.by_name import build_relax_maker
from cryslator_flows.engines.recorder import record_relax_maker
from cryslator_flows.jobs.count_relaxation import CountRelaxationMaker
from cryslator_flows.jobs.following import end_with_first_failure
from cryslator_flows.jobs.translate import TranslateMaker

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms
    from jobflow import OutputReference
    from pymatgen.core import Structure


@dataclass
class TranslatedRelaxFlowMaker(Maker):
    """Translate a structure, relax it and count the steps, as atomate2's ``CHGNetVaspRelaxMaker`` relaxes it first.

    The output is that of the relaxation, so the flow can stand wherever atomate2 takes a relax maker. The last job
    counts all steps, those of failed attempts included, see `TranslatedRelaxation`.

    Parameters
    ----------
    name : str
        The flow name.
    relax_maker : Maker
        Any maker with ``make(structure)``: of VASP, of a force field, of GPAW.
    translate_maker : TranslateMaker
        Maker of the translation.
    count_maker : CountRelaxationMaker
        Maker of the job that counts the steps.

    Examples
    --------
    >>> from atomate2.vasp.flows.core import DoubleRelaxMaker
    >>> from pymatgen.core import Lattice, Structure
    >>> rock_salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> flow = TranslatedRelaxFlowMaker(relax_maker=DoubleRelaxMaker()).make(rock_salt)
    >>> [job.name for job, _ in flow.iterflow()]
    ['translate', 'relax 1', 'relax 2', 'count steps']
    """

    name: str = "translated relaxation"
    relax_maker: Maker = field(default_factory=lambda: build_relax_maker("chgnet", {}))
    translate_maker: TranslateMaker = field(default_factory=TranslateMaker)
    count_maker: CountRelaxationMaker = field(default_factory=CountRelaxationMaker)

    def make(self, structure: Structure | Atoms | OutputReference, prev_dir: str | Path | None = None) -> Flow:
        """Make the flow.

        Parameters
        ----------
        structure : Structure, Atoms or OutputReference
            The structure, also as ASE's atoms, or the output of an earlier job that is one.
        prev_dir : str or Path or None
            Folder of an earlier calculation, for the relax maker.

        Returns
        -------
        Flow
            Its output is that of the relaxation, as in atomate2. The last job's is a `TranslatedRelaxation`.
        """
        structure = structure_of(structure)
        translate = self.translate_maker.make(structure)
        recorded = record_relax_maker(self.relax_maker, self.name, translate.uuid, "translated")
        # Some makers of atomate2 take no earlier folder.
        earlier = {} if prev_dir is None else {"prev_dir": prev_dir}
        relax = recorded.make(translate.output.structure, **earlier)
        documents = end_with_first_failure(relax)
        count = self.count_maker.make(
            structure,
            translate.output,
            documents,
            [document.uuid for document in documents],
            campaign=self.name,
            run=translate.uuid,
        )
        return Flow([translate, relax, count], output=relax.output, name=self.name)
