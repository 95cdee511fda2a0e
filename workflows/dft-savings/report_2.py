"""Write tables and picture of protocol 2 from its rows, and of protocol 1 again.

Example: python workflows/dft-savings/report_2.py workflows/dft-savings/results-2.jsonl

Writes RESULTS-2.md and savings-2.png beside the rows. Those of protocol 1 again are in results-1-again.jsonl there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import Any

from measure import HERE, read_drawn
from report import candidates_markdown, percentile_interval, read_rows, to_comparison

from cryslator_flows.analysis.savings import compared_starts, measure_savings, paired_steps
from cryslator_flows.documents.candidates import EnumerationCounts, TranslationStats
from cryslator_flows.documents.relaxations import RelaxationComparison, Start
from cryslator_flows.documents.summary import Savings
from cryslator_flows.jobs.summarize import summarize
from cryslator_flows.report.savings_tables import describe_interval, plot_savings, savings_markdown
from cryslator_flows.system.console import markdown_table

Rows = dict[str, list[dict[str, Any]]]
COLUMNS = ["pairs", "mean, unrelaxed", "mean", "saving", "95 % interval", "made slower"]
# Percentages of the targets in PROTOCOL-2.md.
AGAIN, DRAWN, LEAST, SLOWER, NEAR, HALF = 40, 45, 25, 10, 5, 50


def electronic(rows: Rows, start: Start) -> Savings | None:
    """Return the saving of electronic steps from a start; None without a pair."""
    comparisons = [to_comparison(runs) for runs in rows.values()]
    return measure_savings(paired_steps(comparisons, "electronic steps", start), "electronic steps", start)


def cells(saving: Savings | None) -> list[str]:
    """Return the cells of `COLUMNS`."""
    if saving is None:
        return ["0", *"-----"]
    return [
        str(saving.n_pairs),
        f"{saving.mean_unrelaxed:.1f}",
        f"{saving.mean:.1f}",
        f"{saving.saving:+.1%}",
        describe_interval(saving),
        f"{saving.share_slower:.0%}",
    ]


def with_starts(rows: Rows, *starts: Start) -> Rows:
    """Return the candidates that reached the same minimum from all of these starts."""

    def reached(runs: list[dict[str, Any]]) -> bool:
        return {run["start"] for run in runs if run["same_minimum"]}.issuperset(starts)

    return {name: runs for name, runs in rows.items() if reached(runs)}


def again(first: Rows, repeated: Rows) -> Rows:
    """Return the rows of protocol 1 with the translated start of the later model."""
    return {
        name: [run for run in first[name] if run["start"] == "unrelaxed"] + runs
        for name, runs in repeated.items()
        if name in first
    }


def potential_steps(rows: Rows) -> dict[str, list[dict[str, Any]]]:
    """Return by start the rows of the candidates in which the potential's steps from both starts are known."""
    both = ("mlip", "translated_mlip")
    known = [
        {run["start"]: run for run in runs if run["start"] in both and run["potential_steps"] is not None}
        for runs in rows.values()
    ]
    return {start: [item[start] for item in known if len(item) == len(both)] for start in both}


def potential_markdown(rows: Rows) -> str:
    """Compare what the potential does from the unrelaxed and from the translated structure."""
    common = with_starts(rows, "mlip", "translated_mlip")
    lines = []
    for start, runs in potential_steps(rows).items():
        saving = electronic(common, start)
        steps = [run["potential_steps"] for run in runs]
        seconds = [run["potential_seconds"] for run in runs if run["potential_seconds"] is not None]
        lines.append(
            [
                start,
                str(len(runs)),
                f"{mean(steps):.1f}" if steps else "-",
                f"{median(steps):.1f}" if steps else "-",
                f"{mean(seconds):.2f}" if seconds else "-",
                *(cells(saving)[index] for index in (0, 3, 4)),
            ]
        )
    columns = ["start", "relaxed", "mean steps", "median steps", "mean s", "pairs of both", "saving", "95 % interval"]
    return markdown_table(columns, lines)


def spaces_markdown(rows: Rows) -> str:
    """Return the savings of electronic steps by space of candidates, for each start."""
    spaces = dict.fromkeys(runs[0]["space"] for runs in rows.values())
    groups = {space: {name: runs for name, runs in rows.items() if runs[0]["space"] == space} for space in spaces}
    starts = compared_starts(to_comparison(runs) for runs in rows.values())
    lines = [[space, start, *cells(electronic(group, start))] for space, group in groups.items() for start in starts]
    return markdown_table(["space", "start", *COLUMNS], lines)


def optimizers_markdown(bfgs: Rows, cg: Rows) -> str:
    """Return the savings of electronic steps by optimizer, on the candidates that both relaxed."""
    both = {"BFGS": {name: bfgs[name] for name in cg if name in bfgs}, "conjugate gradients": cg}
    starts = compared_starts(to_comparison(runs) for runs in cg.values())
    lines = [
        [optimizer, start, *cells(electronic(rows, start))] for start in starts for optimizer, rows in both.items()
    ]
    return markdown_table(["optimizer", "start", *COLUMNS], lines)


def again_markdown(first: Rows, repeated: Rows) -> str:
    """Compare models on the candidates of protocol 1 that ran again."""
    same = {name: first[name] for name in repeated if name in first}
    models = {run["translation"]["model_name"] for runs in repeated.values() for run in runs}
    lines = [
        ["translated, cryslator-oxides", *cells(electronic(same, "translated"))],
        [f"translated, {', '.join(sorted(models))}", *cells(electronic(again(first, repeated), "translated"))],
        ["mlip", *cells(electronic(same, "mlip"))],
    ]
    return markdown_table(["start", *COLUMNS], lines)


def targets_markdown(first: Rows, repeated: Rows, rows: Rows) -> str:
    """Return each target with its measured value."""
    lines = []

    def add(target: str, value: float | None, met: Callable[[float], bool]) -> None:
        measured = ["-", "not known"] if value is None else [f"{value:.1f}", "yes" if met(value) else "no"]
        lines.append([target, *measured])

    former, drawn = electronic(again(first, repeated), "translated"), electronic(rows, "translated")
    common = with_starts(rows, "mlip", "translated_mlip")
    alone, after = (electronic(common, start) for start in ("mlip", "translated_mlip"))
    steps = [sum(run["potential_steps"] for run in runs) for runs in potential_steps(rows).values()]
    low = drawn.interval[0] if drawn and drawn.interval else None
    behind = alone.saving - after.saving if alone and after else None

    def percent(value: float | None) -> float | None:
        return None if value is None else 100 * value

    saved = percent(former and former.saving)
    add(f"protocol 1 again: saving of at least {AGAIN} %", saved, lambda value: value >= AGAIN)
    add(f"saving of at least {DRAWN} %", percent(drawn and drawn.saving), lambda value: value >= DRAWN)
    add(f"its interval above {LEAST} %", percent(low), lambda value: value > LEAST)
    add(f"at most {SLOWER} % made slower", percent(drawn and drawn.share_slower), lambda value: value <= SLOWER)
    add(f"translated_mlip at most {NEAR} points behind mlip", percent(behind), lambda value: value <= NEAR)
    share = percent(steps[1] / steps[0] if steps[0] else None)
    add(f"at most {HALF} % of the potential's steps for it", share, lambda value: value <= HALF)
    return markdown_table(["target", "measured", "met"], lines)


def not_run(candidates: Path, rows: Rows, cg: Rows) -> str:
    """Return a sentence on the candidates without rows; empty if all ran."""
    waiting = [
        f"{run.candidate.reduced_formula} ({run.optimizer})"
        for run in read_drawn(candidates)
        if run.candidate.candidate_id not in {"BFGS": rows, "CG": cg}[run.optimizer]
    ]
    return f" **Not finished**: {', '.join(waiting)} are still to be run." if waiting else ""


def results_markdown(first: Rows, repeated: Rows, rows: Rows, cg: Rows, candidates: Path) -> str:
    """Return the whole page."""
    comparisons = [to_comparison(runs) for runs in rows.values()]
    runs = [run for part in (rows, cg, repeated) for several in part.values() for run in several]
    hours = sum(run["wall_time"] or 0 for run in runs) / 3600
    seconds = median(several[0]["translation_seconds"] for several in rows.values())
    models = sorted({f"{run['translation']['model_name']} {run['translation']['model_version']}" for run in runs})
    return f"""# Electronic steps saved, measured with GPAW: protocol 2

Made by `python workflows/dft-savings/report_2.py workflows/dft-savings/results-2.jsonl`; how it was measured is in
[PROTOCOL-2.md](PROTOCOL-2.md). {len(rows)} drawn candidates with BFGS, {len(cg)} of them with conjugate gradients too,
and {len(repeated)} of protocol 1 again: {len(runs)} runs, {hours:.1f} h of wall time in all. Translated with
{", ".join(models)}.{not_run(candidates, rows, cg)}

{targets_markdown(first, repeated, rows)}

Measured values are in % or in points of %.

## The drawn candidates

Savings over the unrelaxed start with BFGS, of candidates that reached the same minimum from both:

{savings_markdown(comparisons, seconds)}
The interval is the software's, percentiles widened for few pairs; the plain percentile interval is, for electronic
steps from the translated start, {percentile_interval(comparisons)}.

Electronic steps by space:

{spaces_markdown(rows)}

## What the potential needs

CHGNet from the unrelaxed structure (`mlip`) and from the translated one (`translated_mlip`): its steps and seconds, and
the electronic steps saved afterwards, on the candidates that reached the same minimum from both.

{potential_markdown(rows)}

## The optimizer

Electronic steps of the candidates that both optimizers relaxed:

{optimizers_markdown(rows, cg)}

## Protocol 1 again

Electronic steps of the candidates of [protocol 1](RESULTS.md), with its own runs from the unrelaxed start:

{again_markdown(first, repeated)}

## Runs

Every run, as ionic/electronic steps. With BFGS:

{candidates_markdown(rows)}

With conjugate gradients:

{candidates_markdown(cg)}

Protocol 1 again:

{candidates_markdown(again(first, repeated))}

![Steps from the unrelaxed start and from the other starts](savings-2.png)
"""


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="rows of protocol 2 that measure.py wrote")
    parser.add_argument("--again", type=Path, help="rows of protocol 1 again; results-1-again.jsonl beside RESULTS")
    parser.add_argument("--first", type=Path, default=HERE / "results.jsonl", help="rows of protocol 1")
    parser.add_argument("--candidates", type=Path, default=HERE / "candidates-2.jsonl")
    arguments = parser.parse_args()
    rows, cg = (read_rows(arguments.results, optimizer) for optimizer in ("BFGS", "CG"))
    repeated = read_rows(arguments.again or arguments.results.with_name("results-1-again.jsonl"))
    page = results_markdown(read_rows(arguments.first), repeated, rows, cg, arguments.candidates)
    arguments.results.with_name("RESULTS-2.md").write_text(page)
    comparisons: list[RelaxationComparison] = [to_comparison(runs) for runs in rows.values()]
    summary = summarize("protocol 2", EnumerationCounts(), TranslationStats(), len(comparisons), comparisons)
    plot_savings(arguments.results.with_name("savings-2.png"), summary, comparisons)


if __name__ == "__main__":
    main()
