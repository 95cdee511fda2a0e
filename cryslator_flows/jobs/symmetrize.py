"""Job that gives a relaxed structure back the symmetry of the one it came from."""

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
    """Project a structure on the symmetry of the one it was made of, see `symmetrize_like`.

    Starts, and fails, also where there is no structure, so that what comes after it need not wait for ever.

    Parameters
    ----------
    name : str
        The job name.
    """

    name: str = "symmetrize"

    @job(config=JobConfig(on_missing_references=OnMissing.NONE))
    def make(self, structure: Structure | None, before: Structure) -> Structure:
        """Symmetrize.

        Parameters
        ----------
        structure : Structure or None
            What an interatomic potential made of `before`; None if it failed.
        before : Structure
            The unrelaxed or the translated structure.

        Raises
        ------
        StructureError
            There is no structure.
        """
        if structure is None:
            raise StructureError("no structure to start from: the pre-relaxation with the potential failed")
        return symmetrize_like(structure, before)
