"""Columns and cells of the page's table of candidates."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from cryslator_flows.analysis.savings import compared_starts
from cryslator_flows.report.tables import describe_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from cryslator_flows.documents.relaxations import RelaxationComparison, Start
    from cryslator_flows.report.page.candidate_table import CandidateTable


class PageColumn(NamedTuple):
    """Column of the table.

    Parameters
    ----------
    title : str
        Its title.
    kind : str
        text; number; steps, [text, number to sort by]; or jobs, [[start, uuid, link]].
    decimals : int or None
        Decimals of its numbers.
    shown : bool
        False if readers switch it on.
    """

    title: str
    kind: str = "text"
    decimals: int | None = None
    shown: bool = True


COLUMNS = (
    PageColumn("formula"),
    PageColumn("template"),
    PageColumn("substitution", shown=False),
    PageColumn("space group"),
    PageColumn("predicted, eV/atom", "number", 3),
    PageColumn("± 68%", "number", 3, shown=False),
    PageColumn("above known hull, eV/atom", "number", 3),
    PageColumn("out of domain", shown=False),
    PageColumn("displacement, Å", "number", 3, shown=False),
    PageColumn("volume change, %", "number", 1, shown=False),
)
# Column of `relaxed_frame`, and its column here.
ENGINE_COLUMNS = {
    "formation_energy_per_atom": PageColumn("by engine, eV/atom", "number", 3),
    "energy_above_hull": PageColumn("above engine's hull, eV/atom", "number", 3),
    "energy_above_known_hull": PageColumn("engine above known hull, eV/atom", "number", 3),
    "volume_per_atom": PageColumn("relaxed, Å³/atom", "number", 2),
}
# Number of rows on paper.
PRINTED_ROWS = 50
PRINTED_COLUMNS = (0, 1, 2, 3, 4, 5, 6)


def table_columns(
    comparisons: list[RelaxationComparison], properties: Sequence[str] = (), relaxed: pd.DataFrame | None = None
) -> list[PageColumn]:
    """List the columns, with predicted properties, results of the engine, and steps and ends for each start."""
    columns = [*COLUMNS, *(PageColumn(name, "number", 3) for name in properties)]
    engine = _engine_columns(relaxed)
    # One hull is enough at first.
    columns += [
        ENGINE_COLUMNS[name]._replace(shown=name != "energy_above_hull" or "energy_above_known_hull" not in engine)
        for name in engine
    ]
    if comparisons:
        columns.append(PageColumn("steps, unrelaxed", "steps"))
    for start in compared_starts(comparisons):
        columns += [
            PageColumn(f"steps, {start}", "steps"),
            PageColumn(f"end, {start}", shown=False),
            PageColumn(f"end - unrelaxed end, meV/atom ({start})", "number", 1, shown=False),
        ]
    return [*columns, PageColumn("jobs", "jobs", shown=False), PageColumn("candidate", shown=False)]


def table_rows(
    candidates: CandidateTable,
    comparisons: list[RelaxationComparison],
    link: Callable[[str | None], str | None],
    relaxed: pd.DataFrame | None = None,
) -> list[list[Any]]:
    """Return the cells of each candidate, lowest energy first; None for unknown values.

    Parameters
    ----------
    candidates : CandidateTable
        The candidates.
    comparisons : list of RelaxationComparison
        Comparisons of the relaxed candidates.
    link : callable
        Function that returns the link to a directory, or None.
    relaxed : DataFrame or None
        Results of the engine, see `relaxed_frame`.
    """
    starts = compared_starts(comparisons)
    compared = {item.candidate_id: item for item in comparisons}
    engine = _engine_columns(relaxed)
    results = {} if relaxed is None else dict(zip(relaxed.index, relaxed[engine].to_numpy().tolist(), strict=True))
    empty = [None] * (len(table_columns(comparisons)) - len(COLUMNS) - 1)
    above = candidates.cuts.competition().energies_above(
        [row.formula for row in candidates.rows], [row.energy for row in candidates.rows]
    )
    rows = []
    for row, above_hull in zip(candidates.rows, above.tolist(), strict=True):
        comparison = compared.get(row.candidate_id)
        rows.append([
            row.formula,
            row.template_id,
            ", ".join(pair for pair in row.substitution.split() if len(set(pair.split("->"))) > 1),
            candidates.space_group(row),
            _number(row.energy),
            _number(row.uncertainty),
            _number(above_hull),
            row.domain_reason,
            _number(row.displacement),
            _number(100 * row.volume_change),
            *map(_number, row.properties),
            *map(_number, results.get(row.candidate_id, [float("nan")] * len(engine))),
            *(empty if comparison is None else _relaxed_cells(comparison, starts, link)),
            row.candidate_id,
        ])  # fmt: skip
    return rows


def _engine_columns(relaxed: pd.DataFrame | None) -> list[str]:
    """List the columns of the engine's results that have values."""
    return [] if relaxed is None else [name for name in ENGINE_COLUMNS if relaxed[name].notna().any()]


def _relaxed_cells(
    comparison: RelaxationComparison, starts: list[Start], link: Callable[[str | None], str | None]
) -> list[Any]:
    cells: list[Any] = [_steps(comparison, "unrelaxed")]
    for start in starts:
        ending = comparison.ending(start)
        difference = None if ending is None else ending.energy_difference
        cells += [
            _steps(comparison, start),
            None if ending is None else ending.outcome,
            None if difference is None else _number(1000 * difference),
        ]
    jobs = [
        [item.start, uuid, link(item.cost.dir_name) if item.cost and uuid == item.job_uuids[-1] else None]
        for item in comparison.relaxations
        for uuid in item.job_uuids
    ]
    return [*cells, jobs]


def _number(value: float) -> float | None:
    """Round a number for JSON; None if it is not finite."""
    return round(value, 5) if isfinite(value) else None


def _steps(comparison: RelaxationComparison, start: Start) -> list[Any] | None:
    """Return the text of the steps and the number to sort by: electronic steps, else ionic steps."""
    relaxation = comparison.relaxation(start)
    if relaxation is None:
        return None
    cost = relaxation.cost
    if cost is None or cost.synthetic:
        return [describe_steps(comparison, start), None]
    electronic = cost.total_electronic_steps
    return [describe_steps(comparison, start), cost.ionic_steps if electronic is None else electronic]
