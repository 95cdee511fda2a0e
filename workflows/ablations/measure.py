"""Fit variants of the recipe of cryslator-oxides with equal budgets, and score them on its test pairs.

Example: python workflows/ablations/measure.py DATA_DIR

DATA_DIR holds the files of the recipe. Adds the rows of each variant to runs/ablations/results.jsonl; prints the table.
Stop it at any time: the same command continues from there.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from cryslator_flows.system.console import markdown_table
from cryslator_flows.training.checkpoint import write_arrays
from cryslator_flows.training.evaluate import first_of_each_target
from cryslator_flows.training.prepare import pair_row, prepare, to_pairs
from cryslator_flows.training.recipe import Recipe
from cryslator_flows.training.splits import read_tests
from cryslator_flows.training.tensors import from_arrays, load_arrays, to_arrays
from cryslator_flows.training.train import train_network
from cryslator_flows.training.validation import validate

if TYPE_CHECKING:
    from cryslator_flows.translator.network import Network

Row = dict[str, Any]

RECIPE = Path(__file__).with_name("recipe.yaml")
RUNS = Path("runs/ablations")
NETWORK = {"width": 64, "vectors": 16, "passes": 1}
FIT = {"epochs": 4, "minutes": 1000, "threads": 1}
# Changes to network and fit, the number of training pairs (None for all) and the numbers of passes to score.
VARIANTS: dict[str, tuple[Row, Row, int | None, tuple[int, ...]]] = {
    "base": ({}, {}, None, (1, 2, 3)),
    "base, another seed": ({}, {"seed": 1}, None, (1,)),
    "no translator (direct heads on as deep an encoder, features not trained)": (
        {"encoder_layers": 5, "translator_layers": 0}, {"weights": {"feature": 0.0}}, None, (1,),
    ),
    "no denoising of relaxed crystals": ({}, {"denoising_share": 0.0}, None, (1,)),
    "1,000 pairs": ({}, {"epochs": 55}, 1000, (1,)),
    "3,000 pairs": ({}, {"epochs": 18}, 3000, (1,)),
    "10,000 pairs": ({}, {"epochs": 6}, 10_000, (1,)),
}  # fmt: skip


def table(rows: list[Row]) -> str:
    """Return the scores of the variants as a table in Markdown."""
    header = ["variant", "epochs", "energy MAE (eV/atom)", "volume error", "displacement (A)", "relaxed: volume",
              "relaxed: A"]  # fmt: skip
    return markdown_table(
        header,
        (
            [row["variant"], str(row["epochs"]), f"{row['energy_mae']:.3f}", f"{row['volume_error']:.2%}",
             f"{row['displacement']:.3f}", f"{row['relaxed_volume']:.2%}", f"{row['relaxed_displacement']:.3f}"]
            for row in rows
        ),
    )  # fmt: skip


def keep_some(prepared: Path, number: int) -> None:
    """Keep random training pairs in a tensor file, and the same share of the relaxed crystals."""
    arrays = load_arrays(prepared)
    train, relaxed = (from_arrays(arrays, name) for name in ("train", "relaxed"))
    if len(train) <= number:
        return
    counts = {"train": number, "relaxed": max(1, round(number / len(train) * len(relaxed)))}
    content: Row = {name: value.numpy() for name, value in arrays.items()}
    for name, pairs in (("train", train), ("relaxed", relaxed)):
        order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))
        content |= to_arrays(pairs.take(order[: counts[name]]), name)
    write_arrays(prepared, content)


def fit(name: str, folder: Path, data: Path) -> tuple[Network, int]:
    """Fit a variant, and return its network and the number of its epochs."""
    network, settings, number, _ = VARIANTS[name]
    recipe = yaml.safe_load(RECIPE.read_text())
    recipe |= {"network": recipe["network"] | NETWORK | network, "fit": recipe["fit"] | FIT | settings}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    prepared = folder / "prepared.npz"
    prepare(Recipe.from_file(folder / "recipe.yaml", data), prepared)
    if number is not None:
        keep_some(prepared, number)
    trained = train_network(prepared, folder, lambda epoch: print(f"{name}: {epoch.describe()}", flush=True), None)
    return trained.network, trained.summary["epochs"]  # type: ignore[return-value]  # this recipe fits a `Network`


def main(data: Path) -> None:
    """Fit and score the variants that have no row yet."""
    recipe = Recipe.from_file(RECIPE, data)
    records = [record for part in read_tests(recipe).values() for record in part]
    test = to_pairs(pair_row(record, recipe.target) for record in first_of_each_target(records))
    results = RUNS / "results.jsonl"
    RUNS.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    done = {row["variant"].partition(", passes")[0] for row in rows}
    for index, (name, (*_, all_passes)) in enumerate(VARIANTS.items()):
        if name in done:
            continue
        network, epochs = fit(name, RUNS / f"variant-{index}", data)
        for passes in all_passes:
            network.config = replace(network.config, passes=passes)
            scores = validate(network.eval(), test)
            del scores["score"]
            label = name if len(all_passes) == 1 else f"{name}, passes: {passes}"
            rows.append({"variant": label, "epochs": epochs, **scores})
        results.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(table(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
