"""Steps from the documents that jobs of atomate2 leave."""

from __future__ import annotations

from typing import Any

from pydash import get

from cryslator_flows.errors import CountingError
from cryslator_flows.relaxation.counting.attempt import only, total
from cryslator_flows.schemas import RelaxationCost


def count_document(document: Any) -> RelaxationCost:
    """Count the steps that a task document accounts for, see `count_steps`."""
    if (cost := get(document, "cost")) is not None:
        return RelaxationCost.model_validate(cost)
    if get(document, "ase_calculator_name") is not None:
        return _count_ase(document)
    if get(document, "calcs_reversed"):
        return _count_vasp(document)
    raise CountingError(
        f"a {type(document).__name__} without calcs_reversed, which emmet's VASP TaskDoc has, and without "
        "ase_calculator_name, which atomate2's ASE and force field documents have: it tells no steps; "
        "give count_steps the directory of the run"
    )


def _count_ase(document: Any) -> RelaxationCost:
    frames = get(document, "output.n_steps")
    relaxed = (get(document, "input.steps") or 0) > 1
    return RelaxationCost(
        engine=str(get(document, "forcefield_name") or get(document, "ase_calculator_name")).removeprefix("MLFF."),
        # atomate2 records the last frame of a relaxation twice.
        ionic_steps=None if not frames else frames - 1 if relaxed else frames,
        converged=_is_successful(document),
        wall_time=get(document, "output.elapsed_time"),
        dir_name=get(document, "dir_name"),
    )


def _count_vasp(document: Any) -> RelaxationCost:
    calculations = get(document, "calcs_reversed")[::-1]
    counts = [get(calculation, "output.num_electronic_steps") for calculation in calculations]
    kept = [step for count in counts for step in count] if all(counts) else None
    versions = [get(document, "vasp_version"), *(get(calculation, "vasp_version") for calculation in calculations)]
    cost = RelaxationCost(
        engine="VASP",
        ionic_steps=len(kept) if kept else None,
        electronic_steps=kept,
        n_kpoints=only(get(calculation, "input.nkpoints") for calculation in calculations),
        converged=_is_successful(document) and [] not in counts,
        guard=get(document, "additional_json.cryslator_guard.reason"),
        synthetic=any("synthetic" in str(version) for version in versions),
        wall_time=get(document, "run_stats.overall.elapsed_time"),
        dir_name=get(document, "dir_name"),
    )
    record = get(document, "additional_json.cryslator_cost")
    return cost if record is None else _prefer_record(cost, record)


def _prefer_record(cost: RelaxationCost, record: dict[str, Any]) -> RelaxationCost:
    """Take the counts of the recorder, which saw all attempts; the document knows the last one of each relaxation."""
    if record.get("error") is not None or record.get("cost") is None:
        return cost.model_copy(update={"ionic_steps": None, "electronic_steps": None, "wall_time": None})
    recorded = RelaxationCost.model_validate(record["cost"])
    spent = total((recorded.total_electronic_steps, cost.total_electronic_steps))
    if spent is not None and (recorded.total_electronic_steps or 0) < (cost.total_electronic_steps or 0):
        raise CountingError(
            f"{cost.dir_name}: cryslator_cost.json tells {recorded.total_electronic_steps} electronic steps in all "
            f"attempts, calcs_reversed {cost.total_electronic_steps} in the last alone; is the file from another run?"
        )
    return recorded.model_copy(
        update={
            "converged": cost.converged,
            "synthetic": cost.synthetic or recorded.synthetic,
            "guard": cost.guard or recorded.guard,
            "n_kpoints": recorded.n_kpoints if recorded.attempts != 1 else recorded.n_kpoints or cost.n_kpoints,
            "dir_name": cost.dir_name,
        }
    )


def _is_successful(document: Any) -> bool:
    state = get(document, "state")
    return str(getattr(state, "value", state)) == "successful"
