"""Write files atomically: after a crash or on a full disk the old file or the new one is complete.

Standard library only.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import platform
import shutil
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cryslator_flows.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# SQLite needs at least this many free bytes to open a file.
LEAST_SPACE = 2**16


def is_full(path: Path) -> bool:
    """Return True if the disk of a file, or of a file to be written, has no space left."""
    # Unlike Path.is_dir, os.path.isdir returns False for names that are too long for the system.
    folder = next(folder for folder in (path, *path.absolute().parents) if os.path.isdir(folder))  # noqa: PTH112
    space = shutil.disk_usage(folder)
    return space.total > 0 and space.free < LEAST_SPACE


def unwritable(path: Path, error: Exception, full: bool = False) -> StoreError:
    """Return the error about a file or folder that cannot be written.

    Parameters
    ----------
    path : Path
        The file or folder.
    error : Exception
        The error of the write. SQLite's errors do not say that a disk is full.
    full : bool
        True if the disk is known to be full.
    """
    full = full or getattr(error, "errno", None) in FULL or is_full(path)
    reason = getattr(error, "strerror", None) or error
    if full:
        reason = reason if getattr(error, "errno", None) in FULL else os.strerror(errno.ENOSPC)
        return StoreError(
            f"{path}: cannot be written ({reason}); free some space, then give the same command again "
            "(nothing stored was lost)"
        )
    return StoreError(f"{path}: cannot be written ({reason}); choose another path")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Convert errors of the operating system into an error that names the file to write.

    Raises
    ------
    StoreError
        The file cannot be written.
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
        The input files.

    Raises
    ------
    StoreError
        The path cannot be the output.
    """
    with writing(path):
        if path.is_dir():
            raise StoreError(f"{path}: is a folder; give the name of a file to write")
        if not path.parent.is_dir():
            raise StoreError(f"{path}: cannot be written (no folder {path.parent}); create it, or choose another path")
    if any(item.exists() and path.exists() and item.samefile(path) for item in inputs):
        raise StoreError(f"{path}: is read by this command; give another file to write")


class _Output(io.FileIO):
    """File that is named in its own write errors, so that read errors in between are not confused with them."""

    def __init__(self, file: Path | int, path: Path) -> None:
        self._path = path
        super().__init__(file, "w")

    def write(self, data: ReadableBuffer, /) -> int:
        with writing(self._path):
            return super().write(data)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that replaces the target once it is complete.

    If the path is a link, its target is replaced and the link stays. A device or a pipe is written directly.
    If two processes write one file, the last one wins. A partial file of a killed process is removed when the same
    machine writes that file again.

    Parameters
    ----------
    path : Path
        The file. Its folder is created if missing.

    Raises
    ------
    StoreError
        The file cannot be written.
    """
    with writing(path):
        target, is_stream = _resolve(path)
        partial, descriptor = (None, None) if is_stream else _new_partial(target)
        raw = _Output(target if descriptor is None else descriptor, path)
    with io.BufferedWriter(raw) as file:
        if partial is None:
            yield file
            return
        # The partial file is locked while it is open, so that no other process removes it.
        try:
            yield file
            file.flush()
            with writing(path):
                os.fsync(file.fileno())
            with suppress(OSError):
                shutil.copymode(target, partial)
            with writing(path):
                partial.replace(target)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise


def _new_partial(target: Path) -> tuple[Path, int]:
    """Create the partial file that will replace a target, and return it with an open descriptor that holds its lock.

    Its name is hidden from folder listings and shorter than the longest name. The same file and machine give the same
    name while no living process uses it, since locks need not work between machines.
    """
    digest = hashlib.sha256(os.fsencode(f"{platform.node()}/{target.name}")).hexdigest()[:16]
    for number in count():
        partial = target.with_name(f".{digest}-{number}.partial")
        _remove_dead(partial)
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
        if _is_locked(descriptor, partial):
            return partial, descriptor
        os.close(descriptor)
    raise AssertionError


def _remove_dead(partial: Path) -> None:
    """Remove the partial file of a killed process. The lock of a living process keeps its file."""
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_file(descriptor, partial):
            partial.unlink()
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int, partial: Path) -> bool:
    """Lock a new file. Return False if another process removed it as the file of a dead process."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # Where files cannot be locked, none is removed as the file of a dead process.
    except OSError:
        return True
    return _is_file(descriptor, partial)


def _is_file(descriptor: int, path: Path) -> bool:
    """Return True if a path is the path of an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _resolve(path: Path) -> tuple[Path, bool]:
    """Return the target of links, in a folder that exists, and True if it is a device or a pipe."""
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
    """Open a text file that replaces the target once it is complete, see `whole_file`.

    Raises
    ------
    StoreError
        The file cannot be written.
    """
    with whole_file(path) as file:
        # File names need not be valid text. Line breaks are written unchanged.
        text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="", write_through=True)
        yield text
        text.detach()


@contextmanager
def whole_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Make a folder that appears with all its files once it is complete.

    Parameters
    ----------
    path : Path
        A new or empty folder, or a link to one.
    overwrite : bool
        Replace a folder with files.

    Yields
    ------
    Path
        The folder to write to, hidden beside the target.

    Raises
    ------
    StoreError
        The folder cannot be made, or is not empty when all is written.
    """
    target = Path(os.path.realpath(path))
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    partial = target.with_name(f".{digest}-{os.getpid()}.partial")
    with writing(path):
        partial.mkdir()
    try:
        yield partial
        with writing(path):
            if overwrite and target.exists():
                old = partial.with_suffix(".old")
                target.rename(old)
                partial.rename(target)
                shutil.rmtree(old)
            else:
                partial.replace(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically, see `whole_file`.

    Raises
    ------
    StoreError
        The file cannot be written.
    """
    with whole_file(path) as file:
        file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
