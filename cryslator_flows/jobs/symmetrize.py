"""Job that restores in a relaxed structure the symmetry of its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobflow import JobConfig, Maker, OnMissing, job

from cryslator_flows.crystals.symmetry import symmetrize_like
from cryslator_flows.errors import StructureError

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass
class SymmetrizeMaker(Maker):
    """Project a relaxed structure on the symmetry of its start, see `symmetrize_like`.

    Without a structure the job starts and fails, so that later jobs do not wait without end.

    Parameters
    ----------
    name : str
        The job name.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> rock_salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> SymmetrizeMaker().make(rock_salt, before=rock_salt).name
    'symmetrize'
    """

    name: str = "symmetrize"

    @job(config=JobConfig(on_missing_references=OnMissing.NONE))
    def make(self, structure: Structure | None, before: Structure) -> Structure:
        """Symmetrize a structure.

        Parameters
        ----------
        structure : Structure or None
            Structure that an interatomic potential relaxed from `before`; None if it failed.
        before : Structure
            The unrelaxed or the translated structure.

        Raises
        ------
        StructureError
            `structure` is None.
        """
        if structure is None:
            raise StructureError("no structure to start from: the pre-relaxation with the potential failed")
        return symmetrize_like(structure, before)
