"""Gate for documents from outside. Only pymatgen's classes of crystals are built from a document."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator
from pymatgen.core import Structure

from cryslator_flows.errors import StructureError

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
# Numeric dtypes only: the length in a text dtype determines the memory of an array.
NUMERIC = re.compile(r"(bool|u?int|float|complex)\d*")


def refuse_classes(document: Any) -> None:
    """Refuse a document with a class that a crystal does not need. monty would import and build the class.

    Parameters
    ----------
    document : Any
        Decoded JSON or YAML, before any class is built.

    Raises
    ------
    StructureError
        The document contains such a class, at any depth.
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


# Structure of a document that may come from outside.
Crystal = Annotated[Structure, BeforeValidator(_gate)]
