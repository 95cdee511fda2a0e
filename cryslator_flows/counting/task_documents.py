"""Steps from the documents that jobs of atomate2 leave."""

from __future__ import annotations

from typing import Any

from pydantic import NonNegativeInt, TypeAdapter, ValidationError
from pydash import get

from cryslator_flows.counting.attempt import joined, only
from cryslator_flows.documents.relaxations import RelaxationCost
from cryslator_flows.errors import CountingError


def count_document(document: Any) -> RelaxationCost:
    """Count the steps that a task document holds, see `count_steps`."""
    # A document of a JobStore, with the output of a job.
    if get(document, "uuid") is not None and get(document, "index") is not None:
        document = get(document, "output")
    try:
        return _count(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CountingError(
            f"{_name(document)}, {error.title}.{where}: {first['msg']}; correct the document, or give count_steps the "
            "directory of the run"
        ) from error


def _name(document: Any) -> str:
    return str(get(document, "dir_name") or f"a {type(document).__name__}")


def _count(document: Any) -> RelaxationCost:
    if (cost := get(document, "cost")) is not None:
        return RelaxationCost.model_validate(cost)
    if get(document, "ase_calculator_name") is not None:
        return _count_ase(document)
    if _is_of_vasp(document):
        return _count_vasp(document)
    raise CountingError(
        f"a {type(document).__name__} without a calculation of VASP in calcs_reversed, as emmet's TaskDoc has it, and "
        "without ase_calculator_name, which atomate2's ASE and force field documents have: it holds no steps; "
        "give count_steps the directory of the run"
    )


def _is_of_vasp(document: Any) -> bool:
    """Check that the calculations are of VASP: documents of Q-Chem, CP2K or FHI-aims have calcs_reversed too."""
    names = ("vasp_version", "has_vasp_completed")
    return any(
        _electronic_steps(calculation) is not None
        or any(get(part, name) is not None for part in (document, calculation) for name in names)
        for calculation in get(document, "calcs_reversed") or []
    )


def _electronic_steps(calculation: Any) -> list[int] | None:
    """Return the electronic steps of each ionic step; older documents and atomate 1 list the steps themselves."""
    counts = get(calculation, "output.num_electronic_steps")
    if counts is not None:
        try:
            known = TypeAdapter(list[NonNegativeInt | None]).validate_python(counts)
        except ValidationError as error:
            raise CountingError(
                f"output.num_electronic_steps: {str(counts)[:80]!r} are not counts of the electronic steps in each "
                "ionic step; correct the document, or give count_steps the directory of the run"
            ) from error
        return joined(None if count is None else [count] for count in known)
    steps = [get(ionic, "electronic_steps") for ionic in get(calculation, "output.ionic_steps") or []]
    return [len(found) for found in steps] if steps and all(steps) else None


def _count_ase(document: Any) -> RelaxationCost:
    frames = get(document, "output.n_steps")
    most = get(document, "input.steps")
    return RelaxationCost(
        engine=str(get(document, "forcefield_name") or get(document, "ase_calculator_name")).removeprefix("MLFF."),
        # atomate2 records the last frame of a relaxation twice.
        ionic_steps=None if not frames or most is None else frames - 1 if most > 1 else frames,
        converged=has_converged(document),
        wall_time=get(document, "output.elapsed_time"),
        dir_name=get(document, "dir_name"),
    )


def _count_vasp(document: Any) -> RelaxationCost:
    calculations = get(document, "calcs_reversed")[::-1]
    counts = [_electronic_steps(calculation) for calculation in calculations]
    # A calculation without any step did not keep its steps.
    kept = joined(count or None for count in counts)
    versions = [get(document, "vasp_version"), *(get(calculation, "vasp_version") for calculation in calculations)]
    # Where OUTCAR reports no time, run_stats hold zeros. The second key is from atomate 1.
    seconds = (
        get(document, "run_stats.overall.elapsed_time")
        or get(document, ["run_stats", "overall", "Elapsed time (sec)"])
        or None
    )
    cost = RelaxationCost(
        engine="VASP",
        ionic_steps=len(kept) if kept else None,
        electronic_steps=kept,
        n_kpoints=only(get(calculation, "input.nkpoints") for calculation in calculations),
        converged=False if [] in counts else has_converged(document, calculations[-1]),
        guard=get(document, "additional_json.cryslator_guard.reason"),
        synthetic=any("synthetic" in str(version) for version in versions),
        wall_time=seconds,
        core_hours=_core_hours(document, seconds),
        dir_name=get(document, "dir_name"),
    )
    record = get(document, "additional_json.cryslator_cost")
    if record is None:
        return cost
    cost = _prefer_record(cost, record)
    return cost.model_copy(update={"core_hours": _core_hours(document, cost.wall_time)})


def _core_hours(document: Any, seconds: float | None) -> float | None:
    # The cores of emmet are MPI ranks, whatever their number of OpenMP threads.
    cores = get(document, "run_stats.overall.cores")
    return seconds * cores / 3600 if seconds and cores else None


def _prefer_record(cost: RelaxationCost, record: Any) -> RelaxationCost:
    """Take the counts of the recorder, which saw all attempts; the document has only the last of each relaxation."""
    if not isinstance(record, dict) or record.get("error") is not None or record.get("cost") is None:
        return cost.model_copy(update={"ionic_steps": None, "electronic_steps": None, "wall_time": None})
    recorded = RelaxationCost.model_validate(record["cost"])
    seen, kept = recorded.total_electronic_steps, cost.total_electronic_steps
    if seen is not None and kept is not None and seen < kept:
        raise CountingError(
            f"{cost.dir_name}: cryslator_cost.json reports {seen} electronic steps in all attempts, "
            f"calcs_reversed {kept} in the last alone; remove the file if it is from another run"
        )
    return recorded.model_copy(
        update={
            "converged": recorded.converged if cost.converged is None else cost.converged,
            "synthetic": cost.synthetic or recorded.synthetic,
            "guard": cost.guard or recorded.guard,
            "n_kpoints": recorded.n_kpoints if recorded.attempts != 1 else recorded.n_kpoints or cost.n_kpoints,
            "dir_name": cost.dir_name,
        }
    )


def last_relaxation(documents: list[Any]) -> int:
    """Return the place of the last document whose job moved atoms or cell; the last place if none says so.

    Single points after a relaxation, the static job of atomate2's relaxations with static for instance, move nothing.
    """
    moving = [place for place, document in enumerate(documents) if not _is_single_point(document)]
    return moving[-1] if moving else len(documents) - 1


def _is_single_point(document: Any) -> bool:
    """Return True if a document states that its job moved nothing: NSW of VASP, the number of steps of ASE."""
    if get(document, "ase_calculator_name") is not None:
        return get(document, "input.steps") in (0, 1)
    incar = get(document, "calcs_reversed.0.input.incar")
    return bool(incar and get(incar, "NSW", 0) == 0)


def has_converged(document: Any, last_calculation: Any = None) -> bool | None:
    """Return the convergence that a task document, or else its last calculation, states; None if neither does."""
    for state in (get(document, "state"), get(last_calculation, "has_vasp_completed")):
        if state is not None:
            return state if isinstance(state, bool) else str(getattr(state, "value", state)) == "successful"
    return None
