"""Library of structure types: one known crystal of each.

Data: Materials Project (materialsproject.org), CC BY 4.0. Names: pymatgen's prototype matcher. A type has an anonymous
formula, a space group and orbits of equal sizes, and at least three members.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from pymatgen.core import Lattice, Structure

LIBRARY = "prototype_templates.jsonl.gz"
NAMES = "prototype_names.json"


@dataclass(frozen=True)
class Prototype:
    """A known crystal that stands for its structure type.

    Parameters
    ----------
    material_id : str
        Its identifier in the Materials Project.
    formula : str
        Its reduced formula.
    species : tuple of str
        Element symbol of every atom.
    name : str
        Name of the structure type in the AFLOW library, often a mineral; empty where the type has none.
    row : dict
        Its line of the library, with ``lattice_parameters`` in angstrom and degrees and ``frac``.
    """

    material_id: str
    formula: str
    species: tuple[str, ...]
    name: str
    row: dict[str, Any]

    @property
    def template_id(self) -> str:
        """Its name among the templates of a campaign."""
        return f"{self.formula}:{self.material_id}"

    @property
    def elements(self) -> frozenset[str]:
        """Symbols of its elements."""
        return frozenset(self.species)

    @property
    def anonymous_formula(self) -> str:
        """Its formula type, as in 'ABC3'."""
        return str(self.row["anonymous_formula"])

    @property
    def space_group(self) -> int:
        """Number of its space group."""
        return int(self.row["space_group"])

    @property
    def n_members(self) -> int:
        """Number of crystals of this type in the Materials Project."""
        return int(self.row["n_members"])

    @property
    def structure(self) -> Structure:
        """Its structure, relaxed with PBE(+U)."""
        return Structure(Lattice.from_parameters(*self.row["lattice_parameters"]), self.species, self.row["frac"])


@cache
def prototypes() -> tuple[Prototype, ...]:
    """Return all crystals of the library.

    Examples
    --------
    >>> len(prototypes())
    2908
    """
    folder = files("cryslator_flows.crystals")
    packed = folder / LIBRARY
    names = json.loads((folder / NAMES).read_text(encoding="utf-8"))
    with packed.open("rb") as raw, gzip.open(raw, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return tuple(
        Prototype(row["id"], row["formula"], tuple(row["species"]), names.get(row["id"], ""), row) for row in rows
    )
