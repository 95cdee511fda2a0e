"""Measure fine-tuning: a base that never saw manganese, tuned on 25, 100 and 400 X-Mn-O pairs.

Example: python workflows/fine-tuning/measure.py DATA_DIR

DATA_DIR holds the four files of workflows/ablations/recipe.yaml. Everything made of them stays in
runs/fine-tuning (or --runs); results.jsonl there is written anew after every fit. Stop it at any time: the same command
goes on from the last epoch. report.py makes RESULTS.md and the picture from the rows.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from cryslator_flows.system.whole_files import write_whole
from cryslator_flows.training.evaluate import Evaluation, first_of_each_target
from cryslator_flows.training.recipe import Recipe
from cryslator_flows.training.records import PairRecord, read_records
from cryslator_flows.training.splits import split_by_formula
from cryslator_flows.training.train import train
from cryslator_flows.training.tune import tune_by_recipe
from cryslator_flows.translator.model_folder import METRICS, ModelFolder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryslator_flows.training.fit_settings import Progress

HERE = Path(__file__).parent
ELEMENT = "Mn"
# Pairs, seed of the draw and of the fit, whether old pairs are replayed; in the order in which they are run.
FITS = [
    (25, 0, True), (100, 0, True), (400, 0, True), (400, 0, False),
    (25, 1, True), (100, 1, True), (25, 2, True),
]  # fmt: skip


def has_element(record: PairRecord) -> bool:
    """Whether target or template holds the element that is held out."""
    return ELEMENT in record.species or ELEMENT in (record.model_extra or {}).get("substitution", {})


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write JSON lines."""
    write_whole(path, "".join(f"{line}\n" for line in lines))


def split_data(source: Path, folder: Path) -> None:
    """Write the files of the measurement: old pairs, those of the element to draw from, those of it to test on."""
    if (folder / "mn_test.jsonl").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        name: [*read_records(source / f"mp_oxide_pairs_{name}.jsonl.gz", PairRecord)]
        for name in ("train", "val", "test")
    }
    for name, records in parts.items():
        write_lines(folder / f"old_{name}.jsonl", (r.model_dump_json() for r in records if not has_element(r)))
    with gzip.open(source / "mp_oxide_relaxed.jsonl.gz", "rt") as lines:
        write_lines(
            folder / "old_relaxed.jsonl", (line.strip() for line in lines if ELEMENT not in json.loads(line)["species"])
        )
    new = {name: [r for r in records if ELEMENT in r.species] for name, records in parts.items()}
    write_lines(folder / "mn_pool.jsonl", (r.model_dump_json() for r in new["train"]))
    # The base is selected on old pairs alone, so that those of both files are free to test on.
    tested = first_of_each_target([*new["test"], *new["val"]])
    write_lines(folder / "mn_test.jsonl", (r.model_dump_json() for r in tested))


def draw(pool: list[PairRecord], count: int, seed: int) -> list[PairRecord]:
    """Pairs of whole formulas in random order, `count` at most; a formula that does not fit in is passed over."""
    by_formula: dict[str, list[PairRecord]] = {}
    for record in pool:
        by_formula.setdefault(record.reduced_formula, []).append(record)
    formulas = sorted(by_formula)
    random.Random(seed).shuffle(formulas)
    drawn: list[PairRecord] = []
    for formula in formulas:
        if len(drawn) + len(by_formula[formula]) <= count:
            drawn += by_formula[formula]
    return drawn


def say(progress: Progress) -> None:
    """Print an epoch."""
    print(progress.describe(), flush=True)


def train_base(runs: Path) -> ModelFolder:
    """Return the base, trained if it is not there."""
    folder, file = runs / "base", HERE / "base/recipe.yaml"
    if (folder / METRICS).is_file():
        return ModelFolder(folder)
    return train(Recipe.from_file(file, runs / "data"), file, folder, runs / "base-run", say, lambda _: None)


def tune(base: ModelFolder, runs: Path, count: int, seed: int, replay: bool) -> ModelFolder:
    """Return the base fine-tuned on one draw, if it is not there."""
    name = f"mn-{count}-seed{seed}{'' if replay else '-no-replay'}"
    folder, data = runs / "models" / name, runs / "data" / name
    if (folder / METRICS).is_file():
        return ModelFolder(folder)
    print(name, flush=True)
    data.mkdir(exist_ok=True)
    parts = split_by_formula(draw([*read_records(runs / "data/mn_pool.jsonl", PairRecord)], count, seed), (0.8, 0.2, 0))
    for part in ("train", "val"):
        write_lines(data / f"{part}.jsonl", (record.model_dump_json() for record in getattr(parts, part)))
    content = yaml.safe_load((HERE / "recipe.yaml").read_text())
    content |= {"name": name, "train": f"{name}/train.jsonl", "val": f"{name}/val.jsonl"}
    content["tune"]["seed"] = seed
    if not replay:
        del content["tune"]["replay"], content["tune"]["old_val"]
    file = data / "recipe.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    recipe = Recipe.from_file(file, runs / "data")
    return tune_by_recipe(base, recipe, file, folder, runs / f"run-{name}", say, lambda _: None)


def scores(metrics: dict[str, Any], name: str) -> dict[str, Any]:
    """Errors of a model from the unrelaxed structures, on the new and on the old test targets."""
    found = {}
    for part in ("test", "old_test"):
        result = Evaluation.model_validate(metrics[part][0])
        score = result.score(name)
        assert score.structure is not None
        assert score.uncertainty is not None
        found[part] = {
            "targets": result.n_targets,
            "energies": result.n_energies,
            "energy_mae": score.energy_mae,
            **score.structure.model_dump(include={"volume_error", "displacement", "strict_match"}),
            "coverage_90": score.uncertainty.coverage_90,
            "out_of_domain": score.uncertainty.out_of_domain,
        }
    return found


def to_row(model: ModelFolder, count: int, seed: int, replay: bool) -> dict[str, Any]:
    """Return what is published of one fit."""
    metrics = model.metrics()
    training, tuning = metrics["training"], metrics["tuning"]
    return {
        "name": model.name,
        "pairs": count,
        "seed": seed,
        "replay": tuning["replay"]["pairs"] if replay else 0,
        "drawn": {
            f"{part}_{what}": tuning[f"new_{what}"][part] for part in ("train", "val") for what in ("pairs", "formulas")
        },
        "epochs": training["epochs"],
        "best_epoch": training["best"]["epoch"],
        "minutes": training["minutes"],
        **scores(metrics, model.name),
    }


def base_row(base: ModelFolder, tuned: ModelFolder) -> dict[str, Any]:
    """Return the same of the base, scored beside a fine-tuned model."""
    training = base.metrics()["training"]
    return {
        "name": base.name,
        "pairs": 0,
        "training_pairs": training["pairs"],
        "epochs": training["epochs"],
        "best_epoch": training["best"]["epoch"],
        "minutes": training["minutes"],
        **scores(tuned.metrics(), base.name),
    }


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the pairs of cryslator-oxides")
    parser.add_argument("--runs", type=Path, default=Path("runs/fine-tuning"))
    arguments = parser.parse_args()
    runs: Path = arguments.runs
    split_data(arguments.data, runs / "data")
    base = train_base(runs)
    rows: list[dict[str, Any]] = []
    for fit in FITS:
        model = tune(base, runs, *fit)
        rows = [*(rows or [base_row(base, model)]), to_row(model, *fit)]
        write_lines(runs / "results.jsonl", map(json.dumps, rows))


if __name__ == "__main__":
    main()
