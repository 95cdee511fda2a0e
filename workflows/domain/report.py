"""Write `RESULTS.md` from `results.jsonl`.

Example: python workflows/domain/report.py
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from cryslator_flows.system.console import main_reasons, markdown_table
from cryslator_flows.system.whole_files import write_whole

Row = dict[str, Any]
# 90 % quantile over mean of the absolute error, for errors of a Laplace distribution.
QUANTILE = np.log(10)


def share(held: list[bool]) -> str:
    """Return the share of True with its number and standard error."""
    if not held:
        return "-"
    value = float(np.mean(held))
    error = np.sqrt(value * (1 - value) / len(held))
    return f"{value:.0%} ± {error:.0%} of {len(held)}"


def held(rows: list[Row], more: float = 0.0) -> list[bool]:
    """Return whether each interval holds the potential's energy, if `more` is added to its half width in quadrature."""
    return [abs(row["predicted"] - row["potential"]) <= np.hypot(row["half_width"], more) for row in rows]


def mean(values: list[float]) -> str:
    """Return a mean in eV/atom."""
    return f"{np.mean(values):.3f}" if values else "-"


def error(rows: list[Row]) -> str:
    """Return the mean absolute difference from the potential, in eV/atom."""
    return mean([abs(row["predicted"] - row["potential"]) for row in rows])


def families(rows: list[Row], potential_error: float) -> str:
    """Make the table of the candidates."""
    names = list(dict.fromkeys(row["family"] for row in rows))
    lines = []
    for name in [*names, "all"]:
        mine = [row for row in rows if name in (row["family"], "all")]
        known = [row for row in mine if row["potential"] is not None]
        inside, outside = ([row for row in known if bool(row["reason"]) == flag] for flag in (False, True))
        reasons = Counter(row["reason"] for row in mine if row["reason"])
        lines.append([
            name,
            f"{sum(not row['reason'] for row in mine) / len(mine):.0%} of {len(mine)}",
            main_reasons(reasons) or "-",
            mean([row["half_width"] for row in inside]),
            error(inside),
            share(held(inside)),
            share(held(inside, QUANTILE * potential_error)),
            error(outside),
            share(held(outside)),
        ])  # fmt: skip
    header = [
        "family", "in domain", "others", ">half width", ">difference", "intervals hold", "with the potential's error",
        ">difference, outside", "intervals hold, outside",
    ]  # fmt: skip
    return markdown_table(header, lines)


def classes(scores: list[Row]) -> str:
    """Make the table of the test pairs with DFT energies."""

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{value:.1%}"

    rows = [
        [
            score["class"],
            f"{score['targets']:,}",
            percent(1 - score["out_of_domain"]),
            percent(score["coverage_90"]),
            percent(score["coverage_90_in_domain"]),
            percent(score["coverage_90_out_of_domain"]),
            mean([score["mae_in_domain"]]),
            "-" if score["mae_out_of_domain"] is None else mean([score["mae_out_of_domain"]]),
        ]
        for score in scores
    ]
    header = ["class", ">targets", ">in domain", ">intervals hold", ">in domain", ">outside", ">MAE in domain",
              ">MAE outside"]  # fmt: skip
    return markdown_table(header, rows)


def results(file: Path) -> str:
    """Return the page."""
    head, *rows = map(json.loads, file.read_text().splitlines())
    failed = sum(row["potential"] is None for row in rows)
    inside = [row for row in rows if not row["reason"] and row["potential"] is not None]
    high = [row["predicted"] > row["potential"] for row in inside if not held([row])[0]]
    whole = next(score for score in head["dft"] if score["class"] == "all")
    beyond = [row for row in rows if row["reason"] and row["potential"] is not None]
    unfinished = sum(row["converged"] is False for row in rows)
    return f"""# The domain of {head["model"]}, measured

Version `{head["version"]}`. Energies in eV/atom. `measure.py` draws, translates and relaxes.
`report.py` writes this page.

**Target**: 85 to 95 % of the intervals in domain hold the energy of the potential. Found: {share(held(inside))}.
With the error of the potential: {share(held(inside, QUANTILE * head["potential_error"]))}.
Against DFT, {whole["coverage_90_in_domain"]:.1%} of those of the {whole["targets"]:,} test targets hold.

## Candidates outside the oxides, against CHGNet

Ternary prototypes of the package with elements drawn at random, {len(rows)} candidates. No formula is a known compound.
CHGNet relaxes the translated structures: {failed} failed, {unfinished} did not converge. Its formation energies rest on
{head["n_compounds"]} known compounds, where they are off by {head["potential_error"]:.3f} in the mean.

{families(rows, head["potential_error"])}

*Difference* is the mean of |translator - CHGNet|. *Intervals hold* is the share of the 90 % intervals that hold the
formation energy of CHGNet, with its standard error. The next column adds the error of CHGNet
on known compounds to the half width, in quadrature: {QUANTILE * head["potential_error"]:.3f} for 90 %.

## Test pairs, against DFT

The first pair of each test target, from the unrelaxed structure. No training pair has their formulas.

{classes(head["dft"])}

## What it means

The intervals hold what they state for compounds like the known ones: the test pairs and the validation pairs have the
same selection. Random substitutions have another one. In domain they differ from CHGNet by {error(inside)} in the mean,
the test pairs from DFT by {whole["mae_in_domain"]:.3f}. The intervals
grow for them, to a mean half width of {mean([row["half_width"] for row in inside])}, but not enough.
Of {len(high)} energies outside their intervals, {sum(high)} are predicted too high.

The flag finds candidates of larger error ({error(beyond)}). It does not find all for which an
interval is too narrow. Where energies decide, let the campaign adapt to its own
candidates. It then calibrates the intervals on a random sample of them.
"""


def main() -> None:
    """Write the page beside the rows."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("results.jsonl")
    write_whole(file.with_name("RESULTS.md"), results(file))


if __name__ == "__main__":
    main()
