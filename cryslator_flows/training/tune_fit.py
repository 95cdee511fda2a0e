"""Fit of a fine-tuning: from the weights of a base, with old pairs in every batch. Torch and numpy only."""

from __future__ import annotations

import copy
from math import ceil, isnan, nan
from typing import TYPE_CHECKING, Any

import torch

from cryslator_flows.training.fit import Fit, thin
from cryslator_flows.training.fit_settings import FitConfig, Progress
from cryslator_flows.training.loss import measure_scales
from cryslator_flows.training.tensors import Pairs, concatenate, from_arrays
from cryslator_flows.training.validation import validate

if TYPE_CHECKING:
    from torch import Tensor

    from cryslator_flows.translator.network import NetworkConfig

BASE = "base/"
# Smallest number of steps in an epoch. Few new pairs would otherwise make epochs of one or two steps.
STEPS_PER_EPOCH = 50
# Largest number of old validation pairs that are scored after every epoch.
OLD_VALIDATION = 300
COMPARED = "energy_mae", "volume_error", "displacement"


class TuneFit(Fit):
    """Fine-tuning in progress: a `Fit` with another start, other batches and another score.

    The running average starts at the base. An epoch is one pass over the new pairs, or several if they are few. The
    score of an epoch is the ratio of its errors to errors of the base, with equal weight for new and old validation
    pairs. It is averaged over energy, volume and displacement. The base has the score 1 and is the result if no epoch
    is better.
    """

    def __init__(self, arrays: dict[str, Tensor], network: NetworkConfig, config: FitConfig, device: str) -> None:
        super().__init__(arrays, network, config, device)
        self.replay = from_arrays(arrays, "replay")
        old = from_arrays(arrays, "old_val")
        self.old_validation = thin(old, min(1, OLD_VALIDATION / max(1, len(old))), config.seed) if len(old) else old
        self.replay_share = float(arrays["replay_share"])
        n_old = min(config.batch_size - 1, round(config.batch_size * self.replay_share))
        self.n_old = n_old if len(self.replay) else 0
        self.scales = measure_scales(concatenate(self.pairs, self.replay))
        weights = {name.removeprefix(BASE): value for name, value in arrays.items() if name.startswith(BASE)}
        # A base for another target has no head for this one.
        weights = {**self.network.state_dict(), **weights}
        self.network.load_state_dict(weights)
        self.average.load_state_dict(weights)
        self.best_weights = copy.deepcopy(self.average.state_dict())
        self.start: dict[str, float] = {}
        self.start = self.validate()
        self.best = self.start["score"]
        self.history = [Progress(0, 0, 0.0, 0.0, {}, self.start)]

    @property
    def recipe(self) -> dict[str, Any]:
        """Identity of a checkpoint: that of any fit, and the share of old pairs."""
        return {**super().recipe, "replay_share": self.replay_share}

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimiser steps in an epoch."""
        return max(STEPS_PER_EPOCH, ceil(len(self.pairs) / (self.config.batch_size - self.n_old)))

    def plan(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return the rows of the new pairs of each batch."""
        n_new = self.config.batch_size - self.n_old
        passes = ceil(self.steps_per_epoch * n_new / len(self.pairs))
        order = torch.cat([torch.randperm(len(self.pairs), generator=generator) for _ in range(passes)])
        return order.split(n_new)[: self.steps_per_epoch]

    def compose(self, rows: Tensor, generator: torch.Generator) -> tuple[Pairs, Tensor]:
        """Return a batch of these pairs and of random old ones."""
        batch = self.pairs.take(rows)
        if self.n_old:
            old = torch.randint(len(self.replay), (self.n_old,), generator=generator)
            batch = concatenate(batch, self.replay.take(old))
        return batch, torch.zeros(len(batch), dtype=torch.bool)

    def validate(self) -> dict[str, float]:
        """Return errors on the new validation pairs and, with the prefix ``old_``, on the old ones."""
        found = validate(self.average, self.validation)
        if len(self.old_validation):
            found |= {f"old_{name}": value for name, value in validate(self.average, self.old_validation).items()}
        found.pop("old_score", None)
        start = self.start or found
        ratios = []
        for name in COMPARED:
            # Sum before division: a base without error on old pairs must not inflate the score.
            known = [part for part in (name, f"old_{name}") if not isnan(start.get(part, nan))]
            if known:
                ratios.append(sum(found[part] for part in known) / max(sum(start[part] for part in known), 1e-3))
        return {**found, "score": sum(ratios) / len(ratios)}

    def decay(self) -> float:
        """Return the decay of the running average. It is constant, as the average starts from the base."""
        return self.config.ema_decay
