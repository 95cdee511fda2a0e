"""Read structures from files, folders and JSON lines."""

from __future__ import annotations

import gzip
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymatgen.core import DummySpecies, Structure

from cryslator_flows.errors import StructureError

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON_LINES = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True)
class StructureRow:
    """One structure of a source, or the reason why it could not be read.

    Parameters
    ----------
    source : str
        File, and line of it where there are several.
    structure : Structure or None
        The structure, None if it could not be read.
    error : str or None
        Why not.
    """

    source: str
    structure: Structure | None = None
    error: str | None = None


def one_line(error: BaseException) -> str:
    """The message of an exception without line breaks, never empty."""
    return " ".join(str(error).split()) or type(error).__name__


def read_structure(path: Path) -> Structure:
    """Read one structure file in any format that pymatgen or ASE knows.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    Structure
        The structure.

    Raises
    ------
    StructureError
        The file is empty or neither pymatgen nor ASE can read a periodic structure from it.
    """
    if not path.is_file():
        raise StructureError(f"{path}: no such file; check the path")
    if path.stat().st_size == 0:
        raise StructureError(f"{path}: empty file; give a structure file such as CIF or POSCAR")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            structure = Structure.from_file(path)
        except Exception as pymatgen_error:
            try:
                from ase.io import read
                from pymatgen.io.ase import AseAtomsAdaptor

                atoms = read(path)
                if not all(atoms.pbc):
                    raise ValueError("not periodic in three directions")
                structure = AseAtomsAdaptor.get_structure(atoms)
            except Exception as ase_error:
                raise StructureError(
                    f"{path}: not readable as a crystal (pymatgen: {one_line(pymatgen_error)}; "
                    f"ASE: {one_line(ase_error)}); convert it to CIF or POSCAR"
                ) from ase_error
    return structure


def structure_from_dict(row: Any) -> Structure:
    """Structure from the output of `Structure.as_dict`, or from a row that holds one under ``structure``.

    Raises
    ------
    ValueError
        The row holds no structure.
    """
    if isinstance(row, dict) and "lattice" not in row and isinstance(row.get("structure"), dict):
        row = row["structure"]
    if not isinstance(row, dict) or "lattice" not in row or "sites" not in row:
        raise ValueError("no structure: expected the keys of Structure.as_dict(), 'lattice' and 'sites'")
    structure = Structure.from_dict(row)
    for index, site in enumerate(structure):
        for specie in site.species:
            if isinstance(specie, DummySpecies):
                raise ValueError(f"site {index}: {specie.symbol!r} is no element; use an element symbol")
    return structure


def read_structures(source: Path) -> Iterator[StructureRow]:
    """Stream the structures of a file, of a folder, or of ``.jsonl[.gz]`` lines of `Structure.as_dict()`.

    What cannot be read comes as a row with an error; the others still come.

    Parameters
    ----------
    source : Path
        File or folder; a folder is walked in alphabetical order, hidden files left out.

    Yields
    ------
    StructureRow
        One row for each structure.

    Raises
    ------
    StructureError
        `source` does not exist or is an empty folder.
    """
    for path in structure_files(source):
        if path.name.endswith(JSON_LINES):
            yield from _read_json_lines(path)
        else:
            try:
                yield StructureRow(str(path), read_structure(path))
            except StructureError as error:
                yield StructureRow(str(path), error=str(error))


def structure_files(source: Path) -> list[Path]:
    """Return a file alone, or the files of a folder in alphabetical order, hidden ones left out.

    Raises
    ------
    StructureError
        `source` does not exist or is an empty folder.
    """
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.is_file() and not path.name.startswith("."))
        if not files:
            raise StructureError(f"{source}: folder without files; put structure files into it")
        return files
    if not source.exists():
        raise StructureError(f"{source}: no such file or folder; check the path")
    return [source]


def _read_json_lines(path: Path) -> Iterator[StructureRow]:
    number = 0
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                name = f"{path}, line {number}"
                try:
                    yield StructureRow(name, structure_from_dict(json.loads(line)))
                except Exception as error:
                    yield StructureRow(name, error=f"{name}: {one_line(error)}")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        yield StructureRow(str(path), error=f"{path}, after line {number}: cannot be read on ({one_line(error)})")
