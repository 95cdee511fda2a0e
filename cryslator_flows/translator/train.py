"""From a recipe to a model folder: prepare, fit, export, score, write the card."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
import yaml
from pymatgen.core import Element

from cryslator_flows.translator.evaluate import Evaluation, evaluate
from cryslator_flows.translator.fit import Fit, fit
from cryslator_flows.translator.prepare import prepare
from cryslator_flows.translator.pretrained import CARD, METRICS, RECIPE, save_model
from cryslator_flows.translator.records import PairRecord, read_records
from cryslator_flows.translator.translator import Translator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cryslator_flows.translator.fit import Progress
    from cryslator_flows.translator.pretrained import ModelFolder
    from cryslator_flows.translator.recipe import CardText, Recipe


def train(
    recipe: Recipe,
    recipe_file: Path,
    folder: Path,
    run_dir: Path,
    report: Callable[[Progress], None],
    report_step: Callable[[float], None],
) -> ModelFolder:
    """Train a model, or go on with a training that was stopped.

    Parameters
    ----------
    recipe : Recipe
        The recipe.
    recipe_file : Path
        Where it was read from; a copy stays with the model.
    folder : Path
        The model folder to write.
    run_dir : Path
        Holds ``prepared.npz`` and the checkpoint.
    report, report_step : callable
        As in `fit`.

    Returns
    -------
    ModelFolder
        The finished model.

    Raises
    ------
    DataError
        A file of the recipe is wrong.
    """
    prepared = run_dir / "prepared.npz"
    prepare(recipe, prepared)
    return export(fit(prepared, run_dir, report, report_step), recipe, recipe_file, folder)


def export(state: Fit, recipe: Recipe, recipe_file: Path, folder: Path) -> ModelFolder:
    """Write the best weights of a fit as a model folder, score them and write the card.

    Parameters
    ----------
    state : Fit
        The fit, finished or not.
    recipe, recipe_file, folder
        As in `train`.

    Returns
    -------
    ModelFolder
        The model.
    """
    elements = [Element.from_Z(int(number)).symbol for number in torch.unique(state.pairs.numbers)]
    text = recipe_file.read_text()
    model = save_model(folder, state.best_weights, state.network, elements)
    (folder / RECIPE).write_text(text)

    best = min(state.history, key=lambda progress: progress.validation["score"])
    metrics: dict[str, Any] = {
        "model_version": model.version(),
        "parameters": sum(weight.numel() for weight in state.network.parameters()),
        "training": {
            "epochs": state.epoch,
            "minutes": round(state.seconds / 60, 1),
            "pairs": len(state.pairs),
            "relaxed_crystals": len(state.relaxed),
            "best": asdict(best),
        },
    }
    if recipe.test is not None:
        result = evaluate(Translator(model), read_records(recipe.test, PairRecord))
        metrics["test"] = result.model_dump()
    (folder / METRICS).write_text(json.dumps(metrics, indent=2) + "\n")
    (folder / CARD).write_text(model_card(model.name, metrics, recipe.card))
    return model


def model_card(name: str, metrics: dict[str, Any], text: CardText) -> str:
    """Model card in Markdown; every number in it comes from ``metrics.json``.

    Parameters
    ----------
    name : str
        Name of the model.
    metrics : dict
        Content of ``metrics.json``.
    text : CardText
        What the recipe says in words.

    Returns
    -------
    str
        The card.
    """
    front = yaml.safe_dump(
        {"model_name": name, "library_name": "cryslator-flows", "license": text.licence.split(";")[0]}, sort_keys=False
    )
    training = metrics["training"]
    best = training["best"]
    lines = [
        f"---\n{front}---",
        f"# {name}",
        (
            f"Version `{metrics['model_version']}`, {metrics['parameters']:,} parameters. "
            "Numbers on this page are written "
            "by `cryslator train` from `metrics.json`."
        ),
        f"## Aim\n\n{text.aim.strip()}",
        f"## Data\n\n{text.data.strip()}",
        (
            f"## Training\n\n{training['pairs']:,} pairs and {training['relaxed_crystals']:,} relaxed "
            f"crystals to denoise; "
            f"{training['epochs']} epochs in {training['minutes']:.0f} minutes. The weights are those of epoch "
            f"{best['epoch']}, with the best score on the validation pairs (all pairs, from the unrelaxed structure): "
            f"formation energy MAE {best['validation']['energy_mae']:.3f} eV/atom, volume error "
            f"{best['validation']['volume_error']:.1%}, displacement {best['validation']['displacement']:.3f} A. "
            "`recipe.yaml` retrains it."
        ),
    ]
    if "test" in metrics:
        lines.append(_test_section(Evaluation.model_validate(metrics["test"])))
    lines += [f"## Limits\n\n{text.limits.strip()}", f"## Licence\n\n{text.licence.strip()}"]
    return "\n\n".join(lines) + "\n"


def _test_section(test: Evaluation) -> str:
    rows = [
        "| structure | volume error | displacement (A) | loose match | strict match | symmetry kept |",
        "|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {name} | {row.volume_error:.1%} | {row.displacement:.3f} | {row.loose_match:.1%} | "
        f"{row.strict_match:.1%} | {row.symmetry_kept:.1%} |"
        for name, row in test.structures.items()
    ]
    energy = ""
    if test.energy_mae is not None and test.energy_coverage is not None:
        energy = (
            f"\n\nFormation energy: MAE {test.energy_mae:.3f} eV/atom over {test.n_energies} targets; "
            f"{test.energy_coverage:.0%} of them within the stated 68 % uncertainty."
        )
    return (
        f"## Test\n\nThe first pair of each of {test.n_targets} targets, from the unrelaxed structure; "
        "scored by `cryslator evaluate`, which says how each column is defined.\n\n" + "\n".join(rows) + energy
    )
