"""Magnetic moments of candidates: from the template, or from the engine's input set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.electronic_structure.core import Magmom

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Initial moments of pymatgen's MPRelaxSet, in Bohr magnetons. Other elements start without a moment.
MAGNETIC = {"V": 5.0, "Cr": 5.0, "Mn": 5.0, "Fe": 5.0, "Co": 0.6, "Ni": 5.0, "Mo": 5.0, "W": 5.0}
# Below this value a site of the template counts as nonmagnetic, in Bohr magnetons.
NO_MOMENT = 0.1
# Rounding in a file leaves this much across the common axis of moments, in Bohr magnetons.
SAME_AXIS = 0.01


def moments_of(structure: Structure) -> list[Any] | None:
    """Return the magnetic moments of a structure as plain numbers or vectors, in Bohr magnetons; None without moments.

    Spins of species count as moments if sites have no moments. Moments of a magCIF become numbers if all are along
    one axis.
    """
    if "magmom" in structure.site_properties:
        moments = structure.site_properties["magmom"]
    elif any(getattr(specie, "spin", None) for specie in structure.composition):
        moments = [getattr(site.specie, "spin", None) if site.is_ordered else None for site in structure]
    else:
        return None
    if any(isinstance(moment, Magmom) for moment in moments):
        vectors = np.array([Magmom(0.0 if moment is None else moment).global_moment for moment in moments])
        if (np.linalg.svd(vectors, compute_uv=False)[1:] > SAME_AXIS).any():
            return vectors.tolist()
        moments = [float(Magmom(vector)) for vector in vectors]
    return [None if moment is None else np.asarray(moment, dtype=float).tolist() for moment in moments]


def carry_moments(template: Structure, symbols: list[str]) -> list[Any] | None:
    """Return the moments of a candidate from its template.

    A site keeps its moment, so that an antiferromagnetic order survives the substitution of its magnetic element. A
    site whose new element has no expected moment gets zero. If a magnetic element replaces a nonmagnetic one, the
    template has no moment for it. All moments are then left to the input set, which has initial moments of
    elements. A calculation with zero initial moment there would stay nonmagnetic.

    Parameters
    ----------
    template : Structure
        The template. Moments are the site property ``magmom``, in Bohr magnetons, scalars or vectors.
    symbols : list of str
        New element of every site.

    Returns
    -------
    list or None
        A moment for every site, in Bohr magnetons; None to leave them to the input set.
    """
    moments = moments_of(template)
    if moments is None:
        return None
    carried: list[Any] = []
    for site, symbol, given in zip(template, symbols, moments, strict=True):
        moment = 0.0 if given is None else given
        changed = symbol != site.specie.symbol
        if changed and symbol in MAGNETIC and abs(Magmom(moment)) < NO_MOMENT:
            return None
        carried.append(0.0 if changed and symbol not in MAGNETIC else moment)
    if any(isinstance(moment, list) for moment in moments):
        # Neither ASE nor the input sets take numbers beside vectors.
        return [moment if isinstance(moment, list) else [0.0, 0.0, 0.0] for moment in carried]
    return carried
