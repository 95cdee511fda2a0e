"""Displacements of atoms between two geometries of one crystal, in numpy. Displacements have this one definition.

`cryslator_flows.translator.geometry.shift_between` is its twin in torch, for batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def displacements(start: ArrayLike, end: ArrayLike) -> NDArray[np.float64]:
    """Return the fractional displacements from one geometry to another, drift removed.

    A shift of all atoms, or another periodic image of an atom, does not change the result.

    Parameters
    ----------
    start, end : array
        Fractional coordinates of the same atoms in the same order, [atoms, 3].

    Returns
    -------
    array
        Displacements to the nearest images, of zero mean, [atoms, 3].
    """
    return without_drift(np.asarray(end, dtype=float) - np.asarray(start, dtype=float))


def without_drift(change: NDArray[np.floating], drift: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
    """Remove the drift from fractional differences, before and after wrapping to the nearest images.

    Otherwise, a drift near half a cell would wrap atoms to both sides, and their mean would be meaningless.

    Parameters
    ----------
    change : array
        Fractional differences, [atoms, 3].
    drift : array or None
        First estimate of the common shift, [3]. None for the circular mean, as coordinates are periodic.

    Returns
    -------
    array
        Displacements of zero mean, [atoms, 3].
    """
    if drift is None:
        drift = np.angle(np.exp(2j * np.pi * change).mean(axis=0)) / (2 * np.pi)
    wrapped = change - drift
    wrapped = wrapped - np.round(wrapped)
    return np.asarray(wrapped - wrapped.mean(axis=0))
