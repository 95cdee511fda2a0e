"""The displacements of atoms between two geometries of one crystal: the one definition, in numpy.

`cryslator_flows.translator.geometry.shift_between` is its twin in torch, for batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def displacements(start: ArrayLike, end: ArrayLike) -> NDArray[np.float64]:
    """Return the fractional displacements from one geometry to another, drift removed.

    Neither a shift of all atoms nor the image in which an atom is given changes them.

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
    """Remove the drift from fractional differences, before and after they are wrapped to the nearest images.

    A drift near half a cell would otherwise have atoms wrapped to both sides, with a mean that means nothing.

    Parameters
    ----------
    change : array
        Fractional differences, [atoms, 3].
    drift : array or None
        First estimate of the common shift, [3]. None for the circular mean: coordinates live on a circle.

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
