"""Calibration of a model that is fine-tuned repeatedly, each time on few pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from cryslator_flows.system.whole_files import write_whole
from cryslator_flows.training.evaluate import split
from cryslator_flows.training.new_model import new_model
from cryslator_flows.training.recipe import Recipe
from cryslator_flows.training.train import describe_calibration, write_metrics
from cryslator_flows.translator.calibration import LEVELS, weighted_quantile
from cryslator_flows.translator.chemistry import Seen
from cryslator_flows.translator.loaded import LoadedModel, to_crystals
from cryslator_flows.translator.model_folder import RECIPE, save_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

    from cryslator_flows.translator.calibration import Calibration
    from cryslator_flows.translator.model_folder import ModelFolder

# This many new errors weigh as much as all earlier ones.
PATIENCE = 20
# Largest ratio of error to stated uncertainty that counts, and inverse of the smallest one. One outlier of a small
# batch must not inflate or suppress the uncertainty.
LARGEST_RATIO = 10.0


def track_calibration(
    tuned: ModelFolder, base: ModelFolder, before: ModelFolder, seen: Sequence[Structure], ratios: Sequence[float]
) -> ModelFolder:
    """Calibrate a fine-tuned model from its base and from errors of predictions made before the tuning.

    A handful of pairs cannot fit a calibration, and training pairs of a model would flatter it. Two parts of the base's
    calibration are therefore kept. They are the recognition of relaxed crystals, and the error as a function of the
    network's scale and of the distance from the training data. The new structures join the training data for distances:
    near them, the uncertainty falls.

    The two stated widths follow the errors of the newest batch, predicted before its relaxation. They are multiplied by
    q^(n / (n + 20)). Here q is the 68 % quantile of n errors over their stated 68 % half widths. This is adaptive
    conformal inference (I. Gibbs and E. Candes, NeurIPS 34, 1660 (2021)) with widths in place of levels. The n errors
    count as much as n of 20 others, so that two pairs hardly change the result of the base's validation. Batches are
    chosen, not drawn. Predicted energies of promising candidates are more often too low, so the widths are rather too
    large.

    Parameters
    ----------
    tuned : ModelFolder
        The fine-tuned model. Its calibration is replaced.
    base : ModelFolder
        The base of the fine-tuning.
    before : ModelFolder
        The model that predicted the newest batch: the base, or the result of the last tuning.
    seen : sequence of Structure
        Unrelaxed structures of the tuning.
    ratios : sequence of float
        Absolute error over the stated 68 % half width of each candidate of the newest batch. It may be empty.

    Returns
    -------
    ModelFolder
        `tuned`.

    Raises
    ------
    ModelError
        A file of a model is damaged.
    StoreError
        The model cannot be written.
    """
    factor = 1.0
    if ratios:
        errors = torch.tensor(list(ratios), dtype=torch.float64).clamp(1 / LARGEST_RATIO, LARGEST_RATIO)
        quantile = weighted_quantile(errors, torch.ones_like(errors), LEVELS[0])
        factor = quantile ** (len(errors) / (len(errors) + PATIENCE))
    quantiles = before.calibration().quantiles * factor
    return with_calibration(tuned, replace(extend_known(tuned, base, seen), quantiles=quantiles))


def extend_known(tuned: ModelFolder, base: ModelFolder, seen: Sequence[Structure]) -> Calibration:
    """Return the calibration of the base, in which the structures of a tuning join the training data.

    Parameters
    ----------
    tuned, base, seen
        As in `track_calibration`.
    """
    calibration, model, crystals = base.calibration(), LoadedModel(tuned), to_crystals(list(seen))
    features = [model.predict(batch).features.to(calibration.known) for batch in split(crystals)]
    return replace(
        calibration,
        known=torch.cat([calibration.known, *features]),
        seen=calibration.seen + Seen.count(crystals),
    )


def with_calibration(tuned: ModelFolder, calibration: Calibration) -> ModelFolder:
    """Replace the calibration of a fine-tuned model in its folder.

    Raises
    ------
    ModelError
        A file of the model is damaged.
    StoreError
        The model cannot be written.
    """
    config, weights, metrics = tuned.config(), tuned.network().state_dict(), tuned.metrics()
    recipe = (tuned.path / RECIPE).read_bytes() if metrics else b""
    with new_model(tuned.path) as place:
        model = save_model(place, config, weights, calibration)
        if metrics:
            write_whole(place / RECIPE, recipe)
            metrics["calibration"] = describe_calibration(calibration, metrics["calibration"]["targets"])
            card = Recipe.from_file(place / RECIPE).card
            write_metrics(place, {**metrics, "model_version": model.version()}, card)
    return tuned
