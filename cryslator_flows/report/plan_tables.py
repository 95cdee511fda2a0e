"""The plan of a campaign, for the terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table

from cryslator_flows.campaign.survey import count
from cryslator_flows.documents.stages import STAGES
from cryslator_flows.jobs.enumerate import describe_losses
from cryslator_flows.system.console import new_table, several

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryslator_flows.campaign.plan import Plan
    from cryslator_flows.documents.stages import Stage

SHOWN_TEMPLATES = 20
HOURS_NOTE = "Planned: by campaigns beside this one, at its start. Spent: by jobs that are done."


def plan_lines(plan: Plan) -> list[str]:
    """Describe a plan in three lines."""
    counts, more = plan.survey.counts, "" if plan.survey.is_complete else " and more"
    jobs = f"translate {several(plan.jobs['translate'], 'job')}"
    if "potential" in plan.jobs:
        jobs += f"; potential: at most {plan.selected} candidates in {several(plan.jobs['potential'], 'job')}"
    starts = ", ".join(f"{number} {start}" for start, number in plan.relaxations.items() if number)
    relaxations = f"at most {several(plan.relaxed, 'candidate')} ({starts})" if starts else "none"
    substitutions = f"{counts.enumerated}{more} substitutions in {counts.templates} templates"
    lost = f"{describe_losses(counts)}, {counts.equivalent_or_higher()}"
    return [
        f"Candidates: {counts.unique}{more}, of {substitutions} ({lost})",
        f"Before the relaxations: {jobs}",
        f"Relaxations: {relaxations}; cryslator plan FILE shows jobs and core-hours",
    ]


def plan_tables(plan: Plan) -> Group:
    """Make the tables of a plan: candidates by template, and jobs by stage."""
    return Group(_candidates(plan), _jobs(plan))


def hours_rows(hours: dict[Stage, tuple[float | None, float | None]]) -> list[list[str]]:
    """Return the cells of planned and spent core-hours below their headings; planned ones only where some are known."""
    if not hours:
        return []
    if all(planned is None for planned, _ in hours.values()):
        return [["stage", "spent"], *([stage, _hours(spent)] for stage, (_, spent) in hours.items())]
    rows = [
        [stage, _hours(planned), _hours(spent), "-" if planned is None or spent is None else f"{spent / planned:.0%}"]
        for stage, (planned, spent) in hours.items()
    ]
    return [["stage", "planned", "spent", "share"], *rows]


def _hours(known: float | None) -> str:
    return "-" if known is None else f"{known:.2g}"


def hours_table(hours: dict[Stage, tuple[float | None, float | None]]) -> Table:
    """Make a table of planned and spent core-hours by stage, see `StartedCampaign.core_hours`."""
    (first, *others), *rows = hours_rows(hours)
    table = new_table("Core-hours", first, *(f">{name}" for name in others))
    for cells in rows:
        table.add_row(*cells)
    if len(others) > 1:
        table.caption = HOURS_NOTE
    return table


def _candidates(plan: Plan) -> Table:
    rows = sorted(plan.survey.by_template.items(), key=lambda row: (-row[1]["unique"], row[0]))
    table = Table(title="Candidates by template", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("template", overflow="fold")
    columns = {
        "enumerated": "substitutions", "not_charge_balanced": "not balanced", "filtered": "filtered",
        "duplicates": "equivalent", "higher_ewald": "higher Ewald", "unique": "candidates",
    }  # fmt: skip
    for name in ("filtered", "higher_ewald"):
        if not getattr(plan.survey.counts, name):
            del columns[name]
    for name in columns.values():
        table.add_column(name, justify="right")
    for name, counts in rows[:SHOWN_TEMPLATES]:
        _add_counts(table, name, counts, columns)
    if others := rows[SHOWN_TEMPLATES:]:
        _add_counts(table, f"{len(others)} others", sum((counts for _, counts in others), Counter()), columns)
    table.add_section()
    _add_counts(table, f"all {plan.survey.counts.templates}", count(plan.survey.counts), columns)
    return table


def _add_counts(table: Table, name: str, counts: Counter[str], columns: Iterable[str]) -> None:
    table.add_row(name, *(str(counts[key]) for key in columns))


def _jobs(plan: Plan) -> Table:
    table = Table(title="Jobs by stage, at most", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage")
    table.add_column("jobs", justify="right")
    table.add_column("work", overflow="fold")
    relaxations = ", ".join(f"{number} from {start}" for start, number in plan.relaxations.items() if number)
    elements = f"; {several(plan.elements, 'element')}" if plan.elements else ""
    work = {
        "translate": f"{plan.survey.counts.unique} candidates",
        "potential": f"{plan.selected} candidates; {several(plan.compounds, 'known compound')}",
        "relax": f"{plan.relaxed} candidates: {relaxations}{elements}",
        "compare": "one for each relaxed candidate and element",
    }
    for stage in STAGES:
        if stage in plan.jobs:
            table.add_row(stage, str(plan.jobs[stage]), work.get(stage, ""))
    return table
