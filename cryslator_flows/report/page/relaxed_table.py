"""Columns and cells of the page's table of candidates."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from cryslator_flows.analysis.savings import compared_starts
from cryslator_flows.report.tables import describe_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryslator_flows.documents.relaxations import RelaxationComparison, Start
    from cryslator_flows.report.page.candidate_table import CandidateTable

# Kinds of columns: text, number with its decimals, steps ([text, number to sort by]), jobs ([[start, uuid, link]]).
COLUMNS: tuple[tuple[str, str, int | None], ...] = (
    ("formula", "text", None),
    ("template", "text", None),
    ("substitution", "text", None),
    ("space group", "text", None),
    ("predicted, eV/atom", "number", 3),
    ("± 68%", "number", 3),
    ("above known hull, eV/atom", "number", 3),
    ("out of domain", "text", None),
    ("displacement, Å", "number", 3),
    ("volume change, %", "number", 1),
)
# Number of rows on paper.
PRINTED_ROWS = 50
PRINTED_COLUMNS = (0, 1, 2, 3, 4, 5, 6)
# Columns that a reader switches on.
HIDDEN = ("substitution", "out of domain", "displacement, Å", "volume change, %", "end", "jobs", "candidate")


def table_columns(comparisons: list[RelaxationComparison], properties: Sequence[str] = ()) -> list[dict[str, Any]]:
    """List title, kind, decimals and visibility of each column, with properties, and steps and ends of each start."""
    columns: list[tuple[str, str, int | None]] = [*COLUMNS, *((name, "number", 3) for name in properties)]
    if comparisons:
        columns.append(("steps, unrelaxed", "steps", None))
    for start in compared_starts(comparisons):
        columns += [(f"steps, {start}", "steps", None), (f"end, {start}", "text", None),
                    (f"end - unrelaxed end, meV/atom ({start})", "number", 1)]  # fmt: skip
    columns += [("jobs", "jobs", None), ("candidate", "text", None)]
    return [
        {"title": title, "kind": kind, "decimals": decimals, "shown": not title.startswith(HIDDEN)}
        for title, kind, decimals in columns
    ]


def table_rows(
    candidates: CandidateTable, comparisons: list[RelaxationComparison], link: Callable[[str | None], str | None]
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
    """
    starts = compared_starts(comparisons)
    relaxed = {item.candidate_id: item for item in comparisons}
    empty = len(table_columns(comparisons)) - len(COLUMNS) - 1
    above = candidates.cuts.competition().energies_above(
        [row.formula for row in candidates.rows], [row.energy for row in candidates.rows]
    )
    rows = []
    for row, above_hull in zip(candidates.rows, above.tolist(), strict=True):
        cells: list[Any] = [
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
        ]
        comparison = relaxed.get(row.candidate_id)
        cells += [None] * empty if comparison is None else _relaxed_cells(comparison, starts, link)
        rows.append([*cells, row.candidate_id])
    return rows


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
