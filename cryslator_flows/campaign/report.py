"""Tables, files and the picture that a finished campaign leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table

from cryslator_flows.relaxation.savings import paired_steps
from cryslator_flows.schemas import STARTS

if TYPE_CHECKING:
    from pathlib import Path

    from cryslator_flows.schemas import CampaignSummary, RelaxationComparison, Savings, Start, TranslatedChunk


def _table(title: str, *columns: str) -> Table:
    """Empty table; columns whose name begins with '>' are numbers."""
    table = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD)
    table.pad_edge, table.collapse_padding = False, True
    for column in columns:
        name = column.removeprefix(">")
        table.add_column(
            name,
            justify="right" if column.startswith(">") else "left",
            no_wrap=name != "",
            max_width=18 if name == "template" else None,
        )
    return table


def funnel_table(summary: CampaignSummary) -> Table:
    """How many candidates are left after each stage."""
    counts = summary.counts
    table = _table(f"Funnel of {summary.campaign}", "stage", ">candidates", "")
    rejected = f", {len(counts.rejected_templates)} rejected" if counts.rejected_templates else ""
    outcomes = ", ".join(f"{number} {name}" for name, number in summary.outcomes.items())
    for stage, number, remark in (
        ("enumerated", counts.enumerated, f"from {counts.templates} templates{rejected}"),
        ("unique", counts.unique, f"{counts.not_charge_balanced} not charge-balanced, {counts.duplicates} equivalent"),
        ("translated", summary.translated, f"{summary.not_translated} not translatable"),
        ("selected", summary.selected, "by predicted formation energy"),
        ("relaxed", summary.relaxed, outcomes),
    ):
        table.add_row(stage, str(number), remark)
    return table


def describe_interval(savings: Savings) -> str:
    """The 95 % interval of a saving as text."""
    if savings.interval is None:
        return "needs 3 pairs"
    low, high = savings.interval
    return f"{low:+.0%} to {high:+.0%}"


def savings_table(summary: CampaignSummary) -> Table:
    """What the translated start saved over the unrelaxed one."""
    table = _table(
        f"Mean steps, unrelaxed -> translated start, of pairs that reached the same minimum "
        f"({', '.join(summary.engines) or 'no engine'})",
        "steps", ">pairs", ">mean", ">saving", ">95 % interval", ">p", ">slower",
    )  # fmt: skip
    for item in summary.savings:
        table.add_row(
            item.quantity.removesuffix(" steps"),
            str(item.n_pairs),
            f"{item.mean_unrelaxed:.2f} -> {item.mean:.2f}",
            f"{item.saving:+.0%}",
            describe_interval(item),
            "-" if item.p_value is None else f"{item.p_value:.2g}",
            f"{item.share_slower:.0%}",
        )
    if not summary.savings:
        table.add_row("none", "0", "-", "-", "-", "-", "-")
    notes = "Interval: paired bootstrap. p: Wilcoxon signed-rank test. Slower: share that took more steps."
    if not any(item.quantity == "electronic steps" for item in summary.savings):
        notes += "\nNo electronic (SCF) steps: an interatomic potential has none. Relax with DFT to measure them."
    table.caption = notes
    return table


def _steps(comparison: RelaxationComparison, start: Start) -> str:
    relaxation = comparison.relaxation(start)
    if relaxation is None:
        return "-"
    if relaxation.cost is None:
        return "failed"
    steps = relaxation.cost.ionic_steps
    return "unknown" if steps is None else f"{steps}{'' if relaxation.cost.converged else '+'}"


def candidates_table(comparisons: list[RelaxationComparison]) -> Table:
    """The relaxed candidates."""
    table = _table(
        "Selected: predicted formation energy, ionic steps of each start (+: unfinished)",
        "formula", "template", ">eV/atom", ">unrelaxed", ">translated", "ends",
    )  # fmt: skip
    for item in comparisons:
        table.add_row(
            item.reduced_formula,
            item.template_id,
            f"{item.formation_energy_per_atom:.3f}",
            *(_steps(item, start) for start in STARTS[:2]),
            ending.outcome if (ending := item.ending()) else "-",
        )
    return table


def full_report(summary: CampaignSummary, comparisons: list[RelaxationComparison]) -> Group:
    """All tables of a campaign."""
    return Group(funnel_table(summary), "", candidates_table(comparisons), "", savings_table(summary))


def candidates_frame(chunks: list[TranslatedChunk]) -> pd.DataFrame:
    """One row for each translated candidate, lowest predicted formation energy first."""
    rows = [
        {
            "candidate_id": candidate.candidate_id,
            "formula": candidate.reduced_formula,
            "template_id": candidate.template_id,
            "substitution": " ".join(f"{old}->{new}" for old, new in candidate.substitution.items()),
            "n_atoms": len(candidate.structure),
            **translation.model_dump(exclude={"candidate_id", "structure"}),
        }
        for chunk in chunks
        for candidate, translation in zip(chunk.candidates, chunk.translations, strict=True)
    ]
    frame = pd.DataFrame(rows)
    return frame if frame.empty else frame.sort_values("formation_energy_per_atom", ignore_index=True)


def write_files(
    folder: Path,
    summary: CampaignSummary,
    comparisons: list[RelaxationComparison],
    chunks: list[TranslatedChunk],
) -> list[Path]:
    """Write summary, candidates, relaxed structures and the picture of the savings.

    Parameters
    ----------
    folder : Path
        Where to.
    summary : CampaignSummary
        The summary.
    comparisons : list of RelaxationComparison
        The relaxed candidates.
    chunks : list of TranslatedChunk
        The translated candidates.

    Returns
    -------
    list of Path
        ``summary.json``, ``candidates.csv``, the folder ``relaxed`` with a CIF of the lower converged end of each
        candidate and, where
        there are pairs to show, ``savings.png``.
    """
    paths = [folder / "summary.json", folder / "candidates.csv"]
    paths[0].write_text(summary.model_dump_json(indent=2) + "\n")
    candidates_frame(chunks).to_csv(paths[1], index=False)
    relaxed = folder / "relaxed"
    for comparison in comparisons:
        ends = [
            (item.energy_per_atom, item.structure)
            for item in comparison.relaxations
            if item.structure is not None and item.energy_per_atom is not None and item.cost and item.cost.converged
        ]
        if ends:
            _, lowest = min(ends, key=lambda end: end[0])
            relaxed.mkdir(exist_ok=True)
            lowest.to(str(relaxed / f"{comparison.reduced_formula}-{comparison.candidate_id}.cif"))
    if relaxed.is_dir():
        paths.append(relaxed)
    if any(paired_steps(comparisons, item.quantity) for item in summary.savings):
        paths.append(plot_savings(folder / "savings.png", summary, comparisons))
    return paths


def plot_savings(path: Path, summary: CampaignSummary, comparisons: list[RelaxationComparison]) -> Path:
    """Draw the steps from both starts of every candidate, one panel for each kind of step."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    figure, axes = plt.subplots(1, len(summary.savings), figsize=(5.2 * len(summary.savings), 4.8), squeeze=False)
    for axis, item in zip(axes[0], summary.savings, strict=True):
        pairs = paired_steps(comparisons, item.quantity)
        unrelaxed, translated = zip(*pairs, strict=True)
        ends = min(*unrelaxed, *translated) / 1.3, max(*unrelaxed, *translated) * 1.3
        axis.fill_between(ends, ends, [ends[0]] * 2, color="#2a9d8f", alpha=0.08, lw=0)
        axis.plot(ends, ends, color="0.5", lw=1)
        axis.scatter(unrelaxed, translated, s=46, color="#2a9d8f", edgecolor="white", zorder=3)
        words = "shaded: fewer steps\nfrom the translated start"
        axis.text(0.03, 0.97, words, va="top", color="#1d6f66", transform=axis.transAxes)
        axis.set(
            xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal",
            xlabel=f"{item.quantity} from the unrelaxed start", ylabel=f"{item.quantity} from the translated start",
        )  # fmt: skip
        ticks = [tick * 10**power for power in range(6) for tick in (1, 2, 5) if ends[0] <= tick * 10**power <= ends[1]]
        for direction in (axis.xaxis, axis.yaxis):
            direction.set_ticks(ticks)
            direction.set_major_formatter(ScalarFormatter())
            direction.set_minor_formatter(NullFormatter())
        axis.set_title(
            f"{summary.campaign}, {', '.join(summary.engines)}: {item.n_pairs} pairs\n"
            f"saving {item.saving:+.0%} ({describe_interval(item)})"
        )
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
