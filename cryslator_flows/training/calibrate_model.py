"""Calibration of a finished model once more, with the weights as they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from pymatgen.core import Element

from cryslator_flows.errors import DataError, ModelError
from cryslator_flows.system.whole_files import write_whole
from cryslator_flows.training.calibrate import calibrate_again
from cryslator_flows.training.evaluate import Evaluation, first_of_each_target
from cryslator_flows.training.new_model import new_model
from cryslator_flows.training.prepare import pair_row, target_indices, to_pairs, training_pairs
from cryslator_flows.training.splits import read_training
from cryslator_flows.training.train import describe_calibration, score_tests, write_metrics
from cryslator_flows.translator.chemistry import Seen
from cryslator_flows.translator.model_folder import (
    CALIBRATION,
    CURVE,
    FEATURE_MAP,
    FEATURE_NUMBERS,
    RECIPE,
    WEIGHTS,
    ModelFolder,
    save_model,
)
from cryslator_flows.translator.settling import Settling

if TYPE_CHECKING:
    from cryslator_flows.training.recipe import Recipe

# Files of a model that do not depend on its calibration.
KEPT = RECIPE, CURVE, FEATURE_MAP, FEATURE_NUMBERS


def calibrate_model(model: ModelFolder, recipe: Recipe) -> ModelFolder:
    """Fit uncertainty and domain of a model again on its validation pairs, score them and write its card.

    Features of training crystals, element volumes and the rest of relaxed crystals stay as they are. Translated
    structures do not change, so that their scores stay too.

    Parameters
    ----------
    model : ModelFolder
        A model of `train`.
    recipe : Recipe
        Its recipe, with files that exist.

    Returns
    -------
    ModelFolder
        `model`.

    Raises
    ------
    DataError
        A file of the recipe cannot be read or is wrong.
    ModelError
        A file of the model is damaged, or the model is a fine-tuned one.
    """
    metrics = model.metrics()
    if "tuning" in metrics:
        raise ModelError(
            f"{model.path}: fine-tuned from {metrics['tuning']['base']}; run "
            f"`cryslator train {model.path / RECIPE} --from {metrics['tuning']['base']}` again"
        )
    parts, _ = read_training(recipe)
    val = training_pairs(parts.val, recipe.target, ", ".join(map(str, recipe.val)) or str(recipe.pairs))
    targets, state = target_indices(parts.val), model.tensors(CALIBRATION)
    settling = {name.removeprefix("settling."): value for name, value in state.items() if name.startswith("settling.")}
    train = to_pairs(pair_row(record, recipe.target) for record in first_of_each_target(parts.train))
    given = {Element.from_Z(number).symbol for number in set(train.numbers.tolist())}
    if given != (known := set(model.config().elements)):
        raise DataError(
            f"{model.path}: trained on {', '.join(sorted(known))}, but the training pairs have "
            f"{', '.join(sorted(given))}; give the files of its training"
        )
    calibration = calibrate_again(
        model.network(),
        state["known"],
        Seen.count(train.unrelaxed),
        val,
        1 / torch.bincount(targets)[targets],
        "cpu",
        element_volumes=state["element_volumes"],
        settling=Settling(**settling) if settling else None,
    )
    kept = {name: (model.path / name).read_bytes() for name in KEPT if (model.path / name).is_file()}
    config, weights = model.config(), model.tensors(WEIGHTS)
    with new_model(model.path) as place:
        written = save_model(place, config, weights, calibration)
        for name, content in kept.items():
            write_whole(place / name, content)
        if FEATURE_NUMBERS in kept:
            # The features are those of the weights alone.
            numbers = json.loads(kept[FEATURE_NUMBERS]) | {"model_version": written.version()}
            write_whole(place / FEATURE_NUMBERS, json.dumps(numbers, indent=2) + "\n")
        scores = _with_structures(score_tests(written, recipe, structures=False), metrics.get("test", []))
        metrics |= {
            "model_version": written.version(),
            "calibration": describe_calibration(calibration, len(torch.unique(targets))),
        }
        if scores:
            metrics["test"] = [part.model_dump() for part in scores]
        write_metrics(place, metrics, recipe.card)
    return model


def _with_structures(scores: list[Evaluation], before: list[dict[str, Any]]) -> list[Evaluation]:
    """Add the scores of structures of an earlier evaluation on the same pairs."""
    known = {part.chemistry: part for part in map(Evaluation.model_validate, before)}
    # An earlier version of this software scored fewer parts.
    scores = [part for part in scores if part.chemistry in known or not known]
    for part in scores:
        earlier = known.get(part.chemistry)
        if earlier is None or earlier.n_targets != part.n_targets:
            raise DataError(
                f"{part.chemistry}: the test pairs are not those of the card; give the files of its training"
            )
        for score in part.scores:
            score.structure = earlier.score(score.method, score.input).structure
    return scores
