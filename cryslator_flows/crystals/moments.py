"""Magnetic moments of candidates: carried over from the template, or left to the engine's input set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.electronic_structure.core import Magmom

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Initial moments of pymatgen's MPRelaxSet, in Bohr magnetons; other elements start without one.
MAGNETIC = {"V": 5.0, "Cr": 5.0, "Mn": 5.0, "Fe": 5.0, "Co": 0.6, "Ni": 5.0, "Mo": 5.0, "W": 5.0}
# Under this a site of the template has no moment to speak of, in Bohr magnetons.
NO_MOMENT = 0.1
# What rounding in a file leaves across the common axis of moments, in Bohr magnetons.
SAME_AXIS = 0.01


def moments_of(structure: Structure) -> list[Any] | None:
    """Return the magnetic moments of a structure as plain numbers or vectors, in Bohr magnetons; None without any.

    Spins of species count as moments, unless there are moments of sites. Those of a magCIF become numbers where all are
    along one axis.
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
    """Moments for the candidate that a substitution makes of a template.

    A site keeps its moment, so that an antiferromagnetic order survives the substitution of its magnetic element. A
    site whose new element has none to expect gets zero. Where a magnetic element comes to a site that had no moment,
    there is none to carry: then all moments are left to the input set, which knows what the element starts with. A
    calculation that starts from zero there would never become magnetic.

    Parameters
    ----------
    template : Structure
        The template; moments are the site property ``magmom``, in Bohr magnetons, scalars or vectors.
    symbols : list of str
        New element of every site.

    Returns
    -------
    list or None
        A moment for every site; None where the input set has to set them.
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
    return carried
