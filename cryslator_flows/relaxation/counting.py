"""What a relaxation cost, read from the document its job left."""

from __future__ import annotations

from typing import Any

from pydash import get

from cryslator_flows.schemas import RelaxationCost


def count_steps(document: Any) -> RelaxationCost:
    """Count the steps that a task document of atomate2 accounts for.

    Force fields and ASE calculators have ionic steps only. atomate2 records the last frame of an ASE relaxation
    twice, so it counts once less here: the result is the number of energy evaluations.

    Parameters
    ----------
    document : object
        ``ForceFieldTaskDocument`` or ``AseStructureTaskDoc`` of atomate2, or emmet's VASP ``TaskDoc``.

    Returns
    -------
    RelaxationCost
        Steps that the document does not tell are None, never 0.

    Raises
    ------
    TypeError
        The document is of another kind.
    """
    if (cost := get(document, "cost")) is not None:
        return RelaxationCost.model_validate(cost)
    if get(document, "ase_calculator_name") is not None:
        frames = get(document, "output.n_steps")
        relaxed = (get(document, "input.steps") or 0) > 1
        return RelaxationCost(
            engine=str(get(document, "forcefield_name") or get(document, "ase_calculator_name")).removeprefix("MLFF."),
            ionic_steps=None if frames is None else frames - 1 if relaxed else frames,
            converged=_value(get(document, "state")) == "successful",
            wall_time=get(document, "output.elapsed_time"),
            dir_name=get(document, "dir_name"),
        )
    calculations = get(document, "calcs_reversed")
    if calculations is not None:
        counts = [get(calculation, "output.num_electronic_steps") for calculation in reversed(calculations)]
        known = bool(counts) and all(count is not None for count in counts)
        electronic = [step for count in counts for step in count] if known else None
        return RelaxationCost(
            engine="VASP",
            ionic_steps=None if electronic is None else len(electronic),
            electronic_steps=electronic,
            converged=_value(get(document, "state")) == "successful",
            wall_time=get(document, "run_stats.overall.elapsed_time"),
            dir_name=get(document, "dir_name"),
        )
    raise TypeError(f"no step counts known for a {type(document).__name__}; use an atomate2 relax maker")


def total_cost(documents: list[Any]) -> RelaxationCost:
    """Cost of a relaxation that ran as several jobs, a double relaxation for instance.

    Parameters
    ----------
    documents : list
        Task documents in the order they ran, at least one.

    Returns
    -------
    RelaxationCost
        Sums; a sum with an unknown part is None. Converged if the last job did.
    """
    costs = [count_steps(document) for document in documents]
    if len(costs) == 1:
        return costs[0]
    ionic = [cost.ionic_steps for cost in costs]
    electronic = [cost.electronic_steps for cost in costs]
    times = [cost.wall_time for cost in costs]
    return RelaxationCost(
        engine=costs[-1].engine,
        ionic_steps=None if None in ionic else sum(step for step in ionic if step is not None),
        electronic_steps=None if None in electronic else [step for part in electronic for step in part or ()],
        converged=costs[-1].converged,
        wall_time=None if None in times else sum(time for time in times if time is not None),
        dir_name=costs[-1].dir_name,
    )


def _value(state: Any) -> str:
    return str(getattr(state, "value", state))
