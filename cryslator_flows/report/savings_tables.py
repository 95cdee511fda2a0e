"""Tables of the savings of a campaign, and their picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from cryslator_flows.analysis.savings import (
    LEAST_PAIRS,
    count_outcomes,
    count_prerelaxations,
    measure_all_savings,
    paired_steps,
)
from cryslator_flows.documents.relaxations import Outcome
from cryslator_flows.system.console import markdown_table, new_table
from cryslator_flows.system.look import LIGHT, START_COLORS
from cryslator_flows.system.whole_files import whole_file

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from cryslator_flows.documents.relaxations import RelaxationComparison, Start
    from cryslator_flows.documents.summary import CampaignSummary, Prerelaxations, Quantity, Savings

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
SHORT_OUTCOMES: dict[Outcome, str] = {
    "same minimum": "same", "ended lower": "lower", "ended higher": "higher", "unconverged": "unfinished",
}  # fmt: skip
# Colour, shape and diameter in points: later starts are smaller, above earlier starts with the same steps.
MARKERS: dict[Start, tuple[str, str, float]] = {
    "scaled": (START_COLORS["scaled"], "^", 9), "translated": (START_COLORS["translated"], "o", 8),
    "mlip": (START_COLORS["mlip"], "s", 6), "translated_mlip": (START_COLORS["translated_mlip"], "D", 4),
}  # fmt: skip


def ends_table(summary: CampaignSummary) -> Table:
    """Make a table of the numbers of relaxations from each start by outcome."""
    names = [SHORT_OUTCOMES.get(outcome, outcome) for outcome in OUTCOMES]
    columns = ["start", *(f">{name}" for name in names), *([">guard"] if summary.guarded else [])]
    table = new_table("Ends: the same, a lower or a higher minimum than from the unrelaxed start", *columns)
    for start, outcomes in summary.outcomes.items():
        numbers = [outcomes.get(outcome, 0) for outcome in OUTCOMES]
        table.add_row(start, *map(str, [*numbers, summary.guarded.get(start, 0)][: len(columns) - 1]))
    if summary.guarded:
        table.caption = "Guard: restarted from the unrelaxed structure after a bad first step."
    return table


def describe_interval(savings: Savings) -> str:
    """Return the 95 % interval of a saving as text."""
    if savings.interval is None:
        return f"needs {LEAST_PAIRS} pairs"
    low, high = savings.interval
    return f"{low:+.0%} to {high:+.0%}"


def describe_mean(steps: float) -> str:
    """Return a mean of steps or core-hours as text."""
    return f"{steps:.2g}" if steps < 1 else f"{steps:.{2 if steps < 100 else 1 if steps < 1000 else 0}f}"


def describe_prerelaxations(prerelaxations: list[Prerelaxations]) -> list[str]:
    """Describe in a sentence the cost of each start that an interatomic potential made."""
    sentences = []
    for item in prerelaxations:
        steps = "?" if item.ionic_steps is None else f"{item.ionic_steps:.1f}"
        seconds = "?" if item.seconds is None else f"{item.seconds:.2g}"
        unfinished = "?" if item.unconverged is None else item.unconverged
        beyond = f"; {unfinished} of {item.n_candidates} unfinished" if unfinished else ""
        words = f"{', '.join(item.engines)} took {steps} ionic steps, {seconds} s per candidate"
        sentences.append(f"Before {item.start}: {words}{beyond}.")
    return sentences


def _describe_translation(seconds: float) -> str:
    return f"Translation: {seconds:.2g} s per candidate."


def _p_value(savings: Savings) -> str:
    return "-" if savings.p_value is None else f"{savings.p_value:.2g}"


def savings_table(summary: CampaignSummary) -> Table:
    """Make a table of the savings of other starts over the unrelaxed start."""
    table = new_table(
        f"Mean steps, unrelaxed -> other start, of pairs that reached the same minimum "
        f"({', '.join(summary.engines) or 'no engine'})",
        "steps, start", ">pairs", ">mean", ">saving", ">95 % interval", ">p", ">slower",
    )  # fmt: skip
    # Only this column may take two lines.
    table.columns[0].no_wrap = False
    quantity = None
    for item in summary.savings:
        if item.quantity != quantity:
            quantity = item.quantity
            table.add_row(quantity.replace(" steps", ""))
        table.add_row(
            f" {item.start}",
            str(item.n_pairs),
            f"{describe_mean(item.mean_unrelaxed)} -> {describe_mean(item.mean)}",
            f"{item.saving:+.0%}",
            describe_interval(item),
            _p_value(item),
            f"{item.share_slower:.0%}",
        )
    if not summary.savings:
        table.add_row("none", "0", *"-----")
    notes = [
        "Saving: 1 - ratio of totals. Interval: paired bootstrap. p: Wilcoxon test.",
        "Slower: share of the pairs that took more.",
    ]
    if summary.translation_seconds is not None:
        notes.append(_describe_translation(summary.translation_seconds))
    notes += describe_prerelaxations(summary.prerelaxations)
    if summary.synthetic:
        notes.append(f"{summary.synthetic} relaxations by a test double of the engine are left out: not a measurement.")
    elif not summary.savings:
        notes.append("No candidate converged to the same minimum from both starts.")
    elif not any(item.quantity == "electronic steps" for item in summary.savings):
        notes.append("No electronic (SCF) steps known; an interatomic potential has none.")
        notes.append("Relax with DFT to measure them.")
    table.caption = "\n".join(notes)
    return table


def savings_markdown(comparisons: list[RelaxationComparison], translation_seconds: float | None = None) -> str:
    """Make two tables in Markdown: savings over the unrelaxed start, and outcomes of all relaxations.

    Parameters
    ----------
    comparisons : list of RelaxationComparison
        All comparisons, with any outcome.
    translation_seconds : float or None
        Time of the translation of one candidate, in s, see `CampaignSummary`; None if unknown.

    Returns
    -------
    str
        A row for each kind of step and start, then a row for each start, then the costs of translation and potentials.
        Relaxations by a test double of an engine are in the second table only.
    """
    savings = [
        [
            item.quantity,
            item.start,
            str(item.n_pairs),
            describe_mean(item.mean_unrelaxed),
            describe_mean(item.mean),
            f"{item.ratio:.3f}",
            f"{item.saving:+.1%}",
            "-" if item.interval is None else describe_interval(item),
            _p_value(item),
            f"{item.share_slower:.0%}",
        ]
        for item in measure_all_savings(comparisons)
    ]
    ends = [
        [start, *(str(outcomes.get(outcome, 0)) for outcome in OUTCOMES)]
        for start, outcomes in count_outcomes(comparisons).items()
    ]
    columns = ["steps", "start", "pairs", "mean, unrelaxed", "mean", "ratio of totals", "saving", "95 % interval", "p",
               "made slower"]  # fmt: skip
    parts = [markdown_table(columns, savings), markdown_table(["start", *OUTCOMES], ends)]
    if translation_seconds is not None:
        parts.append(_describe_translation(translation_seconds))
    parts += describe_prerelaxations(count_prerelaxations(comparisons))
    return "\n\n".join(parts) + "\n"


def savings_panels(
    summary: CampaignSummary, comparisons: list[RelaxationComparison]
) -> dict[Quantity, list[tuple[Savings, list[tuple[float, float]]]]]:
    """Return the savings and their pairs for each kind of step with pairs; core-hours are in tables alone."""
    panels: dict[Quantity, list[tuple[Savings, list[tuple[float, float]]]]] = {}
    for item in summary.savings:
        if item.quantity != "core-hours" and (pairs := paired_steps(comparisons, item.quantity, item.start)):
            panels.setdefault(item.quantity, []).append((item, pairs))
    return panels


def plot_savings(path: Path, summary: CampaignSummary, comparisons: list[RelaxationComparison]) -> Path:
    """Draw the steps from both starts of every pair: a panel for each kind of step, a colour for each start."""
    # Not pyplot, which would change the display of the caller's figures.
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    panels = savings_panels(summary, comparisons)
    figure = Figure(figsize=(5.2 * len(panels), 4.8))
    axes = figure.subplots(1, len(panels), squeeze=False)
    for axis, (quantity, series) in zip(axes[0], panels.items(), strict=True):
        steps = [step for _, pairs in series for pair in pairs for step in pair]
        ends = min(steps) / 1.3, max(steps) * 1.3
        axis.fill_between(ends, ends, [ends[0]] * 2, color=START_COLORS["translated"], alpha=0.08, lw=0)
        axis.plot(ends, ends, color="0.5", lw=1)
        title = [f"{summary.campaign}, {', '.join(summary.engines)}"]
        for item, pairs in series:
            unrelaxed, other = zip(*pairs, strict=True)
            color, marker, size = MARKERS[item.start]
            edge = {"edgecolor": "white", "linewidth": 0.7, "zorder": 3}
            axis.scatter(unrelaxed, other, s=size**2, color=color, marker=marker, label=item.start, **edge)
            title.append(f"{item.start}: saving {item.saving:+.0%} ({describe_interval(item)}, {item.n_pairs} pairs)")
        name = series[0][0].start if len(series) == 1 else "other"
        words = "shaded: fewer steps\nthan from the\nunrelaxed start"
        axis.text(0.03, 0.97, words, va="top", color=LIGHT["accent"], transform=axis.transAxes)
        if len(series) > 1:
            # Below the plot, where it hides no pair.
            axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=len(series))
        axis.set(
            xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal",
            xlabel=f"{quantity} from the unrelaxed start", ylabel=f"{quantity} from the {name} start",
        )  # fmt: skip
        leading = (1, 2, 5) if ends[1] < 100 * ends[0] else (1,)
        powers = [10**power for power in range(len(str(int(ends[1]))))]
        ticks = [tick * power for power in powers for tick in leading if ends[0] <= tick * power <= ends[1]]
        for direction in (axis.xaxis, axis.yaxis):
            direction.set_ticks(ticks)
            direction.set_major_formatter(ScalarFormatter())
            direction.set_minor_formatter(NullFormatter())
        axis.set_title("\n".join(title), fontsize="medium", parse_math=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    with whole_file(path) as file:
        figure.savefig(file, dpi=150)
    return path
