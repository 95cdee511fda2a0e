"""Write RESULTS.md and found.png from the rows of measure.py.

Example: python workflows/rounds/report.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cryslator_flows.system.console import markdown_table
from cryslator_flows.system.look import GREEN, VERMILION

HERE = Path(__file__).parent
SOUGHT = (5, 10, 20)
SHOWN = 10
Curve = NDArray[np.float64]


def read(name: str) -> list[dict[str, Any]]:
    """Rows of a file of JSON lines beside this one."""
    return [json.loads(line) for line in (HERE / name).read_text().splitlines()]


def places(rows: list[dict[str, Any]]) -> dict[str, list[int]]:
    """For each way to search, the place of each candidate in its order, from 1, in the order of the rows."""
    by_prediction = sorted(range(len(rows)), key=lambda index: (rows[index]["predicted"], rows[index]["candidate_id"]))
    one_shot = {index: place for place, index in enumerate(by_prediction, 1)}
    ways = {"one-shot": [one_shot[index] for index in range(len(rows))]}
    for name in rows[0]:
        if name.startswith("rounds"):
            ways[name] = [row[name] for row in rows]
    return ways


def most_stable(rows: list[dict[str, Any]], number: int) -> list[int]:
    """Return the candidates of lowest formation energy by the engine, by their row."""
    known = [index for index, row in enumerate(rows) if row["energy"] is not None]
    return sorted(known, key=lambda index: (rows[index]["energy"], rows[index]["candidate_id"]))[:number]


def random_until_all(pool: int, number: int) -> float:
    """Return expected draws without replacement until all of `number` out of `pool` are found: n (N + 1) / (n + 1)."""
    return number * (pool + 1) / (number + 1)


def recall(sought: list[int], order: list[int], pool: int) -> Curve:
    """Share of the sought that is found after 0, 1, 2, ... relaxations, [pool + 1]."""
    where = np.array([order[index] for index in sought])
    return np.array([(where <= spent).mean() for spent in range(pool + 1)])


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the share of the most stable candidates found against the relaxations spent."""
    ways, pool = places(rows), len(rows)
    figure = Figure(figsize=(4.4 * len(SOUGHT), 4.2))
    axes = figure.subplots(1, len(SOUGHT), sharey=True)
    spent = np.arange(pool + 1)
    for axis, number in zip(axes, SOUGHT, strict=True):
        sought = most_stable(rows, number)
        axis.plot(spent, spent / pool, color="0.6", ls=":", label="random, expected")
        axis.step(spent, recall(sought, ways["one-shot"], pool), where="post", color=VERMILION, label="one-shot")
        curves = np.array([recall(sought, ways[name], pool) for name in ways if name.startswith("rounds")])
        axis.fill_between(spent, curves.min(0), curves.max(0), step="post", color=GREEN, alpha=0.25, lw=0)
        label = f"rounds, mean and range of {len(curves)} seeds"
        axis.step(spent, curves.mean(0), where="post", color=GREEN, label=label)
        axis.set(xlabel="relaxations", title=f"the {number} most stable of {pool}", xlim=(0, pool), ylim=(0, 1.02))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share found")
    axes[-1].legend(frameon=False, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def results(rows: list[dict[str, Any]], rounds: list[dict[str, Any]]) -> str:
    """Content of RESULTS.md."""
    ways, pool = places(rows), len(rows)
    learning = [name for name in ways if name.startswith("rounds")]
    unconverged = sum(row["energy"] is None for row in rows)
    until, found = [], []
    for number in SOUGHT:
        sought = most_stable(rows, number)
        last = {name: max(order[index] for index in sought) for name, order in ways.items()}
        mean = np.mean([last[name] for name in learning])
        each = ", ".join(str(last[name]) for name in learning)
        until.append(
            [str(number), f"{mean:.1f} ({each})", str(last["one-shot"]), f"{random_until_all(pool, number):.1f}"]
        )
        for budget in (8, 16, 24, 40):
            shares = [100 * recall(sought, ways[name], pool)[budget] for name in (*learning, "one-shot")]
            cells = [f"{np.mean(shares[:-1]):.0f} %", f"{shares[-1]:.0f} %", f"{100 * budget / pool:.0f} %"]
            found.append([str(number), str(budget), *cells])
    prototypes = [row["id"] for row in read("templates.jsonl")]
    errors = [abs(row["predicted"] - row["energy"]) for row in rows if row["energy"] is not None]
    by_round: dict[int, list[dict[str, Any]]] = {}
    for row in rounds:
        by_round.setdefault(row["round"], []).append(row)
    progress = []
    for number, several in by_round.items():
        known = [row["energy_error"] for row in several if row["energy_error"] is not None]
        pairs = ", ".join(str(row["pairs"]) for row in several)
        factors = [row["metrics"].get("uncertainty_factor") for row in several]
        factor = ", ".join("-" if value is None else f"{value:.2f}" for value in factors)
        values = ", ".join(f"{value:.3f}" for value in known)
        progress.append([str(number), f"{np.mean(known):.3f} ({values})", pairs, factor])
    best = []
    for index in most_stable(rows, SHOWN):
        row = rows[index]
        prototype = prototypes[int(row["template"].split()[-1]) - 1]
        spent = [str(order[index]) for order in ways.values()]
        best.append([row["formula"], prototype, f"{row['energy']:.3f}", f"{row['predicted']:.3f}", *spent])
    return f"""# Rounds of active learning on ternary sulfides: results

Written by `report.py` from `results.jsonl` and `rounds.jsonl`. What was asked, and how, was written down before:
`README.md` beside this file. {pool} candidates, relaxed with CHGNet, an interatomic potential and not DFT;
{unconverged} did not converge. Mean absolute error of the released model's formation energies on the pool:
{np.mean(errors):.3f} eV/atom.

![Share of the most stable candidates found against relaxations](found.png)

## Relaxations until all N most stable are found

Rounds: the mean over the seeds of the fine-tuning, and each seed. Random: the expectation.

{markdown_table(["N", "rounds", "one-shot", "random"], until)}

## Share of the N found

{markdown_table(["N", "relaxations", "rounds, mean", "one-shot", "random"], found)}

## What the rounds learnt

Error: of the formation energies of a batch, predicted before it was relaxed and learnt, for each seed. Batches are
chosen, so that the error of one is not that of the pool. Factor: of the stated uncertainty over the released model's.

{markdown_table(["round", "error (eV/atom)", "pairs so far", "factor"], progress)}

## The {SHOWN} most stable

Formation energies in eV/atom, and at which relaxation each way found it.

{markdown_table(["formula", "template", "CHGNet", "released model", *ways], best)}
"""


def main() -> None:
    """Write both files."""
    rows = read("results.jsonl")
    draw(rows, HERE / "found.png")
    (HERE / "RESULTS.md").write_text(results(rows, read("rounds.jsonl")))


if __name__ == "__main__":
    main()
