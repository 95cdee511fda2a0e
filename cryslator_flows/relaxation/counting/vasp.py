"""The attempts whose files lie in a VASP directory.

OSZICAR is what counts: VASP writes a line after each electronic step, while a killed run leaves vasprun.xml without an
end and the last lines of OUTCAR in a buffer. pymatgen's Oszicar refuses a file cut within a line, and its Outcar reads
the whole file for each of its patterns; so both are read line by line here. There is no falling back on vasprun.xml
without an OSZICAR: atomate2 copies vasprun.xml and OUTCAR from the previous job, which would be counted twice.
"""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from heapq import merge
from itertools import islice
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, NamedTuple

from cryslator_flows.errors import CountingError
from cryslator_flows.relaxation.counting.attempt import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OSZICAR = re.compile(r"OSZICAR(\.precondition|\.relax(\d+))?(\.gz)?")
ARCHIVE = re.compile(r"(error|prev_run)\.(\d+)(\.tar|\.tar\.gz)?")
LEFT_BY_VASP = re.compile(r"(OSZICAR|OUTCAR|vasprun\.xml|INCAR)(\..*)?")

# The number is complete only if something follows it; VASP prints stars when it does not fit.
ELECTRONIC_STEP = re.compile(rb"\s*[A-Za-z]+\s*:\s*(\d+|\*+)\s")
IONIC_STEP = re.compile(rb"\s*\d+\s.*\bF=")
ITERATION = re.compile(rb"-+ Iteration\s*([\d*]+)\(")
NUMBER = re.compile(rb"=\s*(-?\d+)")
# VASP states its version and when it started within these lines.
HEAD_LINES = 4


class _File(NamedTuple):
    open: Callable[[], IO[bytes]]
    modified: float


class _Outcar(NamedTuple):
    head: bytes = b""
    electronic_steps: tuple[int, ...] = ()
    n_kpoints: int | None = None
    wall_time: float | None = None
    converged: bool = False


class _Copy(NamedTuple):
    """The files of one attempt, in the directory or in an archive."""

    oszicar: bytes
    outcar: _Outcar
    n_kpoints: int | None
    synthetic: bool
    discarded: bool
    modified: float
    place: str

    def is_same_attempt(self, other: _Copy) -> bool:
        """Whether the other's files are of the same attempt, perhaps copied at another moment of it."""
        if self.outcar.head and other.outcar.head:
            shorter, longer = sorted((self.oszicar, other.oszicar), key=len)
            return self.outcar.head == other.outcar.head and longer.startswith(shorter)
        return self.oszicar == other.oszicar


def is_vasp_directory(directory: Path) -> bool:
    """Whether VASP ran in this directory, or was about to."""
    return any(LEFT_BY_VASP.fullmatch(path.name) or ARCHIVE.fullmatch(path.name) for path in directory.iterdir())


def read_attempts(directory: Path) -> list[Attempt]:
    """Find all attempts in a directory of VASP, those that custodian archived included.

    Looked at are OSZICAR and OUTCAR, plain or gzipped, with custodian's suffixes (``.precondition``, ``.relax1``, ...)
    and in ``error.N`` and ``prev_run.N`` (tar, tar.gz or folder). Custodian archives an attempt once for each handler
    that corrects it, and the last one still lies in the directory: copies of one attempt are told by OUTCAR's first
    lines, which hold the time it started, and by OSZICAR, and are counted once.

    Parameters
    ----------
    directory : Path
        The directory.

    Returns
    -------
    list of Attempt
        In the order they ran; empty if VASP has not written an OSZICAR yet.

    Raises
    ------
    CountingError
        A file is damaged, or a finished OUTCAR tells other counts than OSZICAR.
    """
    copies: list[_Copy] = []
    for copy in _find_copies(directory):
        known = next((known for known in copies if known.is_same_attempt(copy)), None)
        if known is None:
            copies.append(copy)
        else:
            longer = max(known, copy, key=lambda one: (len(one.oszicar), one.outcar.wall_time is not None))
            copies[copies.index(known)] = longer._replace(discarded=known.discarded and copy.discarded)
    return [_attempt(copy) for copy in copies]


def _find_copies(directory: Path) -> Iterator[_Copy]:
    archives: dict[str, list[tuple[int, Path]]] = {"error": [], "prev_run": []}
    for path in directory.iterdir():
        if match := ARCHIVE.fullmatch(path.name):
            archives[match[1]].append((int(match[2]), path))
    here = list(_read_copies(directory, discarded=False))
    latest = [copy for copy in here if Path(copy.place).name in ("OSZICAR", "OSZICAR.gz")]
    groups = [[copy for copy in here if copy not in latest]]
    groups += [
        [copy for _, path in sorted(paths) for copy in _read_copies(path, discarded=kind == "error")]
        for kind, paths in archives.items()
    ]
    # Each group is in order by itself; times, which do not survive all ways of copying, say how they go together.
    yield from merge(*groups, key=lambda copy: copy.modified)
    yield from latest


def _read_copies(place: Path, discarded: bool) -> Iterator[_Copy]:
    name = place.name
    try:
        with _open_files(place) as files:
            matches = [match for name in files if (match := OSZICAR.fullmatch(name))]
            for match in sorted(matches, key=_order):
                name, suffix, zipped = match[0], match[1] or "", match[3] or ""
                outcar = _pick(files, f"OUTCAR{suffix}", zipped)
                mesh = _pick(files, f"IBZKPT{suffix}", zipped)
                vasprun = _pick(files, f"vasprun.xml{suffix}", zipped)
                with files[name].open() as lines:
                    oszicar = lines.read()
                read = _read_outcar(outcar) if outcar else _Outcar()
                yield _Copy(
                    oszicar=oszicar,
                    outcar=read,
                    n_kpoints=read.n_kpoints or (_read_mesh(mesh) if mesh else None),
                    synthetic=any(b"synthetic" in _first_bytes(file) for file in (outcar, vasprun) if file),
                    discarded=discarded,
                    modified=files[name].modified,
                    place=str(place / name),
                )
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CountingError(
            f"{place}: {name} is damaged ({type(error).__name__}), so steps would be missing; "
            "restore it, or remove it if its steps are counted elsewhere"
        ) from error


def _order(match: re.Match[str]) -> tuple[int, int, str]:
    """Preconditioning, first relaxation, second relaxation, ..., no suffix; zipped leftovers before plain files."""
    rank = 2 if match[1] is None else 1 if match[2] else 0
    return rank, int(match[2] or 0), "" if match[3] else "plain"


@contextmanager
def _open_files(place: Path) -> Iterator[dict[str, _File]]:
    """Files by name, of a folder or an archive."""
    if place.is_dir():
        paths = [path for path in place.iterdir() if path.is_file()]
        yield {path.name: _File(partial(_open_path, path), path.stat().st_mtime) for path in paths}
        return
    with tarfile.open(place) as archive:
        members = [member for member in archive.getmembers() if member.isfile()]
        yield {
            PurePath(member.name).name: _File(partial(_open_member, archive, member), member.mtime)
            for member in members
        }


def _open_path(path: Path) -> IO[bytes]:
    return _decompress(path.open("rb"), path.name)


def _open_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    assert file is not None, "only asked for regular files"
    return _decompress(file, member.name)


def _decompress(file: IO[bytes], name: str) -> IO[bytes]:
    return gzip.open(file) if name.endswith(".gz") else file  # type: ignore[return-value]


def _pick(files: dict[str, _File], name: str, zipped: str) -> _File | None:
    """The file with or without .gz, rather as `zipped` says."""
    return files.get(name + zipped) or files.get(name) or files.get(f"{name}.gz")


def _first_bytes(file: _File) -> bytes:
    with file.open() as lines:
        return lines.read(1000)


def _read_mesh(file: _File) -> int | None:
    with file.open() as lines:
        second = b"".join(islice(lines, 1, 2)).split()
    return int(second[0]) if second and second[0].isdigit() else None


def _read_outcar(file: _File) -> _Outcar:
    head: list[bytes] = []
    ionic: list[bytes] = []
    electronic: list[int] = []
    n_kpoints = wall_time = None
    static = electronic_converged = ionic_converged = False
    with file.open() as lines:
        for line in lines:
            if len(head) < HEAD_LINES:
                head.append(line)
            if b" Iteration " in line and (match := ITERATION.match(line)):
                if ionic[-1:] != [match[1]]:
                    ionic.append(match[1])
                    electronic.append(0)
                    electronic_converged = False
                electronic[-1] += 1
            elif b"aborting loop because EDIFF is reached" in line:
                electronic_converged = True
            elif b"reached required accuracy" in line:
                ionic_converged = True
            elif b"NKPTS =" in line and (match := NUMBER.search(line)):
                n_kpoints = int(match[1])
            elif b"NSW    =" in line and (match := NUMBER.search(line)):
                static |= int(match[1]) == 0
            elif b"IBRION =" in line and (match := NUMBER.search(line)):
                static |= int(match[1]) == -1
            elif b"Elapsed time (sec):" in line:
                wall_time = float(line.rpartition(b":")[2])
    return _Outcar(
        head=b"".join(head) if len(head) == HEAD_LINES else b"",
        electronic_steps=tuple(electronic),
        n_kpoints=n_kpoints,
        wall_time=wall_time,
        converged=wall_time is not None and electronic_converged and (ionic_converged or static),
    )


def count_electronic_steps(oszicar: bytes) -> list[int]:
    """Electronic steps of each ionic step.

    Parameters
    ----------
    oszicar : bytes
        Content of an OSZICAR, perhaps cut anywhere.

    Returns
    -------
    list of int
        The last ionic step may be unfinished. A step of a machine-learned force field has 0.
    """
    steps: list[int] = []
    begun = False
    for line in oszicar.splitlines():
        if match := ELECTRONIC_STEP.match(line):
            if not begun or match[1] == b"1":
                steps.append(0)
            begun = True
            steps[-1] += 1
        elif IONIC_STEP.match(line):
            if not begun:
                steps.append(0)
            begun = False
    return steps


def _attempt(copy: _Copy) -> Attempt:
    steps = count_electronic_steps(copy.oszicar)
    told = list(copy.outcar.electronic_steps)
    finished = copy.outcar.wall_time is not None
    if finished and told and told != [step for step in steps if step]:
        raise CountingError(
            f"{copy.place}: {sum(steps)} electronic steps in {len(steps)} ionic steps, but OUTCAR beside it tells "
            f"{sum(told)} in {len(told)}; are they of different runs?"
        )
    return Attempt(
        attempt_id=sha256(copy.outcar.head).hexdigest()[:16] if copy.outcar.head else None,
        electronic_steps=steps,
        discarded=copy.discarded,
        converged=copy.outcar.converged,
        n_kpoints=copy.n_kpoints,
        wall_time=copy.outcar.wall_time,
        synthetic=copy.synthetic,
    )
