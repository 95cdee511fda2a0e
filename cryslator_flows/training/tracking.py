"""Calibration of a model that is fine-tuned again and again, each time on few pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from cryslator_flows.system.whole_files import write_whole
from cryslator_flows.training.new_model import new_model
from cryslator_flows.training.recipe import Recipe
from cryslator_flows.training.train import write_metrics
from cryslator_flows.translator.calibration import LEVELS, weighted_quantile
from cryslator_flows.translator.loaded import LoadedModel, to_crystals
from cryslator_flows.translator.model_folder import RECIPE, save_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

    from cryslator_flows.translator.model_folder import ModelFolder

# How many new errors weigh as much as all that was known before.
PATIENCE = 20
# Error over stated uncertainty that is believed at most, and its inverse at least: one outlier of a small batch must
# not blow up or shut off the uncertainty.
LARGEST_RATIO = 10.0


def track_calibration(
    tuned: ModelFolder, base: ModelFolder, before: ModelFolder, seen: Sequence[Structure], ratios: Sequence[float]
) -> ModelFolder:
    """Calibrate a fine-tuned model on what is known of its base and on errors of predictions made before.

    A handful of pairs cannot fit a calibration, and those that a model was trained on would flatter it. So what tells
    relaxed crystals, and the size of the error as a function of the network's own scale and of the distance from the
    training data, stay those of the base. The structures it was tuned on join the training data that distances are
    measured from: nearby,
    the uncertainty falls. The two stated widths follow the errors of the newest batch, predicted before it was
    relaxed: they are multiplied by q^(n / (n + 20)), with q the 68 % quantile of n errors over their stated 68 % half
    widths. That is adaptive conformal inference (I. Gibbs and E. Candes, NeurIPS 34, 1660 (2021)) with widths in place
    of levels: n errors count as much as n of 20 others, so that two pairs hardly change what the base's validation
    found. Batches are chosen, not drawn; what is promising is predicted too low more often, so that the widths rather
    come out too wide.

    Parameters
    ----------
    tuned : ModelFolder
        The fine-tuned model; its calibration is replaced.
    base : ModelFolder
        The model it was tuned from.
    before : ModelFolder
        The model that predicted the newest batch: the base, or what was tuned the last time.
    seen : sequence of Structure
        The unrelaxed structures it was tuned on.
    ratios : sequence of float
        Absolute error over the stated 68 % half width of each candidate of the newest batch; may be empty.

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
    calibration = base.calibration()
    outcome = LoadedModel(tuned).predict(to_crystals(list(seen)))
    factor = 1.0
    if ratios:
        errors = torch.tensor(list(ratios), dtype=torch.float64).clamp(1 / LARGEST_RATIO, LARGEST_RATIO)
        quantile = weighted_quantile(errors, torch.ones_like(errors), LEVELS[0])
        factor = quantile ** (len(errors) / (len(errors) + PATIENCE))
    tracked = replace(
        calibration,
        quantiles=before.calibration().quantiles * factor,
        known=torch.cat([calibration.known, outcome.features.to(calibration.known)]),
    )
    config, weights, metrics = tuned.config(), tuned.network().state_dict(), tuned.metrics()
    recipe = (tuned.path / RECIPE).read_bytes() if metrics else b""
    with new_model(tuned.path) as place:
        model = save_model(place, config, weights, tracked)
        if metrics:
            write_whole(place / RECIPE, recipe)
            metrics["calibration"]["quantiles"] = tracked.quantiles.tolist()
            card = Recipe.from_file(place / RECIPE).card
            write_metrics(place, {**metrics, "model_version": model.version()}, card)
    return tuned
