"""Pairs from folders of VASP relaxations."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryslator_flows.analysis.ends import NOT_CONVERGED, TEST_DOUBLE
from cryslator_flows.errors import DataError
from cryslator_flows.pairs.raw import Dropped
from cryslator_flows.pairs.sources.trajectory import (
    FIXED_ATOMS,
    NO_RELAXATION,
    has_fixed_atoms,
    held_by_isif,
    trajectory_pairs,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymatgen.core import Structure

    from cryslator_flows.pairs.raw import RawPair

# IBRION of quasi-Newton, conjugate gradients and damped dynamics.
RELAXES = (1, 2, 3)
BROKEN = "vasprun.xml cannot be read"
# Names for the parts of one job, also packed: vasprun.xml, vasprun.xml.relax1.gz, vasprun.xml.static.
FILE = re.compile(r"vasprun\.xml(?:\.(?!(?:gz|bz2|xz|lzma|Z|zst)$)([\w-]+))?(?:\.(?:gz|bz2|xz|lzma|Z|zst))?")
NUMBERED = re.compile(r"relax(\d+)")


def read_vasp_runs(path: Path | str, intermediates: int = 0) -> Iterator[RawPair | Dropped]:
    """Pair the first with the last structure of every VASP relaxation in a folder and the folders in it.

    Relaxations in one folder (``vasprun.xml.relax1``, ``vasprun.xml.relax2``, and ``vasprun.xml`` beside them) are
    parts of one relaxation. Files with other endings (``vasprun.xml.static``) are separate. A ``POSCAR.orig``, which
    custodian leaves, is the first structure.

    Parameters
    ----------
    path : Path or str
        A folder, or a file ``vasprun.xml``.
    intermediates : int
        Number of evenly spaced ionic steps that are further unrelaxed crystals of the same target.

    Yields
    ------
    RawPair or Dropped
        One for each folder, and its intermediates. ``energy_per_atom`` is the energy of the last ionic step,
        extrapolated to zero smearing, in eV/atom.

    Raises
    ------
    DataError
        The folder does not exist, or holds no ``vasprun.xml``.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: does not exist; give a folder of VASP relaxations")
    if path.is_file() and not path.name.startswith("vasprun"):
        raise DataError(f"{path}: is a file, but not a vasprun.xml; give a folder of VASP relaxations")
    found = [path] if path.is_file() else sorted(file for file in path.rglob("vasprun.xml*") if file.is_file())
    runs: dict[Path, dict[str, Path]] = {}
    for file in found:
        if (match := FILE.fullmatch(file.name)) is not None or path.is_file():
            # Of a file and its archive the archive is taken; its name sorts last.
            runs.setdefault(file.parent, {})[match[1] or "" if match else ""] = file
    if not runs:
        raise DataError(f"{path}: no vasprun.xml in it; give a folder of VASP relaxations")
    for folder, files in runs.items():
        name = str(folder.relative_to(path)) if path.is_dir() and folder != path else folder.absolute().name
        yield from _read_folder(name, folder, files, intermediates)


def _read_folder(name: str, folder: Path, files: dict[str, Path], intermediates: int) -> Iterator[RawPair | Dropped]:
    numbered = sorted((int(match[1]), label) for label in files if (match := NUMBERED.fullmatch(label)))
    series = [files[label] for _, label in numbered]
    others = {label: file for label, file in files.items() if file not in series}
    if (latest := others.pop("", None)) is not None:
        if series and (reason := _cannot_follow(latest)) is not None:
            yield replace(reason, name=f"{name}/{latest.name}")
        else:
            series.append(latest)
    if series:
        yield from _read_run(name, series, intermediates, _original(folder))
    for file in others.values():
        yield from _read_run(f"{name}/{file.name}", [file], intermediates)


def _cannot_follow(file: Path) -> Dropped | None:
    """Return the reason why this file does not continue the relaxations beside it; None if it does."""
    try:
        reason = _unusable(_read_file(file))
    except Exception as error:
        return _broken(file.name, error)
    return None if reason is None else Dropped(file.name, reason)


def _broken(name: str, error: Exception) -> Dropped:
    return Dropped(name, BROKEN, f"{type(error).__name__}: {error}")


def _read_run(
    name: str, files: list[Path], intermediates: int, original: Structure | None = None
) -> Iterator[RawPair | Dropped]:
    try:
        runs = [_read_file(file) for file in files]
        # After its copy to vasprun.xml.relax1, custodian leaves vasprun.xml until VASP begins the next one.
        if len(runs) > 1 and _structures(runs[-1]) == _structures(runs[-2]):
            runs.pop()
        relaxed, energy = runs[-1].final_structure, float(runs[-1].final_energy)
    except Exception as error:
        yield _broken(name, error)
        return
    reasons = [reason for reason in map(_unusable, runs) if reason is not None]
    if reasons or not runs[-1].converged:
        yield Dropped(name, [*reasons, NOT_CONVERGED][0])
        return
    unrelaxed = original or runs[0].initial_structure
    steps = [step["structure"] for run in runs for step in run.ionic_steps]
    columns = {"energy_per_atom": energy / len(relaxed)}
    yield from trajectory_pairs(name, unrelaxed, relaxed, steps, intermediates, columns)


def _read_file(file: Path) -> Any:
    from pymatgen.io.vasp import Vasprun

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Vasprun(file, parse_dos=False, parse_eigen=False, parse_potcar_file=False)


def _structures(run: Any) -> tuple[Structure, Structure]:
    return run.initial_structure, run.final_structure


def _unusable(run: Any) -> str | None:
    tags = {**run.parameters, **run.incar}
    if "synthetic" in str(run.vasp_version).lower():
        return TEST_DOUBLE
    if tags.get("IBRION") not in RELAXES or not tags.get("NSW"):
        return NO_RELAXATION
    return FIXED_ATOMS if has_fixed_atoms(run.initial_structure) else held_by_isif(tags.get("ISIF"))


def _original(folder: Path) -> Structure | None:
    """Read the structure before custodian changed it, if it can be read."""
    from pymatgen.io.vasp import Poscar

    for name in ("POSCAR.orig", "POSCAR.orig.gz"):
        try:
            return Poscar.from_file(folder / name, check_for_potcar=False).structure
        except (OSError, ValueError):
            continue
    return None
