"""Pairs from folders of VASP relaxations."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

from cryslator_flows.errors import DataError
from cryslator_flows.pairs.raw import Dropped
from cryslator_flows.pairs.trajectory import (
    FIXED_CELL,
    NO_RELAXATION,
    trajectory_pairs,
)
from cryslator_flows.relaxation.ends import NOT_CONVERGED, TEST_DOUBLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymatgen.core import Structure

    from cryslator_flows.pairs.raw import RawPair

# IBRION of quasi-Newton, conjugate gradients and damped dynamics.
RELAXES = (1, 2, 3)
BROKEN = "vasprun.xml cannot be read"
# vasprun.xml and vasprun.xml.gz, and those of several relaxations in one folder: vasprun.xml.relax1.gz.
FILE = re.compile(r"vasprun\.xml(?:\.relax(\d+))?(?:\.gz)?")


def read_vasp_runs(path: Path, intermediates: int = 0) -> Iterator[RawPair | Dropped]:
    """Pair the first with the last structure of every VASP relaxation in a folder and the folders in it.

    Relaxations in one folder (``vasprun.xml.relax1``, ``vasprun.xml.relax2``) are one that goes on. A ``POSCAR.orig``,
    which custodian leaves, is where it began.

    Parameters
    ----------
    path : Path
        A folder, or a file ``vasprun.xml``.
    intermediates : int
        How many evenly spaced ionic steps are further unrelaxed crystals of the same target.

    Yields
    ------
    RawPair or Dropped
        One for each folder and its intermediates; ``energy_per_atom`` is that of the last ionic step, without entropy.

    Raises
    ------
    DataError
        There is no such folder, or no ``vasprun.xml`` in it.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such folder; give one of VASP relaxations")
    if path.is_file() and not path.name.startswith("vasprun"):
        raise DataError(f"{path}: is a file, and no vasprun.xml; give a folder of VASP relaxations")
    found = [path] if path.is_file() else sorted(file for file in path.rglob("vasprun.xml*") if file.is_file())
    runs: dict[tuple[Path, bool], dict[int, Path]] = {}
    for file in found:
        if (match := FILE.fullmatch(file.name)) is not None or path.is_file():
            number = int(match[1] or 0) if match else 0
            # Of a file and its archive the archive, whose name sorts last.
            runs.setdefault((file.parent, number > 0), {})[number] = file
    if not runs:
        raise DataError(f"{path}: no vasprun.xml in it; give a folder of VASP relaxations")
    for (folder, _), files in runs.items():
        name = str(folder.relative_to(path)) if path.is_dir() and folder != path else folder.absolute().name
        yield from _read_run(name, folder, [files[number] for number in sorted(files)], intermediates)


def _read_run(name: str, folder: Path, files: list[Path], intermediates: int) -> Iterator[RawPair | Dropped]:
    try:
        runs = [_read_file(file) for file in files]
        relaxed, energy = runs[-1].final_structure, float(runs[-1].final_energy)
    except Exception:
        yield Dropped(name, BROKEN)
        return
    reasons = [reason for reason in map(_unusable, runs) if reason is not None]
    if reasons or not runs[-1].converged:
        yield Dropped(name, [*reasons, NOT_CONVERGED][0])
        return
    unrelaxed = _original(folder) or runs[0].initial_structure
    steps = [step["structure"] for run in runs for step in run.ionic_steps]
    columns = {"energy_per_atom": energy / len(relaxed)}
    yield from trajectory_pairs(name, unrelaxed, relaxed, steps, intermediates, columns)


def _read_file(file: Path) -> Any:
    from pymatgen.io.vasp import Vasprun

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Vasprun(file, parse_dos=False, parse_eigen=False, parse_potcar_file=False)


def _unusable(run: Any) -> str | None:
    tags = {**run.parameters, **run.incar}
    if "synthetic" in str(run.vasp_version).lower():
        return TEST_DOUBLE
    if tags.get("IBRION") not in RELAXES or not tags.get("NSW"):
        return NO_RELAXATION
    return FIXED_CELL if tags.get("ISIF") != 3 else None


def _original(folder: Path) -> Structure | None:
    """What custodian found before it changed anything, if it can be read."""
    from pymatgen.io.vasp import Poscar

    for name in ("POSCAR.orig", "POSCAR.orig.gz"):
        try:
            return Poscar.from_file(folder / name, check_for_potcar=False).structure
        except (OSError, ValueError):
            continue
    return None
