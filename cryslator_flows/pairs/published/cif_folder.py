"""Folders with two CIF files for each pair, ``ID_unrelaxed.cif`` and ``ID_relaxed.cif``, and CSV tables."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryslator_flows.crystals.files import read_structure
from cryslator_flows.errors import DataError, StructureError, one_line
from cryslator_flows.pairs.raw import Dropped, RawPair

if TYPE_CHECKING:
    from pathlib import Path

    from pymatgen.core import Structure

LONG = re.compile(r"(?P<name>.+)_(?P<which>unrelaxed|relaxed)\.cif", flags=re.IGNORECASE)
SHORT = re.compile(r"(?P<name>.+)_(?P<which>u|r)\.cif", flags=re.IGNORECASE)


@dataclass
class CifPair:
    """The files of one pair.

    Parameters
    ----------
    name : str
        Name of the files without ``_unrelaxed.cif`` and ``_relaxed.cif``.
    files : dict
        Files by their content, ``unrelaxed`` or ``relaxed``: one each in a complete pair.
    """

    name: str
    files: dict[str, list[Path]] = field(default_factory=lambda: {"unrelaxed": [], "relaxed": []})

    def read(self, columns: dict[str, Any]) -> RawPair | Dropped:
        """Read both files; `columns` become the columns of the pair."""
        structures: dict[str, Structure] = {}
        for which, files in self.files.items():
            if not files:
                return Dropped(self.name, f"no {which} structure")
            if len(files) > 1:
                return Dropped(self.name, f"several {which} structures of this name")
            try:
                structures[which] = read_structure(files[0])
            except StructureError:
                return Dropped(self.name, f"the CIF file of the {which} structure is not readable as a crystal")
        return RawPair(self.name, self.name, structures["unrelaxed"], structures["relaxed"], columns)


def visible_files(folder: Path) -> list[Path]:
    """List all files under a folder in order, without hidden files and the files that macOS adds to archives."""
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") or part == "__MACOSX" for part in parts):
            found.append(path)
    return found


def find_pairs(files: list[Path], pattern: re.Pattern[str] = LONG) -> dict[str, CifPair]:
    """Find pairs among files by their name in small letters, in alphabetical order; skip other files."""
    pairs: dict[str, CifPair] = {}
    for path in files:
        if match := pattern.fullmatch(path.name):
            name = match["name"]
            which = "unrelaxed" if match["which"].lower().startswith("u") else "relaxed"
            pairs.setdefault(name.casefold(), CifPair(name)).files[which].append(path)
    return dict(sorted(pairs.items()))


def read_rows(table: Path) -> list[list[str]]:
    """Read the rows of a CSV file, with the header, without empty rows and without spaces around cells.

    Raises
    ------
    DataError
        The file is not text.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            rows = [[cell.strip() for cell in row] for row in csv.reader(lines)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read as a table ({one_line(error)}); fix or remove it") from error
    return [row for row in rows if any(row)]


def to_number(cell: str) -> float | None:
    """Return a finite number, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
