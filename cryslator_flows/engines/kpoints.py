"""The same k-point mesh for every start of a candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Structure


def mesh(structure: Structure, spacing: float) -> tuple[int, int, int]:
    """Compute divisions of the reciprocal cell, as VASP's KSPACING makes them.

    Parameters
    ----------
    structure : Structure
        The cell.
    spacing : float
        Largest distance of k-points, in 1/angstrom (2 pi included).

    Returns
    -------
    tuple of int
        max(1, ceil(|b_i| / spacing)) for each reciprocal lattice vector b_i, as in the VASP manual.
    """
    lengths = np.asarray(structure.lattice.reciprocal_lattice.abc)
    first, second, third = (max(1, int(number)) for number in np.ceil(lengths / spacing - 1e-9))
    return first, second, third
