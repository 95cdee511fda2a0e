"""The attempts whose files lie in a VASP directory.

Only OSZICAR counts, since VASP writes its line after each electronic step. A killed run leaves vasprun.xml without an
end and loses the last lines of OUTCAR in a buffer. Both files are read line by line here. pymatgen's Oszicar refuses a
file cut within a line, and its Outcar reads the whole file for each pattern. Without an OSZICAR nothing is counted:
atomate2 copies vasprun.xml and OUTCAR from the previous job, whose steps would count twice.
"""

from __future__ import annotations

import os
import re
import tarfile
import warnings
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from heapq import merge
from itertools import islice
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, NamedTuple

from cryslator_flows.counting.attempt import Attempt
from cryslator_flows.counting.oszicar import IONIC_STEP, read_oszicar
from cryslator_flows.counting.outcar import Outcar
from cryslator_flows.counting.packed import DAMAGED, ENDINGS, open_packed, unpack
from cryslator_flows.errors import CountingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cryslator_flows.counting.oszicar import Loop

_PACKED = "|".join(map(re.escape, ENDINGS))
OSZICAR = re.compile(rf"OSZICAR(\.(?!(?:gz|bz2|xz)$)[\w-]+)?({_PACKED})?")
FIRST = ".precondition"
NUMBERED = re.compile(r"\.(?:relax)?(\d+)")
ARCHIVE = re.compile(r"(error|prev_run)\.(\d+)(\.tar|\.tar\.gz)?")
LEFT_BY_VASP = re.compile(r"(OSZICAR|OUTCAR|vasprun\.xml|INCAR)(\..*)?")

# Usual names of VASP's standard output.
LOGS = ("vasp.out", "job.log")


class _File(NamedTuple):
    open: Callable[[], IO[bytes]]
    modified: float
    path: Path | None = None  # None in an archive


class _Copy(NamedTuple):
    """The files of one attempt, in the directory or in an archive."""

    oszicar: bytes
    head: bytes
    outcar_steps: list[int]
    wall_time: float | None
    converged: bool | None
    n_kpoints: int | None
    synthetic: bool
    discarded: bool
    modified: float
    place: str
    label: str

    @property
    def is_stray(self) -> bool:
        """True if this may be a backup or of another run, since neither its name nor its files show it."""
        return bool(self.label) and self.label != FIRST and not NUMBERED.fullmatch(self.label) and not self.head

    def is_same_attempt(self, other: _Copy) -> bool:
        """Check that both copies are of one attempt, perhaps made at different moments."""
        if self.head and other.head:
            shorter, longer = sorted((self.oszicar, other.oszicar), key=len)
            return self.head == other.head and longer.startswith(shorter)
        return self.oszicar == other.oszicar


class Memory:
    """The files of a directory that earlier calls have read, so that the next call reads only new lines."""

    def __init__(self) -> None:
        self._archives: dict[tuple[Path, int, int], list[_Copy]] = {}
        self._outcars: dict[Path, tuple[Outcar, int]] = {}

    def read_copies(self, place: Path, discarded: bool) -> list[_Copy]:
        """Read the copies in a directory, or in an archive that is new or has changed."""
        if place.is_dir():
            return list(_read_copies(place, discarded, self))
        status = place.stat()
        key = (place, status.st_size, status.st_mtime_ns)
        if key not in self._archives:
            self._archives[key] = list(_read_copies(place, discarded, self))
        return self._archives[key]

    def read_outcar(self, file: _File) -> Outcar:
        """Read an OUTCAR; only its new lines if it has grown since the last call."""
        with file.open() as lines:
            if file.path is None or file.path.suffix in ENDINGS:
                outcar = Outcar()
                outcar.read(lines)
                return outcar
            outcar, size = self._outcars.get(file.path, (Outcar(), 0))
            # Another attempt writes another head over the old one.
            if not outcar.head or lines.read(len(outcar.head)) != outcar.head or lines.seek(0, os.SEEK_END) < size:
                outcar, size = Outcar(), 0
            lines.seek(size)
            size += outcar.read(lines)
            self._outcars[file.path] = (outcar, size)
            return outcar


def is_vasp_directory(directory: Path | str) -> bool:
    """Check that VASP ran in this directory, or was about to."""
    directory = Path(directory)
    return any(LEFT_BY_VASP.fullmatch(path.name) or _archive(path) for path in directory.iterdir())


def read_attempts(directory: Path | str, memory: Memory | None = None) -> list[Attempt]:
    """Find all attempts in a directory of VASP, with the attempts that custodian archived.

    Attempts are in OSZICAR and OUTCAR, plain or packed, with custodian's suffixes (``.precondition``, ``.relax1``,
    ...), and in ``error.N`` and ``prev_run.N`` (tar, tar.gz or folder). Other suffixes (``.static``, ``.old``) count if
    OUTCAR with the same suffix holds the start time of the attempt. Custodian archives an attempt once for each handler
    that corrects it, and the last one still lies in the directory. All copies of an attempt count once. They share the
    first lines of OUTCAR, which hold the start time, and OSZICAR.

    Parameters
    ----------
    directory : Path or str
        The directory.
    memory : Memory, optional
        The files that earlier calls have read.

    Returns
    -------
    list of Attempt
        In the order they ran; empty if VASP has not written an OSZICAR yet.

    Raises
    ------
    CountingError
        A file is damaged, a link leads nowhere, or a finished OUTCAR reports other counts than OSZICAR. Or the name
        of an OSZICAR does not show that it belongs to the run.
    """
    directory = Path(directory)
    copies: list[_Copy] = []
    for copy in _find_copies(directory, memory or Memory()):
        known = next((known for known in copies if known.is_same_attempt(copy)), None)
        if known is None:
            copies.append(copy)
        else:
            longer = max(known, copy, key=lambda one: (len(one.oszicar), one.wall_time is not None))
            copies[copies.index(known)] = longer._replace(discarded=known.discarded and copy.discarded)
    if (stray := next((copy for copy in copies if copy.is_stray), None)) is not None:
        raise CountingError(
            f"{stray.place}: not known to be an attempt of this run, without an OUTCAR{stray.label} that says when it "
            "began; name it OSZICAR.relax1 (.relax2, in the order they ran) if its steps count, or move it away"
        )
    return [_attempt(copy) for copy in copies]


def _archive(path: Path) -> re.Match[str] | None:
    """Match the name of an archive; a file without the ending of one, such as Slurm's error.4711, is none."""
    match = ARCHIVE.fullmatch(path.name)
    return match if match and (match[3] or path.is_dir()) else None


def _find_copies(directory: Path, memory: Memory) -> Iterator[_Copy]:
    archives: dict[str, list[tuple[int, Path]]] = {"error": [], "prev_run": []}
    for path in directory.iterdir():
        if match := _archive(path):
            archives[match[1]].append((int(match[2]), path))
    here = memory.read_copies(directory, discarded=False)
    latest = [copy for copy in here if not copy.label]
    groups = [[copy for copy in here if copy not in latest]]
    groups += [
        [copy for _, path in sorted(paths) for copy in memory.read_copies(path, discarded=kind == "error")]
        for kind, paths in archives.items()
    ]
    # Each group is in order. Times of files, which some ways of copying lose, order the groups among each other.
    yield from merge(*groups, key=lambda copy: copy.modified)
    yield from latest


def _read_copies(place: Path, discarded: bool, memory: Memory) -> Iterator[_Copy]:
    name = place.name
    try:
        with _open_files(place) as files:
            matches = [match for name in files if (match := OSZICAR.fullmatch(name))]
            for match in sorted(matches, key=_order):
                name, suffix, zipped = match[0], match[1] or "", match[2] or ""
                outcar = _pick(files, f"OUTCAR{suffix}", zipped)
                mesh = _pick(files, f"IBZKPT{suffix}", zipped)
                vasprun = _pick(files, f"vasprun.xml{suffix}", zipped)
                with files[name].open() as lines:
                    oszicar = lines.read()
                read = memory.read_outcar(outcar) if outcar else Outcar()
                loop = read_oszicar(oszicar).last_loop
                yield _Copy(
                    oszicar=oszicar,
                    head=read.head,
                    outcar_steps=list(read.electronic_steps),
                    wall_time=read.wall_time,
                    converged=read.converged(loop)
                    if outcar
                    else _converged_without_outcar(files, suffix, zipped, loop),
                    n_kpoints=read.n_kpoints or (_read_mesh(mesh) if mesh else None),
                    synthetic=any(b"synthetic" in _first_bytes(file) for file in (outcar, vasprun) if file),
                    discarded=discarded,
                    modified=files[name].modified,
                    place=str(place / name),
                    label=suffix,
                )
    except (tarfile.TarError, *DAMAGED) as error:
        raise CountingError(
            f"{place}: {name} is damaged ({type(error).__name__}), so steps would be missing; "
            "restore it, or remove it if its steps are counted elsewhere"
        ) from error


def _order(match: re.Match[str]) -> tuple[int, int, str]:
    """Return a key that sorts preconditioning, relaxations, others, no suffix; packed leftovers before plain files."""
    number = NUMBERED.fullmatch(match[1] or "")
    rank = 3 if match[1] is None else 0 if match[1] == FIRST else 1 if number else 2
    return rank, int(number[1]) if number else 0, "" if match[2] else "plain"


@contextmanager
def _open_files(place: Path) -> Iterator[dict[str, _File]]:
    """Yield the files of a folder or an archive by name."""
    if place.is_dir():
        paths = [path for path in place.iterdir() if path.is_file()]
        for path in place.iterdir():
            if path.is_symlink() and not path.exists() and OSZICAR.fullmatch(path.name):
                raise CountingError(f"{path}: a link that leads nowhere, so steps would be missing; restore the file")
        yield {path.name: _File(partial(open_packed, path), path.stat().st_mtime, path) for path in paths}
        return
    with tarfile.open(place) as archive:
        members = [member for member in archive.getmembers() if member.isfile()]
        yield {
            PurePath(member.name).name: _File(partial(_open_member, archive, member), member.mtime)
            for member in members
        }


def _open_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    assert file is not None, "only regular files are opened"
    return unpack(file, member.name)


def _pick(files: dict[str, _File], name: str, zipped: str) -> _File | None:
    """Return the file, packed or not; `zipped` is the suffix to prefer."""
    return next((files[name + end] for end in (zipped, "", *ENDINGS) if name + end in files), None)


def _first_bytes(file: _File) -> bytes:
    with file.open() as lines:
        return lines.read(1000)


def _read_mesh(file: _File) -> int | None:
    with file.open() as lines:
        second = b"".join(islice(lines, 1, 2)).split()
    return int(second[0]) if second and second[0].isdigit() else None


def _converged_without_outcar(files: dict[str, _File], suffix: str, zipped: str, last_loop: Loop) -> bool | None:
    """Read the convergence of a run without OUTCAR from vasprun.xml or VASP's standard output; None if in neither."""
    from pymatgen.io.vasp import Incar, Vasprun

    vasprun = _pick(files, f"vasprun.xml{suffix}", zipped)
    log = next((log for name in LOGS if (log := _pick(files, f"{name}{suffix}", zipped))), None)
    incar = _pick(files, f"INCAR{suffix}", zipped)
    # pymatgen fails in many ways on files that are cut or changed by hand.
    if vasprun is not None and vasprun.path is not None:
        with suppress(Exception), warnings.catch_warnings(action="ignore"):
            run = Vasprun(vasprun.path, parse_dos=False, parse_eigen=False, parse_potcar_file=False)
            return bool(run.converged)
    with suppress(Exception), warnings.catch_warnings(action="ignore"):
        if log is not None and incar is not None:
            with incar.open() as lines:
                tags = Incar.from_str(lines.read().decode(errors="replace"))
            with log.open() as lines:
                printed = lines.read()
            if not last_loop.ended:
                return False
            if b"reached required accuracy" in printed or tags.get("NSW", 0) == 0:
                return last_loop.converged(tags.get("NELM", 60), tags.get("EDIFF", 1e-4))
            # The log of another program does not count.
            return False if any(map(IONIC_STEP.match, printed.splitlines())) else None
    return None


def _attempt(copy: _Copy) -> Attempt:
    steps, response, _ = read_oszicar(copy.oszicar)
    told = copy.outcar_steps
    if copy.wall_time is not None and told and told != [step for step in steps if step]:
        raise CountingError(
            f"{copy.place}: {sum(steps)} electronic steps in {len(steps)} ionic steps, but OUTCAR beside it reports "
            f"{sum(told)} in {len(told)}; remove the file that is of another run"
        )
    return Attempt(
        attempt_id=sha256(copy.head).hexdigest()[:16] if copy.head else None,
        electronic_steps=steps,
        response_steps=response,
        discarded=copy.discarded,
        converged=copy.converged,
        n_kpoints=copy.n_kpoints,
        wall_time=copy.wall_time,
        synthetic=copy.synthetic,
    )
