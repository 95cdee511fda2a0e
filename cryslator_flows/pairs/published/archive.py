"""Sources that come as one archive, which is unpacked into a temporary folder and changes nothing outside it."""

from __future__ import annotations

import tarfile
import zipfile
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from cryslator_flows.errors import DataError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# Text is packed to about a tenth. A file that grows far more, beyond some MB, is made to fill a disk.
MOST_GROWTH, FREE_BYTES = 100, 64 * 2**20


@contextmanager
def unpacked(source: Path, suffixes: Iterable[str], report: Callable[[str], None] = lambda _: None) -> Iterator[Path]:
    """Yield a folder, or a temporary folder with the content of an archive, which exists during the context.

    Parameters
    ----------
    source : Path
        A folder, or a ``.zip`` or ``.tar[.gz|.bz2|.xz]`` file.
    suffixes : iterable of str
        Only members with these endings are unpacked, in any case of letters.
    report : callable
        Called with a step that takes long.

    Yields
    ------
    Path
        The folder.

    Raises
    ------
    DataError
        The folder or archive does not exist or is damaged. Or it unpacks to over a hundred times its size, or a member
        would be written outside the folder.
    """
    if source.is_dir():
        yield source
        return
    if not source.is_file():
        raise DataError(f"{source}: no such folder or archive; check the path")
    if not source.name.lower().endswith(ARCHIVES):
        raise DataError(f"{source}: neither a folder nor an archive; give one of {', '.join(ARCHIVES)}")
    endings = tuple(suffix.lower() for suffix in suffixes)
    with TemporaryDirectory(prefix="cryslator-") as name:
        folder = Path(name)
        report(f"unpacking {source.name}")
        try:
            if source.name.lower().endswith(".zip"):
                _unpack_zip(source, folder, endings)
            else:
                _unpack_tar(source, folder, endings)
        except DataError:
            raise
        # Damaged bytes can raise any error.
        except Exception as error:
            raise DataError(f"{source}: cannot be unpacked ({one_line(error)}); download it again") from error
        report("")
        yield folder


def _check_size(source: Path, size: int) -> None:
    if size > MOST_GROWTH * source.stat().st_size + FREE_BYTES:
        raise DataError(f"{source}: unpacks to {size >> 20} MB or more; do not trust this file")


def _unpack_zip(source: Path, folder: Path, endings: tuple[str, ...]) -> None:
    with zipfile.ZipFile(source) as archive:
        _check_size(source, sum(member.file_size for member in archive.infolist()))
        for member in archive.infolist():
            # zipfile would put such members somewhere inside the folder.
            path = PurePosixPath(member.filename.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts:
                raise DataError(f"{source}, {member.filename}: leads out of the archive; do not trust this file")
            if path.name.lower().endswith(endings):
                archive.extract(member, folder)


def _unpack_tar(source: Path, folder: Path, endings: tuple[str, ...]) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise DataError(f"{source}: Python 3.11.4 or later is needed to unpack it; unpack it and give the folder")
    size = 0
    with tarfile.open(source) as archive:
        for member in archive:
            size += member.size
            _check_size(source, size)
            try:
                tarfile.data_filter(member, str(folder))
            except tarfile.FilterError as error:
                raise DataError(f"{source}, {member.name}: {one_line(error)}; do not trust this file") from error
            if member.isfile() and member.name.lower().endswith(endings):
                archive.extract(member, folder, filter="data")
