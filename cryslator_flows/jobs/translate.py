"""Job that translates one structure, before any other job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobflow import Maker, job

from cryslator_flows.crystals.ase_atoms import structure_of
from cryslator_flows.documents.candidates import Translation
from cryslator_flows.errors import StructureError
from cryslator_flows.translator.default_model import DEFAULT_MODEL

if TYPE_CHECKING:
    from ase import Atoms
    from jobflow import Job, OutputReference
    from pymatgen.core import Structure


@dataclass
class TranslateMaker(Maker):
    """Translate one structure. The document has a ``structure``, so any maker of atomate2 can follow.

    Parameters
    ----------
    name : str
        The job name.
    model_name : str
        Name or folder of the model; the network is loaded where the job runs.

    Examples
    --------
    >>> from atomate2.vasp.jobs.core import RelaxMaker
    >>> from jobflow import Flow
    >>> from pymatgen.core import Lattice, Structure
    >>> rock_salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> translate = TranslateMaker().make(rock_salt)
    >>> relax = RelaxMaker().make(translate.output.structure)
    >>> flow = Flow([translate, relax], output=relax.output)
    """

    name: str = "translate"
    model_name: str = DEFAULT_MODEL

    def make(self, structure: Structure | Atoms | OutputReference) -> Job:
        """Make the job.

        Parameters
        ----------
        structure : Structure, Atoms or OutputReference
            The structure, also as ASE's atoms, or the output of an earlier job that is one.

        Returns
        -------
        Job
            Its output is a `Translation`.

        Raises
        ------
        StructureError
            The atoms of ASE are not a crystal, see `structure_from_atoms`.
        """
        # A JobStore has no form for atoms of ASE.
        return self.translate(structure_of(structure))

    @job(output_schema=Translation)
    def translate(self, structure: Structure) -> Translation:
        """Translate in the job.

        Raises
        ------
        StructureError
            The structure is unphysical, see `check_structure`, or two atoms nearly coincide after translation.
        ModelError
            The model does not exist or is damaged.
        """
        from cryslator_flows.translator.model_folder import find_model
        from cryslator_flows.translator.translator import kept_translator

        folder = find_model(self.model_name)
        translation = kept_translator(folder, folder.version()).translate(structure)
        if translation.atoms_too_close:
            raise StructureError(
                f"{structure.formula}: two atoms nearly coincide after translation; use the structure as it is"
            )
        return translation
