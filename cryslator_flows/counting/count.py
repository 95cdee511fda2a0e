"""Count the steps of a relaxation."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryslator_flows.counting.attempt import sum_attempts, sum_costs
from cryslator_flows.counting.task_documents import count_document, last_relaxation
from cryslator_flows.counting.text_outputs import ENGINES, count_output, find_outputs
from cryslator_flows.counting.vasp_directory import LEFT_BY_VASP, is_vasp_directory, read_attempts
from cryslator_flows.errors import CountingError

if TYPE_CHECKING:
    from cryslator_flows.documents.relaxations import RelaxationCost


def count_steps(source: Any) -> RelaxationCost:
    """Count the ionic and electronic steps that a relaxation spent, all its attempts included.

    Steps that the source does not hold are None, never 0. ``converged`` is None where the source does not say it.

    Parameters
    ----------
    source : Path, str, document or dict
        One of

        - The directory of a run of VASP. Steps come from OSZICAR, plain or packed. Custodian's ``.relaxN`` files
          and its archives ``error.N.tar.gz`` and ``prev_run.N.tar.gz`` count too, and the last ionic step of a
          killed run. Convergence comes from OUTCAR, else from vasprun.xml, vasp.out or job.log.
        - The directory of a run of GPAW, Quantum ESPRESSO (pw.x), ABINIT or CP2K with one text output, or the output
          file. The lines of electronic steps count. Their number must agree with the engine's report.
        - emmet's VASP ``TaskDoc``, object or dict. The record of `StepRecorder` in its ``additional_json`` covers all
          attempts. Without a record the steps of its calculations are summed and the attempts are unknown.
        - `GpawTaskDoc`, or any document with a `RelaxationCost` as its ``cost``.
        - ``ForceFieldTaskDocument`` or ``AseStructureTaskDoc`` of atomate2, for ionic steps only. A force field has
          no electronic steps, and these documents do not hold the electronic steps of an ASE calculator.

    Returns
    -------
    RelaxationCost
        Steps, k-points and time of the relaxation.

    Raises
    ------
    CountingError
        There is nothing to count, files are damaged, or counts contradict the engine's report.
    """
    if not isinstance(source, str | os.PathLike):
        return count_document(source)
    path = Path(source).resolve()
    if path.is_dir():
        return _count_vasp(path) if is_vasp_directory(path) else _count_output(path, _files(path))
    if path.is_file() and LEFT_BY_VASP.fullmatch(path.name):
        raise CountingError(f"{path}: a file of VASP; give count_steps its folder, {path.parent}")
    if path.is_file():
        return _count_output(path, [path])
    raise CountingError(f"{path}: no such file or directory")


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.is_file()]


def _count_vasp(directory: Path) -> RelaxationCost:
    attempts = read_attempts(directory)
    if not attempts:
        _refuse_folder_of_runs(directory)
        raise CountingError(
            f"{directory}: VASP's files, but no OSZICAR (also packed, .relaxN, in error.N or prev_run.N); VASP did not "
            "start, or the file was removed. OUTCAR and vasprun.xml are not counted: they may be the previous job's"
        )
    return sum_attempts(attempts, engine="VASP", dir_name=str(directory), guard=read_guard(directory))


def _refuse_folder_of_runs(directory: Path) -> None:
    """Raise an error that names the folders in a directory that are runs of VASP, the images of a NEB for instance."""
    runs = sorted({path.parent.name for path in directory.glob("*/OSZICAR*")})
    if runs:
        raise CountingError(f"{directory}: runs of VASP in {', '.join(runs)}; give count_steps each of these folders")


def read_guard(directory: Path) -> str | None:
    """Return the guard's reason to return to the unrelaxed structure in this directory; None if it did not."""
    for name, opener in (("cryslator_guard.json", open), ("cryslator_guard.json.gz", gzip.open)):
        path = directory / name
        if path.is_file():
            with opener(path, "rt") as file:
                return str(json.load(file)["reason"])
    return None


def _count_output(source: Path, paths: list[Path]) -> RelaxationCost:
    outputs = find_outputs(paths)
    engines = ", ".join(output.engine for output in ENGINES)
    if not outputs:
        if source.is_dir():
            _refuse_folder_of_runs(source)
        raise CountingError(
            f"{source}: no run of a known engine; looked for OSZICAR of VASP and for the text output of {engines}"
        )
    if len(outputs) > 1:
        found = ", ".join(f"{path.name} ({output.engine})" for output, path in outputs)
        raise CountingError(f"{source}: several outputs: {found}; give count_steps one of these files")
    ((output, path),) = outputs
    return count_output(output, path)


def total_cost(documents: list[Any]) -> RelaxationCost:
    """Sum the cost of a relaxation that ran as several jobs, a double relaxation for instance.

    Parameters
    ----------
    documents : list
        Task documents or other sources of `count_steps`, at least one, in the order they ran.

    Returns
    -------
    RelaxationCost
        A sum with an unknown part is None. Converged if the last relaxation and all jobs after it converged.
    """
    costs = [count_steps(document) for document in documents]
    ends = {cost.converged for cost in costs[last_relaxation(documents) :]}
    converged = None if None in ends else all(ends)
    return sum_costs(costs).model_copy(update={"converged": False if False in ends else converged})
