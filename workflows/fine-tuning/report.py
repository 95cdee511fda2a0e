"""Write table and picture of the measurement of fine-tuning from its rows.

Example: python workflows/fine-tuning/report.py workflows/fine-tuning/results.jsonl

Writes RESULTS.md and error.png beside the rows.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean
from textwrap import fill
from typing import Any

from matplotlib.figure import Figure

from cryslator_flows.system.console import markdown_table
from cryslator_flows.system.look import GREEN, VERMILION
from cryslator_flows.training.recipe import Recipe

HERE = Path(__file__).parent
NEW, OLD = "test", "old_test"
QUANTITIES = {
    "energy_mae": ("formation energy MAE (eV/atom)", 1),
    "volume_error": ("volume error (%)", 100),
    "displacement": ("displacement (A)", 1),
}
Row = dict[str, Any]


def by_pairs(rows: list[Row]) -> dict[int, list[Row]]:
    """Return the base, and the fits with replay, by the number of pairs."""
    found: dict[int, list[Row]] = {}
    for row in rows:
        if row["pairs"] == 0 or row["replay"]:
            found.setdefault(row["pairs"], []).append(row)
    return dict(sorted(found.items()))


def average(rows: list[Row], part: str, quantity: str) -> float:
    """Mean over fits."""
    return mean(row[part][quantity] for row in rows)


def cells(row: Row, part: str) -> list[str]:
    """Scores of one model on one test."""
    score = row[part]
    return [
        f"{score['energy_mae']:.3f}",
        f"{score['volume_error']:.1%}",
        f"{score['displacement']:.3f}",
        f"{score['strict_match']:.1%}",
        f"{score['coverage_90']:.0%}",
    ]


def table(rows: list[Row], part: str) -> str:
    """Scores of every model on one test."""
    header = ["pairs", "replay", "seed", "energy MAE (eV/atom)", "volume error", "displacement (A)", "strict match",
              "in the 90 % interval"]  # fmt: skip
    lines = []
    for row in sorted(rows, key=lambda row: (row["pairs"], not row.get("replay", True), row.get("seed", 0))):
        head = ["0, the base", "", ""]
        if row["pairs"]:
            head = [str(row["pairs"]), "yes" if row["replay"] else "no", str(row["seed"])]
        lines.append([*head, *cells(row, part)])
    return markdown_table(header, lines)


def draws(rows: list[Row]) -> str:
    """Return what was trained on in every fit."""
    lines = []
    for row in sorted(rows, key=lambda row: (row["pairs"], row.get("seed", 0), not row.get("replay", True))):
        if row["pairs"]:
            drawn = row["drawn"]
            parts = [f"{drawn[f'{part}_pairs']} of {drawn[f'{part}_formulas']} formulas" for part in ("train", "val")]
            fit = f"{row['best_epoch']} of {row['epochs']}", f"{row['minutes']:.1f}"
            pairs = f"{row['pairs']}{'' if row['replay'] else ', no replay'}"
            lines.append([pairs, str(row["seed"]), *parts, *fit])
    return markdown_table(["pairs", "seed", "trained on", "selected on", "best epoch of all", "minutes"], lines)


def changes(rows: list[Row]) -> str:
    """Return a line for each number of pairs: mean over the seeds, and how it compares with the base."""
    groups = by_pairs(rows)
    base = groups.pop(0)
    lines = []
    for count, fits in groups.items():
        parts = []
        for part, words in ((NEW, "manganese"), (OLD, "old")):
            values = []
            for quantity, unit in (("energy_mae", " eV/atom"), ("volume_error", ""), ("displacement", " A")):
                before, after = average(base, part, quantity), average(fits, part, quantity)
                number = f"{after:.1%}" if quantity == "volume_error" else f"{after:.3f}{unit}"
                change = f" ({after / before - 1:+.0%})" if before else ""
                values.append(f"{quantity.replace('_', ' ').replace('mae', 'MAE')} {number}{change}")
            parts.append(f"{words} {', '.join(values)}")
        seeds = f"mean of {len(fits)} seeds" if len(fits) > 1 else "one seed only"
        lines.append(f"**{count} pairs** ({seeds}): {'; '.join(parts)}.")
    alone = [row for row in rows if row["pairs"] and not row["replay"]]
    for row in alone:
        (kept,) = [other for other in groups[row["pairs"]] if other["seed"] == row["seed"]]
        values = []
        for part, words in ((OLD, "old"), (NEW, "manganese")):
            without, beside = row[part], kept[part]
            values.append(
                f"{words} energy MAE {without['energy_mae']:.3f} instead of {beside['energy_mae']:.3f} eV/atom, volume "
                f"error {without['volume_error']:.1%} instead of {beside['volume_error']:.1%}"
            )
        lines.append(f"**Without replay**, {row['pairs']} pairs, one seed only: {'; '.join(values)}.")
    held = ", ".join(f"{average(fits, NEW, 'coverage_90'):.0%} after {count}" for count, fits in groups.items())
    inside, flagged = average(base, NEW, "coverage_90"), average(base, NEW, "out_of_domain")
    lines.append(
        f"**Uncertainty**: the 90 % interval holds {inside:.0%} of the manganese energies with the base, which flags "
        f"{flagged:.0%} of these crystals as out of domain, then {held} pairs. It is calibrated on too few of the new "
        "kind to be trusted after 25."
    )
    for row in alone:
        lines[-1] += f" Without replay {row[OLD]['out_of_domain']:.0%} of the old crystals count as out of domain."
    return "\n".join(fill(line, 118, initial_indent="- ", subsequent_indent="  ") for line in lines)


def results_markdown(rows: list[Row]) -> str:
    """Return the whole page."""
    base, fit = rows[0], rows[1]
    tune = Recipe.from_file(HERE / "recipe.yaml").tune
    worst = max(row[OLD]["volume_error"] for row in rows if row["pairs"] and row["replay"])
    new, old = base[NEW], base[OLD]
    kept = "".join(
        f" Of the {row['pairs']} pairs of seed {row['seed']} only {row['drawn']['val_pairs']} was there to select on: "
        "no epoch looked better than the base, and the result is the base."
        for row in rows
        if row["pairs"] and row["best_epoch"] == 0
    )
    few = fill(
        f"With few pairs, those that are selected on say little about which epoch is best.{kept}",
        118,
        initial_indent="- ",
        subsequent_indent="  ",
    )
    return f"""# Fine-tuning, measured

Made by `python workflows/fine-tuning/report.py workflows/fine-tuning/results.jsonl` from the rows that
`python workflows/fine-tuning/measure.py DATA_DIR` leaves, where DATA_DIR holds the pairs of
[cryslator-oxides](../ablations/recipe.yaml).

Manganese is held out: the base saw no pair whose target or template holds it ({base["training_pairs"]:,} pairs,
{base["minutes"]:.0f} minutes on one thread, a [smaller network](base/recipe.yaml) than cryslator-oxides). Then it is
[fine-tuned](recipe.yaml) on few pairs of X-Mn-O oxides, {tune.replay_share:.0%} of every batch being old pairs.

![Errors against the number of new pairs](error.png)

{changes(rows)}

In brackets the change over the base. From the unrelaxed structure, first pair of each target.

## On manganese oxides

{new["targets"]} targets, {new["energies"]} with a known formation energy.

{table(rows, NEW)}

## On oxides without manganese

{old["targets"]} targets, {old["energies"]} with a known formation energy: what fine-tuning did to old knowledge. Replay
keeps the energies, not all of the volumes: their error goes from {old["volume_error"]:.1%} to {worst:.1%} at worst.

{table(rows, OLD)}

## How it was done

{draws(rows)}

- Pairs are drawn from the X-Mn-O pairs of the training file by whole formulas in random order until their number is
  reached; the seed is that of draw and fit. A fifth of the formulas is selected on, with old validation pairs, so that
  fewer pairs are trained on than the table's first column says.
- The test holds the manganese targets of the test and of the validation file; the base was selected without them. No
  formula of it is among the pairs that are drawn. The old test is the rest of the test file, without pairs whose
  template holds manganese.
- Replay: {fit["replay"]:,} old training pairs, drawn at random. {tune.epochs} epochs of 50 steps for every size,
  {tune.batch_size} pairs in a step, learning rate {tune.learning_rate:g}.
- Where a line says one seed only, the luck of the draw is in the number; two or three are too few for an interval.
{few}
- Templates and site mappings of these pairs were found with the targets known, see the card of
  [cryslator-oxides](../ablations/CARD.md): a selection to keep in mind beside any number here.

Structures: Materials Project (materialsproject.org), CC BY 4.0, database v2025.02.12, as collected in the
topology_databases repository of F.-X. Coudert. Energies: PBE/PBE+U formation energies of the Materials Project of April
2019 from the matbench_mp_e_form set of matbench (MIT).
"""


def plot_errors(rows: list[Row], path: Path) -> None:
    """Draw each error against the number of pairs: every fit a point, a line through the means."""
    groups = by_pairs(rows)
    counts = list(groups)
    alone = [row for row in rows if row["pairs"] and not row["replay"]]
    figure = Figure(figsize=(12.5, 4.2))
    for axis, (quantity, (label, factor)) in zip(figure.subplots(1, len(QUANTITIES)), QUANTITIES.items(), strict=True):
        for part, name, color in ((NEW, "manganese oxides", VERMILION), (OLD, "oxides without manganese", GREEN)):
            means = [factor * average(fits, part, quantity) for fits in groups.values()]
            axis.axhline(means[0], color=color, lw=1, ls=":")
            axis.plot(range(len(counts)), means, color=color, lw=1.8, label=f"{name}, mean")
            for place, fits in enumerate(groups.values()):
                values = [factor * row[part][quantity] for row in fits]
                axis.scatter([place] * len(values), values, s=26, color=color, edgecolor="white", zorder=3)
            for row in alone:
                axis.scatter(
                    counts.index(row["pairs"]) + 0.12, factor * row[part][quantity], s=46, marker="s", zorder=3,
                    facecolor="white", edgecolor=color, label=f"{name}, no replay",
                )  # fmt: skip
        highest = max(factor * row[part][quantity] for row in rows for part in (NEW, OLD))
        axis.set(xlabel="new pairs", ylabel=label, ylim=(0, 1.08 * highest), xlim=(-0.25, len(counts) - 0.7))
        axis.set_xticks(range(len(counts)), ["0: base", *map(str, counts[1:])])
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axis.get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.legend(handles, labels, frameon=False, loc="lower center", ncols=4)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run."""
    path = Path(sys.argv[1])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.with_name("RESULTS.md").write_text(results_markdown(rows))
    plot_errors(rows, path.with_name("error.png"))


if __name__ == "__main__":
    main()
