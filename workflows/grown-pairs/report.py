"""Write RESULTS.md from the rows of compare.py and the counts of grow.py.

Example: python workflows/grown-pairs/report.py workflows/grown-pairs/results.jsonl
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from pathlib import Path
from statistics import mean, median
from typing import Any

from cryslator_flows.system.console import markdown_table

Row = dict[str, Any]


def wilson(hits: int, number: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share."""
    share, weight = hits / number, z**2 / number
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / number + weight / (4 * number))
    return centre - half, centre + half


def complete(rows: list[Row]) -> dict[str, list[Row]]:
    """Return the rows of each method on the pairs that all methods have."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    there = {(row["method"], row["target"]) for row in rows}
    targets = {row["target"] for row in rows if all((method, row["target"]) in there for method in methods)}
    return {method: [row for row in rows if row["method"] == method and row["target"] in targets] for method in methods}


def average(rows: list[Row], quantity: str, spec: str) -> str:
    """Return the mean of a quantity as text; nothing for methods without it."""
    return format(mean(row[quantity] for row in rows), spec) if quantity in rows[0] else ""


def cells(method: str, rows: list[Row]) -> list[str]:
    """Return the line of the table for one method."""
    hits = sum(row["strict_match"] for row in rows)
    low, high = wilson(hits, len(rows))
    relaxes = "steps" in rows[0]
    return [
        method,
        f"{hits / len(rows):.0%} ({low:.0%} to {high:.0%})",
        average(rows, "volume_error", ".1%"),
        f"{average(rows, 'displacement', '.3f')} ({median(row['displacement'] for row in rows):.3f})",
        average(rows, "seconds", ".2f"),
        average(rows, "load_seconds", ".2f"),
        average(rows, "steps", ".0f"),
        average(rows, "converged", ".0%"),
        f"{hits / sum(row['seconds'] for row in rows):.2f}" if relaxes else "",
    ]


def comparison(rows: list[Row]) -> str:
    """Return the section on the potentials."""
    methods = complete(rows)
    number = len(next(iter(methods.values())))
    header = [
        "method", "strict match (95 % interval)", "volume error", "displacement, mean (median), A", "seconds",
        "seconds to load", "steps", "converged", "matches a second",
    ]  # fmt: skip
    return f"""## Potentials on validation pairs

{number} pairs, a seeded random draw of the first pair of each validation target. Each method starts from the unrelaxed
crystal; the truth is the relaxed crystal of DFT. All potentials relax with BFGS and a free cell to 0.05 eV/angstrom,
in 500 steps at most. Seconds are process time on one thread; loading the model comes on top in each job of atomate2.
The interval is Wilson's.

{markdown_table(header, [cells(method, found) for method, found in methods.items()])}

A match is a strict match of StructureMatcher (0.05/0.1/2, not scaled), as in the scores of the models. `grow.py` takes
the potential with the most matches a second.

The starts of these pairs were chosen with their targets known, see [Alignment](../../docs/guides/pairs.md#alignment).
The potentials were trained on crystals of the Materials Project: some of these targets may be among them. The
translator was trained on oxides alone; these pairs are of all chemistries.
"""


def growth(counts: dict[str, dict[str, Any]]) -> str:
    """Return the section on the grown pairs, whose counts are given by seed."""
    dropped: Counter[str] = Counter()
    lines = []
    for seed, grown in counts.items():
        dropped.update(grown["dropped"])
        targets, hours, cpu_hours = grown["targets"], grown["hours"], grown["cpu_hours"]
        candidates = targets + sum(grown["dropped"].values())
        numbers = (f"{number:,}" for number in (candidates, targets, grown["formulas"], grown["intermediates"]))
        spent = f"{hours:.2f}", f"{cpu_hours:.2f}", f"{targets / cpu_hours:,.0f}"
        lines.append([seed, grown["potential"], *numbers, *spent])
    header = [
        "seed", "potential", "candidates relaxed", "pairs", "formulas", "ionic steps kept as intermediates", "hours",
        "hours of process time", "pairs an hour of process time",
    ]  # fmt: skip
    reasons = [[reason, f"{number:,}"] for reason, number in dropped.most_common()]
    return f"""
## Growth

At lowest priority, beside other work.

{markdown_table(header, lines)}

{markdown_table(["reason for no pair", "candidates"], reasons)}
"""


def results_markdown(folder: Path, rows: list[Row]) -> str:
    """Return the content of RESULTS.md."""
    page = f"""# Grown pairs: results

Made by `python workflows/grown-pairs/report.py workflows/grown-pairs/results.jsonl` from the rows of `compare.py` and
the counts of `grow.py`. The [README](README.md) has the commands.

{comparison(rows)}"""
    if files := sorted(folder.glob("counts-*.json")):
        page += growth({file.stem.removeprefix("counts-"): json.loads(file.read_text()) for file in files})
    return page


def write_results(path: Path) -> None:
    """Write RESULTS.md beside the rows."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.with_name("RESULTS.md").write_text(results_markdown(path.parent, rows))


if __name__ == "__main__":
    write_results(Path(sys.argv[1]))
