"""Pairs from relaxed crystals alone: one crystal with the elements of another, and the other crystal."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from itertools import chain, permutations, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout
from pymatgen.core import Element

from cryslator_flows.crystals.source_files import structure_files
from cryslator_flows.errors import StoreError
from cryslator_flows.pairs.align import geometries, too_different
from cryslator_flows.pairs.deformation import SitesOfCell, lattices_near, least_deformation, strains_between
from cryslator_flows.pairs.kinds import SplitRule
from cryslator_flows.pairs.raw import Dropped
from cryslator_flows.pairs.sources.chunks import in_batches, in_chunks, read_row, read_rows
from cryslator_flows.pairs.sources.nearest import Entry, NearestTemplates, reduced_axes
from cryslator_flows.pairs.sources.relaxed_crystals import describe_crystals, describes_a_store, read_relaxed
from cryslator_flows.system.whole_files import write_whole
from cryslator_flows.training.records import PairRecord
from cryslator_flows.training.splits import share_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Set

    from numpy.typing import NDArray

    from cryslator_flows.pairs.deformation import Alignment
    from cryslator_flows.pairs.sources.relaxed_crystals import RelaxedCrystal, Unread

NO_TEMPLATE = "no isostructural crystal of another formula"
SAME_NAME = "an earlier crystal has the same identifier"
CRYSTALS, PAIRS, JOB = "crystals", "pairs", "job.json"
# Numbers of crystals and of targets in a chunk; a stop loses at most the current chunks.
CRYSTALS_AT_ONCE, TARGETS_AT_ONCE = 200, 50
# Templates that are tried for each pair: a third of them do not match.
TRIES = 4
# The tolerances of pymatgen's StructureMatcher, at equal volumes: relative difference of axes, difference of angles in
# degrees, root mean square displacement in units of the cube root of the volume per atom.
LONGER, WIDER, FARTHER = 0.2, 5.0, 0.3


@dataclass(frozen=True)
class PairingTask:
    """Targets and the templates to try for each, by their places in the chunks of crystals.

    Parameters
    ----------
    folder : Path
        Folder of the chunks.
    targets : list
        For each target its chunk and byte, and the chunks and bytes of its templates, the nearest first.
    max_per_target : int
        Number of pairs for each target.
    """

    folder: Path
    targets: list[tuple[tuple[int, int], list[tuple[int, int]]]]
    max_per_target: int


def read_isostructural(
    path: Path | str,
    scratch: Path | str,
    max_per_target: int = 4,
    seed: int = 0,
    split: SplitRule = SplitRule.NONE,
    report: Callable[[str], None] = lambda _: None,
) -> Iterator[PairRecord | Dropped]:
    """Pair each relaxed crystal of a source with isostructural crystals that get its elements.

    Isostructural crystals have the same anonymous formula, number of atoms, space group and sizes of orbits. One can be
    deformed into the other within the tolerances of pymatgen's StructureMatcher, see `LONGER`, `WIDER` and `FARTHER`. A
    substitution puts elements on orbits of the sizes that they have in the target. Of several substitutions the one of
    least deformation is taken, then the one of least change of electronegativity. The unrelaxed crystal is the cell of
    the template with swapped elements, not rescaled.

    The search for pairs and substitutions uses the relaxed crystal: templates that no longer resemble it are left out.
    State this selection beside any number from such pairs.

    Crystals are described, and targets paired, in chunks on several processes. `scratch` keeps finished chunks: a
    stopped or killed command continues from there, with the same result. Time grows with the number of crystals, not
    with its square: for each target only the nearest templates are tried, `TRIES` for each pair.

    Parameters
    ----------
    path : Path or str
        See `read_relaxed`.
    scratch : Path or str
        Folder for finished chunks; chunks of another source or of other options are removed.
    max_per_target : int
        Maximum number of templates for each crystal: the templates of nearest elements, see `NearestTemplates`.
    seed : int
        Decides between equally near templates; seed of the split.
    split : SplitRule
        Rule of the split: training crystals get no template that would leak.
    report : callable
        Called with the stage and its progress.

    Yields
    ------
    PairRecord or Dropped
        Crystals that cannot be used, with the reason: the second one of an identifier, for instance. Then the pairs of
        each crystal, the nearest template first, or the reason for no pair.

    Raises
    ------
    CryslatorError
        The source is empty, or another process works in the folder.
    """
    path, scratch = Path(path), Path(scratch)
    lock = FileLock(scratch.with_name(f".{scratch.name}.lock"))
    scratch.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StoreError(
            f"{scratch.parent}: another process makes pairs there; wait for it, or give another folder with --output"
        ) from error
    try:
        files = _files(path, scratch)
        job = {"source": str(path.absolute()), "state": _state(files), "max_per_target": max_per_target, "seed": seed,
               "split": split.value}  # fmt: skip
        _continue_or_restart(scratch, job, path)
        kinds: dict[str, list[Entry]] = {}
        names: set[str] = set()
        for chunk, number in _crystal_chunks(read_relaxed(path, files), scratch):
            for place, row in read_rows(chunk):
                if "reason" in row:
                    yield Dropped(row["name"], row["reason"])
                elif row["name"] in names:
                    yield Dropped(f"{row['source']}: {row['name']}", SAME_NAME)
                else:
                    names.add(row["name"])
                    kinds.setdefault(json.dumps(row["kind"]), []).append(_entry(row, number, place))
            report(f"{CRYSTALS_AT_ONCE * (number + 1)} crystals read")
        total, paired = sum(map(len, kinds.values())), 0
        held_out = _held_out(kinds, split, seed)
        tasks = _pairing_tasks(kinds, scratch, max_per_target, seed, held_out)
        for chunk, task in in_chunks(tasks, pair_targets, scratch, PAIRS):
            for _, row in read_rows(chunk):
                yield PairRecord.model_validate(row) if "species" in row else Dropped(row["name"], row["reason"])
            paired += len(task.targets)
            report(f"{paired} of {total} crystals paired")
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _files(path: Path, scratch: Path) -> list[Path]:
    """Return the files of a source, without the files of an output folder in it."""
    output, source = scratch.parent.resolve(), path.resolve()
    written = output if source in output.parents else scratch.resolve()
    return [file for file in structure_files(path) if not file.resolve().is_relative_to(written)]


def _state(files: list[Path]) -> str:
    """Return a digest that changes when some files change."""
    found = [(file, file.stat() if file.exists() else file.lstat()) for file in files]
    states = [(str(file), state.st_size, state.st_mtime_ns) for file, state in found]
    return hashlib.sha256(json.dumps(states).encode()).hexdigest()


def _continue_or_restart(scratch: Path, job: dict[str, Any], path: Path) -> None:
    """Remove chunks of another job, or of documents that may be in another order."""
    try:
        same = json.loads((scratch / JOB).read_text()) == job
    except (OSError, ValueError):
        same = False
    if not same or (describes_a_store(path) and not _all_read(scratch).exists()):
        shutil.rmtree(scratch, ignore_errors=True)
        write_whole(scratch / JOB, json.dumps(job))


def _all_read(scratch: Path) -> Path:
    """Return the file with the number of chunks of crystals, which exists once all are read."""
    return scratch / "all-read.json"


def _crystal_chunks(items: Iterable[Unread | RelaxedCrystal | Dropped], scratch: Path) -> Iterator[tuple[Path, int]]:
    """Describe the crystals of a source, and yield their chunks with their numbers."""
    if _all_read(scratch).exists():
        for number in range(json.loads(_all_read(scratch).read_text())):
            yield _chunk(scratch, number), number
        return
    number = 0
    tasks = in_batches(items, CRYSTALS_AT_ONCE)
    for number, (chunk, _) in enumerate(in_chunks(tasks, describe_crystals, scratch, CRYSTALS), 1):
        yield chunk, number - 1
    write_whole(_all_read(scratch), json.dumps(number))


def _chunk(scratch: Path, number: int) -> Path:
    return scratch / f"{CRYSTALS}-{number:08d}.jsonl"


def _entry(row: dict[str, Any], file: int, place: int) -> Entry:
    elements = tuple(share * number for share, number in row["elements"])
    axes = reduced_axes(np.array(row["reduced"]))
    return Entry(row["name"], row["formula"], elements, axes, file, place, row["columns"].get("split"))


def _held_out(kinds: dict[str, list[Entry]], split: SplitRule, seed: int) -> Set[str]:
    """Return the formulas of validation and test, as far as they are known before the pairs."""
    entries = [entry for group in kinds.values() for entry in group]
    if split is SplitRule.GIVEN:
        return {entry.formula for entry in entries if entry.part in ("val", "test")}
    if split is SplitRule.FORMULA:
        parts = share_out((entry.formula for entry in entries), seed)
        return {formula for formula, part in parts.items() if part != "train"}
    return frozenset()


def _pairing_tasks(
    kinds: dict[str, list[Entry]],
    scratch: Path,
    max_per_target: int,
    seed: int,
    held_out: Set[str],
) -> Iterator[PairingTask]:
    """Gather targets with the templates to try, kind by kind."""

    def targets() -> Iterator[tuple[tuple[int, int], list[tuple[int, int]]]]:
        for group in kinds.values():
            templates = NearestTemplates(group, seed, held_out)
            for target in group:
                near = templates.near(target, TRIES * max_per_target)
                yield (target.file, target.place), [(template.file, template.place) for template in near]

    for some in in_batches(targets(), TARGETS_AT_ONCE):
        yield PairingTask(scratch, some, max_per_target)


def pair_targets(task: PairingTask) -> Iterator[dict[str, Any]]:
    """Pair some targets.

    Parameters
    ----------
    task : PairingTask
        The targets and the templates to try.

    Yields
    ------
    dict
        Pairs with the fields of `PairRecord`; name and reason of dropped pairs and of targets without a pair.
    """
    crystal_at = lru_cache(maxsize=500)(partial(_read_crystal, task.folder))
    for place, templates in task.targets:
        target = crystal_at(*place)
        found, matched = 0, False
        for other in templates:
            pair = _pair(crystal_at(*other), target)
            if pair is None:
                continue
            matched = True
            yield pair
            found += "species" in pair
            if found == task.max_per_target:
                break
        if not matched:
            yield {"name": target.name, "reason": NO_TEMPLATE}


@dataclass(frozen=True)
class _Crystal:
    """A crystal of a chunk: its row, and the sites of its reduced cell."""

    row: dict[str, Any]
    sites: SitesOfCell

    @property
    def name(self) -> str:
        return str(self.row["name"])


def _read_crystal(folder: Path, file: int, place: int) -> _Crystal:
    row = read_row(_chunk(folder, file), place)
    matrix = np.array(row["reduced"])
    frac = row["frac"] @ np.array(row["lattice"]) @ np.linalg.inv(matrix)
    return _Crystal(row, SitesOfCell(matrix, frac, _numbers(row["species"])))


def _pair(template: _Crystal, target: _Crystal) -> dict[str, Any] | None:
    """Pair a target with a template; None if the two are not isostructural."""
    ways = find_substitutions(template.row["orbits"], target.row["orbits"])
    labels = np.array([_numbers([way[symbol] for symbol in template.row["species"]]) for way in ways])
    best = deform(template.sites, target.sites, labels)
    if best is None:
        return None
    if (reason := too_different(best)) is not None:
        return {"name": f"{template.name} -> {target.name}", "reason": reason}
    substitution = ways[best.labels]
    matrix, frac = np.array(template.row["lattice"]), np.array(template.row["frac"])
    shift = best.shift @ template.sites.matrix @ np.linalg.inv(matrix)
    return {
        **target.row["columns"],
        "template": template.name,
        "template_formula": template.row["formula"],
        "substitution": substitution,
        "target": target.name,
        "species": [substitution[symbol] for symbol in template.row["species"]],
        **geometries(matrix, frac, best.strain, shift),
    }


def _numbers(species: list[str]) -> NDArray[np.integer]:
    return np.array([_number(symbol) for symbol in species])


@cache
def _number(symbol: str) -> int:
    return int(Element(symbol).Z)


def deform(template: SitesOfCell, target: SitesOfCell, labels: NDArray[np.integer]) -> Alignment | None:
    """Deform a template into a target, within the tolerances of StructureMatcher.

    Parameters
    ----------
    template, target : SitesOfCell
        The crystals in their reduced cells.
    labels : array
        Atomic numbers that the sites of the template may have, see `least_deformation`.

    Returns
    -------
    Alignment or None
        The least deformation; None if the two are not isostructural.
    """
    # StructureMatcher searches for axes of the first crystal that resemble the reduced axes of the second.
    axes, _ = lattices_near(target.matrix, template.matrix, LONGER, WIDER)
    lattices = template.matrix @ np.linalg.solve(axes, target.matrix)
    strains = strains_between(template.matrix, lattices)
    return least_deformation(template, target, lattices, strains, labels, most=FARTHER)


def find_substitutions(template: dict[str, list[int]], target: dict[str, list[int]]) -> list[dict[str, str]]:
    """Return the substitutions that put the elements of a target on orbits of a template of the same sizes.

    Parameters
    ----------
    template, target : dict
        Sizes of the orbits of each element, see `find_orbits`.

    Returns
    -------
    list of dict
        Old to new elements, the least change of electronegativity first.
    """
    places: dict[tuple[int, ...], tuple[list[str], list[str]]] = {}
    for side, orbits in enumerate((template, target)):
        for symbol, sizes in orbits.items():
            places.setdefault(tuple(sizes), ([], []))[side].append(symbol)
    olds = [symbol for old, _ in places.values() for symbol in old]
    orders = product(*(permutations(new) for _, new in places.values()))
    found = [dict(zip(olds, chain.from_iterable(order), strict=True)) for order in orders]

    def change(mapping: dict[str, str]) -> float:
        return sum(sum(template[old]) * (_negativity(old) - _negativity(new)) ** 2 for old, new in mapping.items())

    return sorted(found, key=change) if len(found) > 1 else found


@cache
def _negativity(symbol: str) -> float:
    """Return Pauling's electronegativity; 0 if it is unknown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(np.nan_to_num(Element(symbol).X))
