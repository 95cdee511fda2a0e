"""Jobs that relax many structures with an interatomic potential, in one process that loads it once."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from jobflow import Maker, Response, job
from monty.itertools import chunks
from monty.json import MontyEncoder, jsanitize
from pydantic import ValidationError

from cryslator_flows.crystals.ground_states import ground_state
from cryslator_flows.crystals.packing import TranslatedCandidates
from cryslator_flows.crystals.symmetry import symmetrize_like
from cryslator_flows.documents.potential import PotentialBatch, PotentialRelaxation
from cryslator_flows.engines.by_name import chgnet_maker
from cryslator_flows.engines.made_jobs import undecorated
from cryslator_flows.engines.torchsim import TorchSimRelaxMaker, batched_maker
from cryslator_flows.errors import CryslatorError, StructureError, one_line
from cryslator_flows.jobs.compare import read_relaxation
from cryslator_flows.jobs.placing import place
from cryslator_flows.screening.fitted_references import reference_compounds
from cryslator_flows.screening.known_phases import symbols_of
from cryslator_flows.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from jobflow import Job
    from pymatgen.core import Structure

# Folder beside the jobs with the structures that are done, so that a killed job loses one at most.
DONE_NAME = "cryslator_potential"
# A structure that has ended its process so often is left out.
MOST_STARTS = 2
STARTED = "started"
# The cell of a relaxed structure has at least this share of the volume at the start, and at most its inverse.
LEAST_VOLUME = 0.4
# Element whose crystal tells a fault of the potential or the machine from one of the structures.
PROBE = "Si"


@dataclass
class RelaxBatchMaker(Maker):
    """Relax the translated structures of some candidates with an interatomic potential.

    A relaxation that fails leaves the others as they are. If all fail, and silicon too, the job fails: the next run
    repeats it. A job that is killed and runs again in the same place goes on after the structures that it had done.

    Parameters
    ----------
    name : str
        The job name.
    relax_maker : Maker
        Any atomate2 maker of one job, with ``make(structure, prev_dir=None)``.

    Examples
    --------
    >>> RelaxBatchMaker().name
    'potential'
    """

    name: str = "potential"
    relax_maker: Maker = field(default_factory=chgnet_maker)

    @job(data=["relaxed"], output_schema=PotentialBatch)
    def make(self, selected: TranslatedCandidates) -> PotentialBatch:
        """Relax candidates from their translated structures.

        Parameters
        ----------
        selected : TranslatedCandidates
            The candidates.
        """
        structures = ((candidate.candidate_id, translation.structure) for candidate, translation in selected.rows())
        return _relax_batch(self.relax_maker, list(structures))


@dataclass
class RelaxReferencesMaker(Maker):
    """Relax known compounds with the potential, which determine its energies of the elements.

    Parameters
    ----------
    name : str
        The job name.
    relax_maker : Maker
        As in `RelaxBatchMaker`.

    Examples
    --------
    >>> RelaxReferencesMaker().make(["Na", "Cl"]).name
    'potential, known compounds'
    """

    name: str = "potential, known compounds"
    relax_maker: Maker = field(default_factory=chgnet_maker)

    @job(data=["relaxed"], output_schema=PotentialBatch)
    def make(self, elements: list[str]) -> PotentialBatch:
        """Relax the known compounds for some elements, see `reference_compounds`.

        Parameters
        ----------
        elements : list of str
            Symbols of the elements of the candidates.
        """
        return _relax_batch(self.relax_maker, list(reference_compounds(elements).items()))


def elements_of(candidates: TranslatedCandidates) -> list[str]:
    """Return the symbols of all elements of candidates, in alphabetical order."""
    formulas = set(candidates.arrays()["formula"].tolist())
    return sorted({symbol for formula in formulas for symbol in symbols_of(formula)})


def relax_compounds(maker: Maker, elements: list[str], name: str) -> Job:
    """Make the job that relaxes known compounds of some elements.

    Parameters
    ----------
    maker : Maker
        Relaxes, as in `RelaxBatchMaker`.
    elements : list of str
        Symbols of the elements.
    name : str
        Beginning of the job's name.
    """
    work = RelaxReferencesMaker(name=f"{name}, known compounds", relax_maker=maker).make(elements)
    place(work, "potential")
    return work


def relax_in_batches(
    maker: Maker, candidates: TranslatedCandidates, batch: int, name: str, done: Collection[str] = ()
) -> list[Job]:
    """Make the jobs that relax candidates.

    Parameters
    ----------
    maker : Maker
        Relaxes, as in `RelaxBatchMaker`.
    candidates : TranslatedCandidates
        The candidates.
    batch : int
        Number of candidates in a job.
    name : str
        Name of the jobs, before their number.
    done : collection of str
        Candidates that no job relaxes.
    """
    identifiers = candidates.arrays()["candidate_id"].tolist()
    rows = [row for row, identifier in enumerate(identifiers) if identifier not in done]
    batches = []
    for number, part in enumerate(chunks(rows, batch), 1):
        batches.append(RelaxBatchMaker(name=name, relax_maker=maker).make(candidates.take(part)))
        batches[-1].append_name(f" {number}")
        place(batches[-1], "potential")
    return batches


def relax_all(maker: Maker, structures: Iterable[tuple[str, Structure]]) -> Iterator[PotentialRelaxation]:
    """Relax structures in this process: one after the other, or at once where torch-sim can.

    Parameters
    ----------
    maker : Maker
        Relaxes; it keeps the potential that it has loaded.
    structures : iterable of (str, Structure)
        Name and structure of each.

    Yields
    ------
    PotentialRelaxation
        One for each structure, in order.
    """
    items = list(_with_files(maker, structures))
    fresh = [item for item in items if not item[2].is_file()]
    if fresh and (together := batched_maker(maker)) is not None:
        _relax_together(together, fresh)
    for item in items:
        yield _relax_once(maker, *item)


def _with_files(maker: Maker, structures: Iterable[tuple[str, Structure]]) -> Iterator[tuple[str, Structure, Path]]:
    """Yield structures with the files that keep their relaxations."""
    folder = (SETTINGS.ledger or Path.cwd()).parent / DONE_NAME
    settings = json.dumps(jsanitize(maker, strict=True), sort_keys=True)
    for name, structure in structures:
        key = settings + structure.to_json()
        yield name, structure, folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.jsonl"


def _relax_batch(maker: Maker, structures: list[tuple[str, Structure]]) -> PotentialBatch:
    """Relax structures; raise if all fail alike and the structures are not to blame."""
    relaxed = list(relax_all(maker, structures))
    causes = {_cause(item) for item in relaxed}
    if len(causes) == 1 and None not in causes:
        probe = _relax(maker, PROBE, ground_state(PROBE))
        if causes == {_cause(probe)}:
            # A failure that is kept would be final.
            for *_, file in _with_files(maker, structures):
                file.unlink(missing_ok=True)
            raise CryslatorError(
                f"the potential relaxes nothing here, not even {PROBE}: {probe.error}; correct this, and the next run "
                "repeats the batch"
            )
    return PotentialBatch(relaxed=relaxed)


def _cause(relaxation: PotentialRelaxation) -> str | None:
    """Return the error without its details, which differ by structure; None without an error."""
    return None if relaxation.error is None else relaxation.error.partition(":")[0]


def _relax_together(maker: TorchSimRelaxMaker, items: list[tuple[str, Structure, Path]]) -> None:
    """Relax structures at once and leave the results in their files.

    Where that fails or is killed, the files say that it has started, and each structure is relaxed by itself.
    """
    for *_, file in items:
        _append(file, STARTED)
    # One of the structures may be unlike the training data.
    with suppress(Exception):
        done = maker.relax_many([structure for _, structure, _ in items])
        for (name, structure, file), document in zip(items, done, strict=True):
            _append(file, json.dumps(_judged(name, structure, document), cls=MontyEncoder))


def _append(file: Path, line: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as log:
        print(f"\n{line}", file=log, flush=True)


def _relax_once(maker: Maker, name: str, structure: Structure, file: Path) -> PotentialRelaxation:
    """Relax a structure, or read what an earlier run of the job left in its file."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    with suppress(ValidationError):  # from a cut line
        if lines and lines[-1].startswith("{"):
            return PotentialRelaxation.model_validate_json(lines[-1])
    if (starts := lines.count(STARTED)) >= MOST_STARTS:
        return _failed(name, structure, f"its process ended {starts} times")
    _append(file, STARTED)
    done = _relax(maker, name, structure)
    _append(file, json.dumps(done, cls=MontyEncoder))
    return done


def _relax(maker: Maker, name: str, structure: Structure) -> PotentialRelaxation:
    began = perf_counter()
    try:
        document = undecorated(type(maker).make)(maker, structure, prev_dir=None)
    # A potential may raise anything for a structure unlike its training data.
    except Exception as error:
        return _failed(name, structure, f"{type(error).__name__}: {one_line(error)}")
    output = document.output if isinstance(document, Response) else document
    return _judged(name, structure, output, perf_counter() - began)


def _judged(name: str, structure: Structure, output: Any, seconds: float | None = None) -> PotentialRelaxation:
    """Read the document of a relaxation; refuse what is no result. Without `seconds` the document has them."""
    relaxation = read_relaxation("translated_mlip", [output], [])
    if relaxation.structure is None or relaxation.energy_per_atom is None:
        return _failed(name, structure, relaxation.error)
    if not isfinite(relaxation.energy_per_atom):
        return _failed(name, structure, "the energy is no number")
    ratio = relaxation.structure.volume / structure.volume
    if not LEAST_VOLUME < ratio < 1 / LEAST_VOLUME:
        return _failed(name, structure, "the cell shrank or grew without end")
    try:
        symmetrized = symmetrize_like(relaxation.structure, structure)
    except StructureError as error:
        return _failed(name, structure, str(error))
    cost = relaxation.cost
    return PotentialRelaxation(
        name=name,
        formula=structure.reduced_formula,
        structure=symmetrized,
        energy_per_atom=relaxation.energy_per_atom,
        engine=None if cost is None else cost.engine,
        ionic_steps=None if cost is None else cost.ionic_steps,
        converged=None if cost is None else cost.converged,
        seconds=seconds if cost is None or seconds is not None else cost.wall_time,
    )


def _failed(name: str, structure: Structure, reason: str | None) -> PotentialRelaxation:
    return PotentialRelaxation(name=name, formula=structure.reduced_formula, error=reason)
