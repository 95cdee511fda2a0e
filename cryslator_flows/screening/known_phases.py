"""Known compounds that compete with candidates: the lowest formation energy of each formula of the Materials Project.

Data: Materials Project (materialsproject.org), CC BY 4.0. PBE(+U) with the corrections of 2018 to 2020, as the energies
that the shipped models learn from. Only formulas with a negative formation energy; elements are at zero.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections import defaultdict
from functools import cache
from importlib.resources import files
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TABLE = "mp_known_phases.csv.gz"


def symbols_of(formula: str) -> frozenset[str]:
    """Return the symbols in a formula, without parsing it: a million candidates have too many formulas."""
    return frozenset(re.findall("[A-Z][a-z]?", formula))


def systems_within(systems: Iterable[frozenset[str]]) -> set[frozenset[str]]:
    """Return chemical systems and all systems of fewer of their elements."""
    return {
        frozenset(part)
        for system in set(systems)
        for size in range(1, len(system) + 1)
        for part in combinations(system, size)
    }


def known_phases(systems: Iterable[frozenset[str]]) -> dict[str, float]:
    """Return the known compounds of some chemical systems.

    Parameters
    ----------
    systems : iterable of frozenset of str
        Symbols of the elements of each system; see `systems_within` for those within a system.

    Returns
    -------
    dict
        Reduced formula to formation energy, in eV/atom.

    Examples
    --------
    >>> known_phases([frozenset({"Na", "Cl"})])["NaCl"] < -2
    True
    """
    table = _by_system()
    return {formula: energy for system in systems for formula, energy in table.get(system, {}).items()}


@cache
def known_materials() -> frozenset[str]:
    """Return the identifiers of the crystals that have the energies of `known_phases`."""
    return frozenset(row["material_id"] for row in _rows())


@cache
def _by_system() -> dict[frozenset[str], dict[str, float]]:
    table: dict[frozenset[str], dict[str, float]] = defaultdict(dict)
    for row in _rows():
        table[symbols_of(row["formula"])][row["formula"]] = float(row["formation_energy_per_atom"])
    return dict(table)


def _rows() -> Iterator[dict[str, str]]:
    packed = files("cryslator_flows.screening").joinpath(TABLE)
    with packed.open("rb") as raw, gzip.open(raw, "rt", encoding="utf-8") as lines:
        yield from csv.DictReader(lines)
