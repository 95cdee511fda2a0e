"""Read structures from files, folders and JSON lines."""

from __future__ import annotations

import json
import re
import warnings
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from pymatgen.core import Structure
from pymatgen.io.registry import get_structure_format
from ruamel.yaml import YAML

from cryslator_flows.crystals.ase_atoms import structure_from_atoms
from cryslator_flows.crystals.check import check_count
from cryslator_flows.crystals.outside import UNREADABLE, crystal_alone, structure_from_dict
from cryslator_flows.crystals.source_files import (
    COMPRESSED,
    JSON_LINES,
    MOST_DATA,
    MOST_TEXT,
    check_file,
    read_lines,
    read_text,
    structure_files,
    too_large,
    unpack,
)
from cryslator_flows.crystals.stated import CHECKS
from cryslator_flows.errors import StructureError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ase import Atoms

# Keys under which databases and generative models give the identifier of a structure.
IDENTIFIERS = ("material_id", "mat_id", "structure_id", "entry_id", "identifier", "id", "_id", "uuid")
IN_COMMENT = re.compile(rf"""(?:^|\s)({"|".join(IDENTIFIERS)})=("[^"]*"|'[^']*'|\S+)""")

ReadStructure = tuple[str, Structure | StructureError]


def read_structures(source: Path | str, written: Path | None = None) -> Iterator[ReadStructure]:
    """Stream the structures of a file, of a folder, or of ``.jsonl[.gz]`` lines of `Structure.as_dict()`.

    An error about one structure is part of the stream. The other structures follow.

    Parameters
    ----------
    source : Path or str
        File or folder. A folder is walked in alphabetical order, without hidden files.
    written : Path or None
        Output of an earlier run in the folder, which is skipped.

    Yields
    ------
    (str, Structure or StructureError)
        Name and structure, or the error about it. The name is the file. If the file has several structures, the
        identifier follows that it gives under one of `IDENTIFIERS`, else the line, data block or number. A structure
        has lattice, species, positions and magnetic moments, see `crystal_alone`.

    Raises
    ------
    StructureError
        `source` does not exist or is an empty folder.
    """
    for path in structure_files(Path(source)):
        if written is not None and path.exists() and written.exists() and path.samefile(written):
            continue
        yield from _read_json_lines(path) if JSON_LINES.fullmatch(path.name) else read_file(path)


def read_structure(path: Path | str) -> Structure:
    """Read a file of one structure in any format that pymatgen or ASE knows.

    Parameters
    ----------
    path : Path or str
        The file.

    Returns
    -------
    Structure
        The structure, see `crystal_alone`.

    Raises
    ------
    StructureError
        The file cannot be read as the structure it describes, or it holds several structures.
    """
    rows = list(read_file(Path(path)))
    if len(rows) > 1:
        raise StructureError(
            f"{path}: {len(rows)} structures in one file; give a file for each", "several structures in one file"
        )
    ((_, found),) = rows
    if isinstance(found, StructureError):
        raise found
    return found


def read_file(path: Path | str) -> Iterator[ReadStructure]:
    """Read all structures of a file other than ``.jsonl``.

    Parameters
    ----------
    path : Path or str
        The file. Formats that pymatgen does not recognise by the file name are read by ASE.

    Yields
    ------
    (str, Structure or StructureError)
        As `read_structures`; at least one.
    """
    path = Path(path)
    try:
        check_file(path)
        rows = list(_parse(path))
        if not rows:
            raise StructureError(f"{UNREADABLE} (no structure in it); give a structure file", UNREADABLE)
        for name, found in rows:
            where = str(path) if len(rows) == 1 else f"{path}, {name}"
            if isinstance(found, StructureError):
                yield where, StructureError(f"{where}: {found}", found.cause)
            else:
                yield where, found
    except StructureError as error:
        yield str(path), StructureError(f"{path}: {error}", error.cause)
    # Readers raise any exception on broken files.
    except Exception as error:
        reason = f"{path}: {UNREADABLE} ({one_line(error)}); convert it to CIF or POSCAR"
        yield str(path), StructureError(reason, UNREADABLE)


def _read_json_lines(path: Path) -> Iterator[ReadStructure]:
    try:
        for number, line in read_lines(path):
            name = f"{path}, line {number}"
            try:
                row = json.loads(line)
                yield f"{path}, {_identifier(row, f'line {number}')}", structure_from_dict(row)
            except StructureError as error:
                yield name, StructureError(f"{name}: {error}", error.cause)
            except Exception as error:
                yield name, StructureError(f"{name}: {one_line(error)}; fix or remove that line", UNREADABLE)
    except StructureError as error:
        yield str(path), error


def _identifier(row: Any, other: str) -> str:
    """Return the identifier that a row gives, or another name of the row without one."""
    if isinstance(row, dict):
        for key in IDENTIFIERS:
            if isinstance(row.get(key), str | int) and (name := " ".join(str(row[key]).split())):
                return name
    return other


def _parse(path: Path) -> Iterator[ReadStructure]:
    from cryslator_flows.crystals.cif import read_cif
    from cryslator_flows.crystals.poscar import read_poscar

    bare = path.name if not COMPRESSED.fullmatch(path.suffix) else path.stem
    try:
        format_name = get_structure_format(filename=bare).name
    # A format that pymatgen does not recognise, or reads with a package that is not installed.
    except (ValueError, ImportError):
        format_name = ""
    if format_name == "cif":
        for name, found in read_cif(read_text(path, MOST_DATA)):
            yield name, found if isinstance(found, StructureError) else crystal_alone(found)
    elif format_name == "poscar":
        yield "", crystal_alone(read_poscar(read_text(path)))
    elif format_name in ("chgcar", "locpot"):
        yield "", crystal_alone(read_poscar(read_text(path, head=True)))
    elif format_name in ("json", "yaml"):
        yield from _from_document(path, format_name)
    elif not format_name and bare.lower().endswith((".xyz", ".extxyz")):
        yield from _read_frames(read_text(path, MOST_DATA))
    else:
        announced = None
        if format_name in CHECKS:
            head = read_text(path, head=True)
            announced = CHECKS[format_name](head)
            # pymatgen reads a single crystal of XCrySDen.
            format_name = "" if "ANIMSTEPS" in head else format_name
        with TemporaryDirectory() as folder:
            unpacked = path.absolute()
            if bare != path.name:
                unpacked = Path(folder) / bare
                unpacked.write_bytes(unpack(path, MOST_DATA))
            elif path.stat().st_size > MOST_DATA:
                raise too_large(MOST_DATA)
            if format_name:
                yield from _read_with_pymatgen(unpacked, format_name, announced)
            else:
                yield from _read_with_ase(unpacked)


def _from_document(path: Path, format_name: str) -> Iterator[ReadStructure]:
    """Read the structures of a JSON or YAML file: one, a list of them, or a database of ASE."""
    text = read_text(path, MOST_DATA if format_name == "json" else MOST_TEXT)
    try:
        content: Any = json.loads(text) if format_name == "json" else YAML(typ="safe", pure=True).load(text)
    except json.JSONDecodeError as error:
        advice = "name a file of one document in each line .jsonl" if error.msg == "Extra data" else "write it again"
        raise StructureError(f"{UNREADABLE} ({one_line(error)}); {advice}", UNREADABLE) from error
    if isinstance(content, dict) and "nextid" in content:
        yield from _read_with_ase(path, format="json")
        return
    rows = content if isinstance(content, list) else [content]
    if not rows:
        raise StructureError("no structure in it; give the output of Structure.as_dict()", UNREADABLE)
    for number, row in enumerate(rows, 1):
        try:
            yield _identifier(row, f"structure {number}"), structure_from_dict(row)
        except StructureError as error:
            yield f"structure {number}", error
        except Exception as error:
            yield f"structure {number}", StructureError(f"{UNREADABLE} ({one_line(error)}); fix it", UNREADABLE)


def _read_with_pymatgen(path: Path, format_name: str, announced: int | None) -> Iterator[ReadStructure]:
    """Read a file that states at most `announced` atoms."""
    options = {"parse_dos": False, "parse_eigen": False, "parse_potcar_file": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = Structure.from_file(path, **(options if format_name == "vasprun" else {}))
        except ImportError:
            yield from _read_with_ase(path)
            return
    check_count(len(found))
    if announced not in (None, len(found)):
        raise StructureError(
            f"{len(found)} atoms read, but the file states {announced}; complete it or fix the number",
            "other atoms than the stated number",
        )
    yield "", crystal_alone(found)


def _read_with_ase(path: Path, **options: Any) -> Iterator[ReadStructure]:
    """Read the structures of a file one by one. After one that cannot be read, ASE cannot find the others."""
    from ase.io import iread

    number = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for number, atoms in enumerate(iread(str(path), ":", do_not_split_by_at_sign=True, **options), 1):
                yield _identifier(atoms.info, f"structure {number}"), _row(partial(_crystal, atoms))
        except Exception as error:
            if not number:
                raise
            reason = f"this one and all after it cannot be read ({one_line(error)}); write the file again"
            yield f"structure {number + 1}", StructureError(reason, UNREADABLE)


def _read_frames(text: str) -> Iterator[ReadStructure]:
    """Read the structures of an XYZ file one by one. ASE alone reads all or none."""
    lines = text.rstrip().split("\n")
    number = start = 0
    while start < len(lines):
        if not lines[start].strip():
            start += 1
            continue
        number += 1
        count = lines[start].strip()
        end = start + 2 + int(count) if count.isdecimal() and len(count) < 10 else 0
        if not start < end <= len(lines):
            reason = f"line {start + 1}: {count[:40]!r} is not the number of atoms in the lines that follow; fix it"
            yield f"structure {number}", StructureError(reason, UNREADABLE)
            return
        given = {key: value.strip("\"'") for key, value in IN_COMMENT.findall(lines[start + 1])}
        yield _identifier(given, f"structure {number}"), _row(partial(_from_frame, lines[start:end]))
        start = end


def _row(read: Callable[[], Structure]) -> Structure | StructureError:
    try:
        return read()
    except StructureError as error:
        return error
    # A line may have any content.
    except Exception as error:
        return StructureError(f"{UNREADABLE} ({one_line(error)}); fix it or convert it to CIF", UNREADABLE)


def _from_frame(lines: list[str]) -> Structure:
    from ase.io import read

    check_count(len(lines) - 2)
    atoms = read(StringIO("\n".join(lines) + "\n"), format="extxyz")
    return _crystal(cast("Atoms", atoms))


def _crystal(atoms: Atoms) -> Structure:
    return crystal_alone(structure_from_atoms(atoms))
