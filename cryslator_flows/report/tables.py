"""Tables of a campaign."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group

from cryslator_flows.analysis.savings import (
    compared_starts,
)
from cryslator_flows.crystals.packing import PREDICTED
from cryslator_flows.documents.relaxations import Outcome
from cryslator_flows.report.adaptation_table import adaptation_table
from cryslator_flows.report.savings_tables import SHORT_OUTCOMES, ends_table, savings_table
from cryslator_flows.screening.cuts import BEFORE_PROPERTIES
from cryslator_flows.system.console import as_text, main_reasons, new_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from cryslator_flows.documents.candidates import EnumerationCounts
    from cryslator_flows.documents.potential import PotentialStats
    from cryslator_flows.documents.relaxations import RelaxationComparison, Start
    from cryslator_flows.documents.rounds import RoundOutcome
    from cryslator_flows.documents.summary import CampaignSummary

# Ends as signs, for tables in which words for all starts would not fit.
ENDS: dict[Outcome, str] = {"same minimum": " =", "ended lower": " <", "ended higher": " >"}


def funnel_rows(summary: CampaignSummary) -> list[tuple[str, int, str]]:
    """List each stage with the number of candidates after it, and what it lost and why."""
    counts = summary.counts
    rejected = f", {len(counts.rejected_templates)} rejected" if counts.rejected_templates else ""
    reused = f"; {summary.reused} by another campaign" if summary.reused else ""
    unlike = f", {summary.out_of_domain} unlike the training data" if summary.out_of_domain else ""
    if summary.domain_reasons:
        unlike += f" ({main_reasons(summary.domain_reasons)})"
    in_rounds = f", {sum(len(item.batch) for item in summary.rounds)} of them by rounds" if summary.rounds else ""
    doubles = f"; {summary.synthetic} relaxations by a test double" if summary.synthetic else ""
    potential = summary.potential
    judge = "predicted energy" if potential is None else "energy of the potential"
    left_out = describe_left_out(summary.left_out if potential is None else potential.left_out)
    between = []
    if potential is not None:
        remark = describe_potential(potential) + describe_left_out(summary.left_out)
        between.append(("potential", potential.n_relaxed, remark))
    unbalanced = f"{counts.not_charge_balanced} not charge-balanced, "
    charged = [("charge-balanced", counts.enumerated - counts.not_charge_balanced, unbalanced.rstrip(", "))]
    return [
        ("enumerated", counts.enumerated, f"from {counts.templates} templates{rejected}"),
        *(charged * bool(counts.filtered)),
        *((name, left, f"{lost} left out") for name, left, lost in filter_rows(counts)),
        ("unique", counts.unique, f"{'' if counts.filtered else unbalanced}{counts.equivalent_or_higher()}"),
        ("translated", summary.translated, f"{summary.not_translated} not translatable{unlike}"),
        *((name, left, f"{lost} left out") for name, left, lost in property_rows(summary)),
        *between,
        ("selected", summary.selected, f"by {judge}{in_rounds}{left_out}"),
        ("relaxed", summary.relaxed, f"converged from at least one start{reused}{doubles}" if summary.relaxed else ""),
    ]


def funnel_table(summary: CampaignSummary) -> Table:
    """Make a table of the number of candidates after each stage."""
    table = new_table(f"Funnel of {summary.campaign}", "stage", ">candidates", "")
    for stage, number, remark in funnel_rows(summary):
        table.add_row(stage, str(number), remark)
    return table


def filter_rows(counts: EnumerationCounts) -> Iterator[tuple[str, int, int]]:
    """Yield each filter of the formula with the number of candidates that it left and left out."""
    left = counts.enumerated - counts.not_charge_balanced
    for name, lost in counts.filtered.items():
        left -= lost
        yield name, left, lost


def property_rows(summary: CampaignSummary) -> Iterator[tuple[str, int, int]]:
    """Yield each cut on a predicted property with the number of candidates that it left and left out."""
    counts = summary.left_out
    left = summary.translated - sum(counts.get(reason, 0) for reason in BEFORE_PROPERTIES)
    for reason, lost in counts.items():
        if reason.startswith(PREDICTED):
            left -= lost
            yield reason, left, lost


def describe_left_out(counts: dict[str, int]) -> str:
    """Describe in words what cuts left out, most first; empty for nothing. Predicted properties have separate rows."""
    shown = {reason: number for reason, number in counts.items() if number and not reason.startswith(PREDICTED)}
    reasons = sorted(((number, reason) for reason, number in shown.items()), reverse=True)
    return f"; left out: {', '.join(f'{number} {reason}' for number, reason in reasons)}" if reasons else ""


def describe_potential(stats: PotentialStats) -> str:
    """Describe in words what the potential did between translation and relaxation."""
    words = [stats.engine or "no potential"]
    if stats.ionic_steps is not None and stats.seconds is not None:
        words.append(f"{stats.ionic_steps:.1f} ionic steps, {stats.seconds:.1f} s each")
    if stats.formation_energy_error is not None:
        error = f"off by {stats.formation_energy_error:.3f} eV/atom on {stats.n_compounds} known compounds"
        words.append(f"fitted formation energies {error}")
    if stats.difference is not None:
        words.append(f"mean difference to the translator {stats.difference:.3f} eV/atom")
    words += [f"{number} failed: {reason}" for reason, number in stats.failed.items()]
    words += [f"{stats.n_unconverged} not converged"] * bool(stats.n_unconverged)
    return "; ".join(words)


def rounds_table(summary: CampaignSummary) -> Table:
    """Make a table of the relaxations and the learning of each round of active learning."""
    table = new_table(
        "Rounds of active learning", ">round", ">relaxed", ">converged", ">error (eV/atom)", ">pairs so far",
        ">lowest so far", "",
    )  # fmt: skip
    for item in summary.rounds:
        error = "-" if item.energy_error is None else f"{item.energy_error:.3f}"
        table.add_row(
            str(item.round), str(len(item.batch)), str(item.relaxed), error, str(item.pairs), *describe_lowest(item)
        )
    table.caption = "Error: mean absolute. Predictions, here and below: before a batch was relaxed and learnt."
    for item in summary.rounds:
        if item.not_learnt is not None:
            table.caption += f"\nRound {item.round} learnt nothing: {item.not_learnt}."
    return table


def describe_lowest(outcome: RoundOutcome) -> tuple[str, str]:
    """Return the lowest formation energy by the engine up to a round, in eV/atom, and its candidate."""
    if outcome.lowest_energy is None:
        return "-", ""
    return f"{outcome.lowest_energy:.3f}", outcome.lowest_formula or ""


def describe_steps(comparison: RelaxationComparison, start: Start) -> str:
    """Return ionic and electronic steps from a start as text; ionic steps alone without electronic ones.

    ``+`` follows the steps of an unfinished relaxation, ``?`` the steps of a relaxation of unknown convergence.
    """
    relaxation = comparison.relaxation(start)
    if relaxation is None:
        return "-"
    cost = relaxation.cost
    if cost is None:
        return "failed"
    if cost.synthetic:
        return "synthetic"
    known = ["?" if cost.ionic_steps is None else str(cost.ionic_steps)]
    if cost.total_electronic_steps is not None:
        known.append(str(cost.total_electronic_steps))
    text = "unknown" if known == ["?"] else "/".join(known)
    return text + {True: "", False: "+", None: "?"}[cost.converged]


def candidates_table(comparisons: list[RelaxationComparison]) -> Table:
    """Make a table of the relaxed candidates, with the steps from every start that occurs."""
    starts = compared_starts(comparisons)
    costs = [item.cost for comparison in comparisons for item in comparison.relaxations if item.cost]
    electronic = any(cost.total_electronic_steps is not None for cost in costs)
    many = len(starts) > 2
    title = (
        f"Selected: predicted formation energy, {'ionic/electronic' if electronic else 'ionic'} steps of each start "
        "(+: unfinished, ?: unknown)"
    )
    if many:
        title += "\nEnds: = the same, < a lower, > a higher minimum than from the unrelaxed start"
        columns = [">" + start.replace("_", "_\n") for start in starts]
    else:
        columns = [column for start in starts for column in (f">{start}", "ends")]
    table = new_table(title, "formula", "template", ">eV/atom", ">unrelaxed", *columns)
    # In a narrow terminal the templates shrink first; one word stays on one line.
    table.columns[1].no_wrap = False
    for item in comparisons:
        if many:
            cells = [describe_steps(item, start) + _sign(item, start) for start in starts]
        else:
            cells = [cell for start in starts for cell in (describe_steps(item, start), _end(item, start))]
        energy = f"{item.formation_energy_per_atom:.3f}"
        names = as_text(item.reduced_formula), as_text(item.template_id)
        table.add_row(*names, energy, describe_steps(item, "unrelaxed"), *cells)
    return table


def _end(comparison: RelaxationComparison, start: Start) -> str:
    ending = comparison.ending(start)
    if ending is None or ending.outcome == "not compared":
        return "-"
    return SHORT_OUTCOMES.get(ending.outcome, ending.outcome)


def _sign(comparison: RelaxationComparison, start: Start) -> str:
    ending = comparison.ending(start)
    return "" if ending is None else ENDS.get(ending.outcome, "")


def full_report(
    summary: CampaignSummary, comparisons: list[RelaxationComparison], relaxed: Table | None = None
) -> Group:
    """Make all tables of a campaign, with its table of relaxed candidates, see `relaxed_table`."""
    tables = [funnel_table(summary), *([rounds_table(summary)] if summary.rounds else [])]
    if relaxed is not None and relaxed.row_count:
        tables.append(relaxed)
    if summary.adaptation is not None:
        tables.append(adaptation_table(summary.adaptation))
    if comparisons:
        tables += [candidates_table(comparisons), ends_table(summary), savings_table(summary)]
    return Group(*(part for table in tables for part in (table, "")))
