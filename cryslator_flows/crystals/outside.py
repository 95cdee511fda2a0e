"""Crystals from outside, decoded without building foreign classes and without properties of calculations."""

from __future__ import annotations

from typing import Any

import numpy as np
from pymatgen.core import DummySpecies, Lattice, Structure

from cryslator_flows.crystals.check import check_count, inside_cell
from cryslator_flows.crystals.moments import moments_of
from cryslator_flows.documents.gate import refuse_classes
from cryslator_flows.errors import StructureError, one_line

UNREADABLE = "not readable as a crystal"


def structure_from_dict(row: Any) -> Structure:
    """Return the structure of the output of `Structure.as_dict`, or of a row with one under ``structure``.

    Parameters
    ----------
    row : Any
        Decoded JSON or YAML.

    Returns
    -------
    Structure
        See `crystal_alone`.

    Raises
    ------
    StructureError
        The row has no structure, too many atoms, wrong occupancies, or foreign classes.
    """
    if isinstance(row, dict) and "lattice" not in row and isinstance(row.get("structure"), dict):
        row = row["structure"]
    if not isinstance(row, dict) or "lattice" not in row or not isinstance(row.get("sites"), list):
        raise StructureError(
            "no structure: expected the keys of Structure.as_dict(), 'lattice' and 'sites'", UNREADABLE
        )
    check_count(len(row["sites"]))
    refuse_classes(row)
    try:
        Lattice.from_dict(row["lattice"])
    except Exception as error:
        raise StructureError(
            f"lattice: cannot be read ({one_line(error)}); give 'matrix', three rows of three numbers in angstrom",
            UNREADABLE,
        ) from error
    for index, site in enumerate(row["sites"]):
        if not isinstance(site, dict) or not {"species", "abc"} <= site.keys():
            raise StructureError(f"site {index}: no 'species' or no 'abc'; give both", UNREADABLE)
        for specie in site["species"]:
            check_occupancy(specie["occu"], f"site {index}")
    structure = Structure.from_dict(row)
    for index, site in enumerate(structure):
        for specie in site.species:
            if isinstance(specie, DummySpecies):
                raise StructureError(
                    f"site {index}: {specie.symbol!r} is not an element; use an element symbol", "no element"
                )
    return crystal_alone(structure)


def check_occupancy(value: Any, where: str) -> float:
    """Return the occupancy of a site. pymatgen ignores an occupancy that makes no sense.

    Raises
    ------
    StructureError
        The occupancy is negative or not a number.
    """
    try:
        occupancy = float(value)
    except (TypeError, ValueError):
        occupancy = np.nan
    if not 0 <= occupancy < np.inf:
        raise StructureError(f"{where}: occupancy {value!r} is not a number from 0 to 1; fix it", "wrong occupancy")
    return occupancy


def crystal_alone(structure: Structure) -> Structure:
    """Return a crystal without properties of a calculation, with its atoms inside the cell.

    Otherwise every relaxation of a candidate would inherit selective dynamics, velocities, forces, constraints and
    calculators of the template.

    Parameters
    ----------
    structure : Structure
        The structure of the reader.

    Returns
    -------
    Structure
        Lattice, species, positions and total charge, and the site properties of `carried_properties`.
    """
    return Structure(
        structure.lattice,
        structure.species_and_occu,
        inside_cell(structure),
        charge=structure._charge or None,
        site_properties=carried_properties(structure),
    )


def carried_properties(structure: Structure) -> dict[str, list[Any]]:
    """Return the site properties that belong to a crystal.

    Returns
    -------
    dict
        ``magmom`` as numbers or vectors in Bohr magnetons, and ``charge`` in elementary charges, where there are any.
    """
    found = {"magmom": moments_of(structure), "charge": structure.site_properties.get("charge")}
    return {name: list(values) for name, values in found.items() if values is not None}
