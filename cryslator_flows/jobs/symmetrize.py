"""Job that gives a relaxed structure back the symmetry of the one it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobflow import Maker, job

from cryslator_flows.crystals.symmetry import symmetrize_like

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass
class SymmetrizeMaker(Maker):
    """Project a structure on the symmetry of its unrelaxed structure, see `symmetrize_like`.

    Parameters
    ----------
    name : str
        The job name.
    """

    name: str = "symmetrize"

    @job
    def make(self, structure: Structure, unrelaxed: Structure) -> Structure:
        """Symmetrize.

        Parameters
        ----------
        structure : Structure
            What an interatomic potential made of the unrelaxed structure.
        unrelaxed : Structure
            The unrelaxed structure.
        """
        return symmetrize_like(structure, unrelaxed)
