"""Library of structure types: one known crystal of each.

Data: Materials Project (materialsproject.org), CC BY 4.0. A type has an anonymous formula, a space group and orbits of
equal sizes, and at least three members.
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
    row : dict
        Its line of the library, with ``lattice_parameters`` in angstrom and degrees and ``frac``.
    """

    material_id: str
    formula: str
    species: tuple[str, ...]
    row: dict[str, Any]

    @property
    def elements(self) -> frozenset[str]:
        """Symbols of its elements."""
        return frozenset(self.species)

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
    packed = files("cryslator_flows.crystals").joinpath(LIBRARY)
    with packed.open("rb") as raw, gzip.open(raw, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return tuple(Prototype(row["id"], row["formula"], tuple(row["species"]), row) for row in rows)
