"""Rows that wait for the last row, in bounded memory."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# Beyond this size the rows are on the disk, in an unnamed file that ends with the process.
IN_MEMORY = 16 * 2**20


class Spool:
    """Rows as JSON lines, written once and read any number of times.

    Parameters
    ----------
    folder : Path
        Folder for a file; if it does not exist, the nearest existing folder above it.
    """

    def __init__(self, folder: Path) -> None:
        place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
        self._file = SpooledTemporaryFile(IN_MEMORY, dir=str(place))  # noqa: SIM115
        self._number = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for line in self.lines():
            yield json.loads(line)

    def append(self, row: dict[str, Any]) -> None:
        """Write a further row."""
        self._file.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")
        self._number += 1

    def lines(self) -> Iterator[bytes]:
        """Yield the written rows, line by line."""
        self._file.seek(0)
        yield from self._file
