"""Write files as a whole: a stop or a full disk leaves the old file or the new one. Standard library only."""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cryslator_flows.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def unwritable(path: Path, error: OSError) -> StoreError:
    """Return the error about a file or folder that cannot be written."""
    advice = "free some space, then give the same command again" if error.errno in FULL else "choose another path"
    return StoreError(f"{path}: cannot be written ({error.strerror or error}); {advice}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into one that names what was to be written.

    Raises
    ------
    StoreError
        The operating system refuses.
    """
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise unwritable(path, error) from error


def check_output(path: Path, *inputs: Path) -> None:
    """Refuse an output that is a folder or one of the inputs, before work begins.

    Parameters
    ----------
    path : Path
        The file to write.
    *inputs : Path
        The files that are read.

    Raises
    ------
    StoreError
        The file cannot be that output.
    """
    with writing(path):
        if path.is_dir():
            raise StoreError(f"{path}: is a folder; give the name of a file to write")
        if not path.parent.is_dir():
            raise StoreError(f"{path}: cannot be written (no folder {path.parent}); create it, or choose another path")
    if any(item.exists() and path.exists() and item.samefile(path) for item in inputs):
        raise StoreError(f"{path}: is read by this command; give another file to write")


class _Output(io.FileIO):
    """File whose own write errors name it, so that no error of what is read meanwhile is blamed on it."""

    def __init__(self, file: Path, mode: str, path: Path) -> None:
        self._path = path
        super().__init__(file, mode)

    def write(self, data: ReadableBuffer, /) -> int:
        with writing(self._path):
            return super().write(data)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes its place when all is written.

    A link stays, and its target is replaced. A device or a pipe is written to. Of two processes that write one file,
    the last one wins.

    Parameters
    ----------
    path : Path
        The file; its folder is made if missing.

    Raises
    ------
    StoreError
        It cannot be written.
    """
    with writing(path):
        target, is_stream = _resolve(path)
        # Hidden from what reads the folder, shorter than the longest name, and another one for each process.
        partial = target if is_stream else target.with_name(f".{secrets.token_hex(8)}.partial")
        raw = _Output(partial, "w" if is_stream else "x", path)
    try:
        with io.BufferedWriter(raw) as file:
            yield file
            file.flush()
            if not is_stream:
                with writing(path):
                    os.fsync(file.fileno())
        if not is_stream:
            with suppress(OSError):
                shutil.copymode(target, partial)
            with writing(path):
                partial.replace(target)
    finally:
        if not is_stream:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def _resolve(path: Path) -> tuple[Path, bool]:
    """Return the file behind links, in a folder that exists, and True if it is a device or a pipe."""
    if path.exists() and not path.is_file() and not path.is_dir():
        return path, True
    target = Path(os.path.realpath(path))
    if target.is_dir() or target.is_symlink():
        code = errno.EISDIR if target.is_dir() else errno.ELOOP
        raise OSError(code, os.strerror(code))
    if target.exists() and not os.access(target, os.W_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    target.parent.mkdir(parents=True, exist_ok=True)
    return target, False


@contextmanager
def whole_text(path: Path) -> Iterator[IO[str]]:
    """Open a text file that takes its place when all is written, see `whole_file`.

    Raises
    ------
    StoreError
        It cannot be written.
    """
    with whole_file(path) as file:
        # Names of files need not be text; line breaks are those that are written.
        text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="", write_through=True)
        yield text
        text.detach()


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file as a whole, see `whole_file`.

    Raises
    ------
    StoreError
        It cannot be written.
    """
    with whole_file(path) as file:
        file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
