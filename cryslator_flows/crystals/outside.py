"""Documents from outside: decoded without building the classes they name, crystals without parts of calculations."""

from __future__ import annotations

import re
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator
from pymatgen.core import DummySpecies, Structure

from cryslator_flows.crystals.check import check_count, inside_cell
from cryslator_flows.crystals.moments import moments_of
from cryslator_flows.errors import StructureError

UNREADABLE = "not readable as a crystal"
# Classes of crystals, and plain data that monty writes as classes.
CLASSES = {
    ("pymatgen.core.structure", "Structure"),
    ("pymatgen.core.structure", "IStructure"),
    ("pymatgen.core.lattice", "Lattice"),
    ("pymatgen.core.sites", "PeriodicSite"),
    ("pymatgen.core.composition", "Composition"),
    ("pymatgen.core.periodic_table", "Element"),
    ("pymatgen.core.periodic_table", "Species"),
    ("pymatgen.core.periodic_table", "DummySpecies"),
    ("pymatgen.electronic_structure.core", "Magmom"),
    ("pymatgen.electronic_structure.core", "Spin"),
    ("datetime", "datetime"),
    ("numpy", "array"),
}
# The length of a text dtype alone would decide about the memory that it takes.
NUMERIC = re.compile(r"(bool|u?int|float|complex)\d*")


def refuse_classes(document: Any) -> None:
    """Refuse a document that names a class which no crystal needs; monty would import and build it.

    Parameters
    ----------
    document : Any
        Decoded JSON or YAML, before anything is built of it.

    Raises
    ------
    StructureError
        There is such a class in it, at any depth.
    """
    waiting, seen = [document], set()
    while waiting:
        part = waiting.pop()
        if not isinstance(part, dict | list | tuple) or id(part) in seen:
            continue
        seen.add(id(part))
        if not isinstance(part, dict):
            waiting.extend(part)
            continue
        waiting.extend(part.values())
        named = part.get("@module"), part.get("@class", part.get("@callable"))
        if named == (None, None):
            continue
        allowed = all(isinstance(word, str) for word in named) and named in CLASSES and "@callable" not in part
        if not allowed or (named == ("numpy", "array") and not NUMERIC.fullmatch(str(part.get("dtype")))):
            raise StructureError(
                f"names the class {named[0]}.{named[1]}, which a structure does not need; remove that entry",
                "names a foreign class",
            )


def _gate(value: Any) -> Any:
    refuse_classes(value)
    return value


# The structure of a document that may come from outside.
Crystal = Annotated[Structure, BeforeValidator(_gate)]


def structure_from_dict(row: Any) -> Structure:
    """Structure from the output of `Structure.as_dict`, or from a row that holds one under ``structure``.

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
        The row holds no structure, one of too many atoms or with broken occupancies, or it names foreign classes.
    """
    if isinstance(row, dict) and "lattice" not in row and isinstance(row.get("structure"), dict):
        row = row["structure"]
    if not isinstance(row, dict) or "lattice" not in row or not isinstance(row.get("sites"), list):
        raise StructureError(
            "no structure: expected the keys of Structure.as_dict(), 'lattice' and 'sites'", UNREADABLE
        )
    check_count(len(row["sites"]))
    refuse_classes(row)
    for index, site in enumerate(row["sites"]):
        for specie in site["species"]:
            check_occupancy(specie["occu"], f"site {index}")
    structure = Structure.from_dict(row)
    for index, site in enumerate(structure):
        for specie in site.species:
            if isinstance(specie, DummySpecies):
                raise StructureError(
                    f"site {index}: {specie.symbol!r} is no element; use an element symbol", "no element"
                )
    return crystal_alone(structure)


def check_occupancy(value: Any, where: str) -> float:
    """Return the occupancy of a site, which pymatgen leaves out where it makes no sense.

    Raises
    ------
    StructureError
        It is negative or no number.
    """
    try:
        occupancy = float(value)
    except (TypeError, ValueError):
        occupancy = np.nan
    if not 0 <= occupancy < np.inf:
        raise StructureError(f"{where}: occupancy {value!r} is no number from 0 to 1; fix it", "wrong occupancy")
    return occupancy


def crystal_alone(structure: Structure) -> Structure:
    """Return a crystal without properties of a calculation, its atoms inside the cell.

    Selective dynamics, velocities, forces, constraints and calculators would otherwise travel into every relaxation of
    the candidates that are made of it.

    Parameters
    ----------
    structure : Structure
        As it was read.

    Returns
    -------
    Structure
        Lattice, species and positions, and magnetic moments as numbers or vectors, in Bohr magnetons.
    """
    moments = moments_of(structure)
    return Structure(
        structure.lattice,
        structure.species_and_occu,
        inside_cell(structure),
        site_properties={} if moments is None else {"magmom": moments},
    )
