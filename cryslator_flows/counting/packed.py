"""Files that may be packed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
ENDINGS = tuple(_OPENERS)
# Errors of packed files that are cut or are not packed; bz2 raises OSError.
DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)


def open_packed(path: Path) -> IO[bytes]:
    """Open a file to read its unpacked content, by the ending of its name; closing it closes the packed file."""
    return cast("IO[bytes]", _OPENERS.get(path.suffix, open)(path, "rb"))


def unpack(file: IO[bytes], name: str) -> IO[bytes]:
    """Return the unpacked content of an open file, by the ending of its name."""
    opener = _OPENERS.get(PurePath(name).suffix)
    return file if opener is None else cast("IO[bytes]", opener(file))
