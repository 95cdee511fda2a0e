"""Read structures from files, folders and JSON lines."""

from __future__ import annotations

import json
import re
import stat
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from monty.io import zopen
from pymatgen.core import Structure
from pymatgen.io.registry import get_structure_format
from ruamel.yaml import YAML

from cryslator_flows.crystals.check import check_count
from cryslator_flows.crystals.outside import UNREADABLE, crystal_alone, structure_from_dict
from cryslator_flows.errors import StructureError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON_LINES = (".jsonl", ".jsonl.gz")
COMPRESSED = re.compile(r"\.(gz|z|bz2|xz|lzma)", flags=re.IGNORECASE)
# Unpacked, in bytes: a hundred times what 500 atoms take; a vasprun.xml or a trajectory has all steps of a calculation.
MOST_TEXT = 8 * 2**20
MOST_DATA = 256 * 2**20

ReadStructure = tuple[str, Structure | StructureError]


def read_structures(source: Path | str, written: Path | None = None) -> Iterator[ReadStructure]:
    """Stream the structures of a file, of a folder, or of ``.jsonl[.gz]`` lines of `Structure.as_dict()`.

    What cannot be read comes as its error; the others still come.

    Parameters
    ----------
    source : Path or str
        File or folder; a folder is walked in alphabetical order, hidden files left out.
    written : Path or None
        What an earlier run wrote into the folder, and is no input.

    Yields
    ------
    (str, Structure or StructureError)
        File, with line, data block or number where there are several, and its structure or what is wrong with it. Of
        a structure lattice, species, positions and magnetic moments are read, see `crystal_alone`.

    Raises
    ------
    StructureError
        `source` does not exist or is an empty folder.
    """
    for path in structure_files(Path(source)):
        if written is not None and path.exists() and written.exists() and path.samefile(written):
            continue
        yield from _read_json_lines(path) if path.name.endswith(JSON_LINES) else read_file(path)


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
        The file cannot be read as the structure it describes, or it holds several.
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


def read_file(path: Path) -> Iterator[ReadStructure]:
    """Read all structures of a file that is no ``.jsonl``.

    Parameters
    ----------
    path : Path
        The file. Formats that pymatgen does not know by the name of the file are left to ASE.

    Yields
    ------
    (str, Structure or StructureError)
        As `read_structures`; at least one.
    """
    try:
        _check_file(path)
        rows = list(_parse(path))
        for name, found in rows:
            where = str(path) if len(rows) == 1 else f"{path}, {name}"
            if isinstance(found, StructureError):
                yield where, StructureError(f"{where}: {found}", found.cause)
            else:
                yield where, found
    except StructureError as error:
        yield str(path), StructureError(f"{path}: {error}", error.cause)
    # Readers of broken files raise anything.
    except Exception as error:
        reason = f"{path}: {UNREADABLE} ({one_line(error)}); convert it to CIF or POSCAR"
        yield str(path), StructureError(reason, UNREADABLE)


def structure_files(source: Path) -> list[Path]:
    """Return a file alone, or the files of a folder in alphabetical order, hidden ones left out.

    Links that lead nowhere and pipes are among them, so that reading names them.

    Raises
    ------
    StructureError
        `source` does not exist or is an empty folder.
    """
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if not path.is_dir() and not path.name.startswith("."))
        if not files:
            raise StructureError(f"{source}: folder without files; put structure files into it")
        return files
    if not source.exists():
        raise StructureError(f"{source}: no such file or folder; check the path")
    return [source]


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Stream the lines of a ``.jsonl`` or ``.jsonl.gz`` file that are not empty, with their numbers from 1.

    Raises
    ------
    StructureError
        The rest of the file cannot be read, or the next line is too long.
    """
    number = 0
    try:
        _check_file(path)
        with zopen(path, "rb") as lines:
            while line := lines.readline(MOST_TEXT + 1):
                number += 1
                if len(line) > MOST_TEXT:
                    raise StructureError(
                        f"over {MOST_TEXT >> 20} MB in one line; give a structure in each", "too large"
                    )
                if line.strip():
                    yield number, line
    except StructureError as error:
        raise StructureError(f"{path}, after line {number}: {error}", error.cause) from error
    # A damaged archive can raise errors of any kind.
    except Exception as error:
        raise StructureError(
            f"{path}, after line {number}: the rest cannot be read ({one_line(error)}); write the file again",
            UNREADABLE,
        ) from error


def _read_json_lines(path: Path) -> Iterator[ReadStructure]:
    try:
        for number, line in read_lines(path):
            name = f"{path}, line {number}"
            try:
                yield name, structure_from_dict(json.loads(line))
            except StructureError as error:
                yield name, StructureError(f"{name}: {error}", error.cause)
            except Exception as error:
                yield name, StructureError(f"{name}: {one_line(error)}; fix or remove that line", UNREADABLE)
    except StructureError as error:
        yield str(path), error


def _check_file(path: Path) -> None:
    """Raise an error unless a path is a file with content; reading a pipe or a device may never end."""
    try:
        status = path.stat()
    except OSError as error:
        reason = "a link that leads nowhere" if path.is_symlink() else "no such file"
        raise StructureError(f"{reason}; check the path", "no such file") from error
    if not stat.S_ISREG(status.st_mode):
        raise StructureError("no regular file; give a structure file such as CIF or POSCAR", "no file")
    if not status.st_size:
        raise StructureError("empty file; give a structure file such as CIF or POSCAR", "empty file")


def _parse(path: Path) -> Iterator[ReadStructure]:
    from cryslator_flows.crystals.cif import read_cif
    from cryslator_flows.crystals.poscar import read_poscar

    bare = path.name if not COMPRESSED.fullmatch(path.suffix) else path.stem
    try:
        format_name = get_structure_format(filename=bare).name
    # A format that pymatgen does not know, or reads with a package that is not installed.
    except (ValueError, ImportError):
        format_name = ""
    if format_name == "cif":
        for name, found in read_cif(_text(path)):
            yield name, found if isinstance(found, StructureError) else crystal_alone(found)
    elif format_name == "poscar":
        yield "", crystal_alone(read_poscar(_text(path)))
    elif format_name in ("chgcar", "locpot"):
        yield "", crystal_alone(read_poscar(_text(path, head=True)))
    elif format_name in ("json", "yaml"):
        yield from _from_document(_text(path), format_name)
    else:
        if format_name == "xsf":
            _check_xsf(_text(path, head=True))
        with TemporaryDirectory() as folder:
            unpacked = path.absolute()
            if bare != path.name:
                unpacked = Path(folder) / bare
                unpacked.write_bytes(_unpack(path, MOST_DATA))
            elif path.stat().st_size > MOST_DATA:
                raise _too_large(MOST_DATA)
            yield from _read_with_pymatgen(unpacked, format_name) if format_name else _read_with_ase(unpacked)


def _check_xsf(head: str) -> None:
    """Check what pymatgen takes for granted of an XSF file, given its begin."""
    for count in re.findall(r"^[^\S\n]*(?:PRIM|CONV)COORD[^\n]*\n[^\S\n]*(\d{1,18})", head, flags=re.MULTILINE):
        check_count(int(count))
    if re.search(r"^[^\S\n]*(SLAB|POLYMER)\b", head, flags=re.MULTILINE):
        raise StructureError("not periodic in three directions; give a cell with vacuum as CRYSTAL", "not periodic")


def _unpack(path: Path, most: int, cut: bool = False) -> bytes:
    """Return the content of a file that may be compressed, `most` bytes of it if it may be cut."""
    with zopen(path, "rb") as file:
        content: bytes = file.read(most + 1)
    if len(content) > most and not cut:
        raise _too_large(most)
    return content[:most]


def _too_large(most: int) -> StructureError:
    return StructureError(f"over {most >> 20} MB unpacked; give a file with one structure", "too large")


def _text(path: Path, head: bool = False) -> str:
    # Names of authors and journals may be in any encoding.
    text = _unpack(path, MOST_TEXT, cut=head).decode("utf-8-sig", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _from_document(text: str, format_name: str) -> Iterator[ReadStructure]:
    """Read the structures of a JSON or YAML file: one, or a list of them."""
    content: Any = json.loads(text) if format_name == "json" else YAML(typ="safe", pure=True).load(text)
    rows = content if isinstance(content, list) else [content]
    if not rows:
        raise StructureError("no structure in it; give the output of Structure.as_dict()", UNREADABLE)
    for number, row in enumerate(rows, 1):
        try:
            yield f"structure {number}", structure_from_dict(row)
        except StructureError as error:
            yield f"structure {number}", error
        except Exception as error:
            yield f"structure {number}", StructureError(f"{UNREADABLE} ({one_line(error)}); fix it", UNREADABLE)


def _read_with_pymatgen(path: Path, format_name: str) -> Iterator[ReadStructure]:
    """Read a file in a format that needs no comparison of what it states with what is read."""
    options = {"parse_dos": False, "parse_eigen": False, "parse_potcar_file": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = Structure.from_file(path, **(options if format_name == "vasprun" else {}))
        except ImportError:
            yield from _read_with_ase(path)
            return
    check_count(len(found))
    yield "", crystal_alone(found)


def _read_with_ase(path: Path) -> Iterator[ReadStructure]:
    from ase.io import read
    from pymatgen.io.ase import AseAtomsAdaptor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = read(str(path), index=":", do_not_split_by_at_sign=True)
    for number, atoms in enumerate(images, 1):
        name = f"structure {number}"
        try:
            check_count(len(atoms))
            if not all(atoms.pbc):
                raise StructureError("not periodic in three directions; give a cell with vacuum", "not periodic")
            if "occupancy" in atoms.info or atoms.has("occupancies"):
                raise StructureError("has occupancies, which ASE leaves out; convert it to CIF", "disordered")
            del atoms.constraints
            atoms.calc = None
            yield name, crystal_alone(AseAtomsAdaptor.get_structure(atoms))
        except StructureError as error:
            yield name, error
        except Exception as error:
            yield name, StructureError(f"{UNREADABLE} ({one_line(error)}); convert it to CIF", UNREADABLE)
