"""Is a structure one that can be substituted and translated?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import DummySpecies

from cryslator_flows.errors import StructureError

if TYPE_CHECKING:
    from pymatgen.core import Structure

MAX_ATOMS = 500
MIN_DISTANCE = 0.5
MAX_DISTANCE = 6.0
# Nearly every atom has a neighbour within it, and the search takes a fifth of the time.
USUAL_DISTANCE = 3.5


def check_structure(structure: Structure, source: str = "structure") -> None:
    """Raise an error if a structure makes no physical sense to the translator.

    Parameters
    ----------
    structure : Structure
        Any pymatgen structure.
    source : str
        What to call it in the message, a file for instance.

    Raises
    ------
    StructureError
        No atoms, over 500 atoms, disordered site, unknown element, NaN, flat cell, atoms closer than 0.5 angstrom,
        or an atom without neighbour within 6 angstrom.
    """
    if not len(structure):
        raise StructureError(f"{source}, sites: no atoms; give a structure with at least one site", "no atoms")
    if len(structure) > MAX_ATOMS:
        raise StructureError(
            f"{source}, sites: {len(structure)} atoms, at most {MAX_ATOMS}; give the primitive cell or a smaller one",
            f"over {MAX_ATOMS} atoms",
        )
    try:
        species = structure.species
    except AttributeError:
        site = next(index for index, site in enumerate(structure) if not site.is_ordered)
        raise StructureError(
            f"{source}, site {site}: disordered ({structure[site].species_string}); "
            "order it first, with pymatgen's OrderDisorderedStructureTransformation for instance",
            "disordered",
        ) from None
    for index, kind in enumerate(species):
        if isinstance(kind, DummySpecies):
            raise StructureError(
                f"{source}, site {index}: {structure[index].species_string!r} is no element; "
                "replace it with an element symbol",
                "no element",
            )
    if not (np.isfinite(structure.lattice.matrix).all() and np.isfinite(structure.frac_coords).all()):
        raise StructureError(
            f"{source}, lattice or coordinates: not a number (NaN or infinite); mend the file", "not a number"
        )
    lengths, volume = structure.lattice.abc, abs(float(np.linalg.det(structure.lattice.matrix)))
    if min(lengths) < 1e-3 or volume < 1e-3 * math.prod(lengths):
        raise StructureError(f"{source}, lattice: cell volume {volume:.3g} A^3 is zero; mend the lattice", "flat cell")
    for radius in (USUAL_DISTANCE, MAX_DISTANCE):
        centers, points, _, distances = structure.get_neighbor_list(radius, exclude_self=True)
        nearest = np.full(len(structure), np.inf)
        np.minimum.at(nearest, centers, distances)
        if np.isfinite(nearest).all():
            break
    index = int(nearest.argmin())
    if nearest[index] < MIN_DISTANCE:
        other = int(points[centers == index][distances[centers == index].argmin()])
        raise StructureError(
            f"{source}, sites {index} and {other}: only {nearest[index]:.3f} A apart, under {MIN_DISTANCE} A; "
            "remove the duplicate site or mend the coordinates",
            "atoms nearly coincide",
        )
    if not np.isfinite(nearest).all():
        index = int(np.isinf(nearest).argmax())
        raise StructureError(
            f"{source}, site {index} ({structure[index].specie}): isolated, no neighbour within {MAX_DISTANCE} A; "
            "only connected crystals can be translated",
            "isolated atom",
        )
