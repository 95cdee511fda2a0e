"""Checks that a structure can be substituted and translated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import DummySpecies, Structure

from cryslator_flows.errors import StructureError, one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ATOMS = 500
MIN_DISTANCE = 0.5
MAX_DISTANCE = 6.0
# Largest edge of the cell in angstrom, and volume per atom in cubic angstrom, that the neighbour search can handle.
MAX_LENGTH = 1000.0
MAX_VOLUME = 1e5
# Spheres with this diameter cannot be packed more closely.
MIN_VOLUME = MIN_DISTANCE**3 / math.sqrt(2)
# Largest fractional coordinate.
MAX_COORDINATE = 1e6
# Nearly every atom has a neighbour within this distance, and the search takes a fifth of the time.
USUAL_DISTANCE = 3.5


def check_count(atoms: int, where: str = "") -> None:
    """Raise an error if a structure has more atoms than the translator accepts.

    Raises
    ------
    StructureError
        The structure has more than 500 atoms. The message begins with `where`.
    """
    if atoms > MAX_ATOMS:
        raise StructureError(
            f"{where}{atoms} atoms, at most {MAX_ATOMS}; give the primitive cell or a smaller one",
            f"over {MAX_ATOMS} atoms",
        )


def inside_cell(structure: Structure, where: str = "") -> NDArray[np.floating]:
    """Return fractional coordinates from 0 to 1, [atoms, 3].

    Raises
    ------
    StructureError
        An atom is so far away that rounding destroys its position in the cell. The message begins with `where`.
    """
    frac = structure.frac_coords
    far = (np.abs(frac) > MAX_COORDINATE).any(axis=1)
    if far.any():
        index = int(far.argmax())
        raise StructureError(
            f"{where}site {index}: fractional coordinates {frac[index].tolist()}, far outside the cell; fix them",
            "far outside the cell",
        )
    return frac - np.floor(frac)


def check_structure(structure: Structure, source: str = "structure") -> None:
    """Raise an error if a structure is unphysical for the translator.

    Parameters
    ----------
    structure : Structure
        Any pymatgen structure.
    source : str
        Name of the structure in the message, such as a file.

    Raises
    ------
    StructureError
        The structure has no atoms, over 500 atoms, a disordered site, an unknown element, NaN or coordinates far
        outside the cell. The cell is not periodic in three directions, flat, huge or tiny. Atoms are closer than
        0.5 angstrom, or an atom has no neighbour within 6 angstrom.
    """
    try:
        _check(structure, source)
    except StructureError:
        raise
    except Exception as error:
        raise StructureError(f"{source}: cannot be checked ({one_line(error)}); fix the structure") from error


def _check(structure: Structure, source: str) -> None:
    if not len(structure):
        raise StructureError(f"{source}, sites: no atoms; give a structure with at least one site", "no atoms")
    check_count(len(structure), f"{source}, sites: ")
    try:
        species = structure.species
    except AttributeError:
        site = next(index for index, site in enumerate(structure) if not site.is_ordered)
        raise StructureError(
            f"{source}, site {site}: disordered ({structure[site].species_string}); "
            "give one ordering of it; campaigns enumerate the orderings of their templates",
            "disordered",
        ) from None
    for index, kind in enumerate(species):
        if isinstance(kind, DummySpecies):
            raise StructureError(
                f"{source}, site {index}: {structure[index].species_string!r} is not an element; "
                "replace it with an element symbol",
                "no element",
            )
    if not all(structure.pbc):
        raise StructureError(
            f"{source}, lattice: not periodic in three directions; give a cell with vacuum, periodic in all three",
            "not periodic",
        )
    if not (np.isfinite(structure.lattice.matrix).all() and np.isfinite(structure.frac_coords).all()):
        raise StructureError(
            f"{source}, lattice or coordinates: not a number (NaN or infinite); fix the file", "not a number"
        )
    lengths, volume = structure.lattice.abc, abs(float(np.linalg.det(structure.lattice.matrix)))
    if min(lengths) < 1e-3 or volume < 1e-3 * math.prod(lengths):
        raise StructureError(f"{source}, lattice: cell volume {volume:.3g} A^3 is zero; fix the lattice", "flat cell")
    if max(lengths) > MAX_LENGTH or volume > MAX_VOLUME * len(structure):
        raise StructureError(
            f"{source}, lattice: edges of {', '.join(f'{length:.4g}' for length in lengths)} A for "
            f"{len(structure)} atoms; give lengths in angstrom, at most {MAX_LENGTH:g} A",
            "cell too large",
        )
    if volume < MIN_VOLUME * len(structure):
        raise StructureError(
            f"{source}, lattice: {volume / len(structure):.2g} A^3 for an atom, which leaves them under "
            f"{MIN_DISTANCE} A apart; give lengths in angstrom",
            "cell too small",
        )
    inside = inside_cell(structure, f"{source}, ")
    if (inside != structure.frac_coords).any():
        # The search takes memory for all the space between the atoms at their given positions.
        structure = Structure(structure.lattice, species, inside)
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
            "remove the duplicate site or fix the coordinates",
            "atoms nearly coincide",
        )
    if not np.isfinite(nearest).all():
        index = int(np.isinf(nearest).argmax())
        raise StructureError(
            f"{source}, site {index} ({structure[index].specie}): isolated, no neighbour within {MAX_DISTANCE} A; "
            "only connected crystals can be translated",
            "isolated atom",
        )
