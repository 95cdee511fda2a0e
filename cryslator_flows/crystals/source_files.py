"""Find the files of a source, and read their bytes, text and lines within limits."""

from __future__ import annotations

import re
import stat
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path
from typing import TYPE_CHECKING

from monty.io import zopen

from cryslator_flows.crystals.outside import UNREADABLE
from cryslator_flows.errors import StructureError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

COMPRESSED = re.compile(r"\.(gz|z|bz2|xz|lzma)", flags=re.IGNORECASE)
JSON_LINES = re.compile(rf".*\.(jsonl|ndjson)({COMPRESSED.pattern})?", flags=re.IGNORECASE)
# Largest unpacked size in bytes: a hundred times the size of 500 atoms. A vasprun.xml or a trajectory has all
# steps of a calculation.
MOST_TEXT = 8 * 2**20
MOST_DATA = 256 * 2**20

# File that marks the folder of a campaign.
STORE_FILE = "campaign.sqlite"
# Table of `cryslator translate` beside its POSCAR files.
TRANSLATED_TABLE = "translated.csv"


def structure_files(source: Path | str) -> list[Path]:
    """Return a file, or the files of a folder in alphabetical order, without hidden and unfinished files.

    The folders of campaigns in the folder are left out. Broken links and pipes are included, so that an error of
    reading names them.

    Raises
    ------
    StructureError
        `source` does not exist or is an empty folder.
    """
    source = Path(source)
    if source.is_dir():
        files = sorted(
            path
            for path in source.rglob("*")
            if not path.is_dir() and not any(map(_is_left_out, path.relative_to(source).parts))
        )
        campaigns = {path.parent for path in files if path.name == STORE_FILE} - {source}
        files = [path for path in files if campaigns.isdisjoint(path.parents)]
        if not files:
            raise StructureError(f"{source}: folder without files; put structure files into it")
        return files
    if not source.exists() and not source.is_symlink():
        raise StructureError(f"{source}: no such file or folder; check the path")
    return [source]


def _is_left_out(name: str) -> bool:
    """Return True for hidden files and folders, unfinished ones of a stopped program, and the table of translations."""
    return name.startswith(".") or name.endswith(".partial") or name == TRANSLATED_TABLE


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Stream the lines of a ``.jsonl`` or ``.jsonl.gz`` file that are not empty, with their numbers from 1.

    Raises
    ------
    StructureError
        The rest of the file cannot be read, or the next line is too long.
    """
    number = 0
    try:
        check_file(path)
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


def check_file(path: Path) -> None:
    """Raise an error if a path is not a regular file with content. Reading a pipe or a device may never end."""
    try:
        status = path.stat()
    except OSError as error:
        reason = "a link that leads nowhere" if path.is_symlink() else "no such file"
        raise StructureError(f"{reason}; check the path", "no such file") from error
    if not stat.S_ISREG(status.st_mode):
        raise StructureError("no regular file; give a structure file such as CIF or POSCAR", "no file")
    if not status.st_size:
        raise StructureError("empty file; give a structure file such as CIF or POSCAR", "empty file")


def unpack(path: Path, most: int, cut: bool = False) -> bytes:
    """Return the content of a file that may be compressed. If `cut`, return at most `most` bytes of it."""
    with zopen(path, "rb") as file:
        content: bytes = file.read(most + 1)
    if len(content) > most and not cut:
        raise too_large(most)
    return content[:most]


def too_large(most: int) -> StructureError:
    """Return the error about a file of more than `most` bytes."""
    return StructureError(f"over {most >> 20} MB unpacked; give a file with one structure", "too large")


def read_text(path: Path, most: int = MOST_TEXT, head: bool = False) -> str:
    """Return the text of a file that may be compressed; of its `head` alone, the first `most` bytes."""
    content = unpack(path, most, cut=head)
    # Windows calls UTF-16 "Unicode". Names of authors and journals may have any encoding.
    encoding = "utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
    text = content.decode(encoding, errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")
