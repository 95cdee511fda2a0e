"""Fit the network to a prepared tensor file: resumable at any step, on any machine with torch and numpy.

``python -m cryslator_flows.training.fit prepared.npz RUN_DIR`` does the whole fit. ``cryslator train`` calls the
same function and then writes the model folder.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from dataclasses import asdict
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from cryslator_flows.errors import CryslatorError, DataError
from cryslator_flows.system.whole_files import write_whole
from cryslator_flows.training.checkpoint import (
    by_prefix,
    check_recipe,
    damaged_checkpoint,
    moments_to_arrays,
    read_arrays,
    restore_moments,
    sole_training,
    write_arrays,
)
from cryslator_flows.training.fit_settings import FitConfig, Progress, torch_threads
from cryslator_flows.training.loss import LossWeights, loss_terms, measure_scales
from cryslator_flows.training.tensors import Augmentation, Pairs, concatenate, digest, from_arrays, load_arrays
from cryslator_flows.training.validation import validate
from cryslator_flows.translator.network import Network, NetworkConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


# A killed fit loses at most this many seconds.
SAVE_SECONDS = 180.0


class Fit:
    """Fit in progress: network, running average, optimiser and clock, which are saved and restored together."""

    def __init__(self, arrays: dict[str, Tensor], network: NetworkConfig, config: FitConfig, device: str) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.device = device
        self.pairs, self.validation = from_arrays(arrays, "train"), from_arrays(arrays, "val")
        self.relaxed = from_arrays(arrays, "relaxed")
        if config.pairs is not None:
            share = config.pairs / len(self.pairs)
            self.pairs, self.relaxed = (thin(part, share, config.seed) for part in (self.pairs, self.relaxed))
        self.scales = measure_scales(self.pairs)
        tables = (arrays[f"elements/{name}"] for name in ("table", "radii", "volumes"))
        self.network = Network(network, *tables).to(device)
        energies = self.pairs.energy[~self.pairs.energy.isnan()]
        if len(energies):
            nn.init.constant_(cast("nn.Linear", self.network.energy_head[-1]).bias, float(energies.mean()))
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.step = 0
        self.epoch = 0
        self.batch = 0  # steps done in this epoch
        self.drawn = torch.empty(0, dtype=torch.uint8)  # state of the random numbers after them
        self.sums: dict[str, float] = {}  # of the loss over them
        self.seconds = 0.0
        self.best = float("inf")
        self.best_weights = copy.deepcopy(self.average.state_dict())
        self.history: list[Progress] = []

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimiser steps in an epoch."""
        return ceil(len(self.pairs) / (self.config.batch_size - self.n_noisy))

    @property
    def done(self) -> float:
        """Finished share of the fit, 0 to 1, by steps or by time, whichever is larger."""
        by_steps = self.step / (self.config.epochs * self.steps_per_epoch)
        by_time = 0.0 if self.config.minutes is None else self.seconds / 60 / self.config.minutes
        return min(1.0, max(by_steps, by_time))

    @property
    def recipe(self) -> dict[str, Any]:
        """Identity of a checkpoint: settings, and digest of training and validation data."""
        return {"network": asdict(self.network.config), "fit": asdict(self.config), "pairs": self._digest}

    @cached_property
    def _digest(self) -> str:
        return digest(self.pairs, self.relaxed, self.validation)

    def run_epoch(
        self, report_step: Callable[[float], None] | None = None, keep: Callable[[], None] | None = None
    ) -> Progress:
        """Train until the end of the epoch or of the time, then validate.

        Parameters
        ----------
        report_step : callable or None
            Called after every step with the finished share.
        keep : callable or None
            Called every `SAVE_SECONDS`, to save.
        """
        config, weights = self.config, asdict(self.config.weights)
        # Every epoch has its own seed, so that a resumed fit draws the same numbers as an uninterrupted one.
        generator = torch.Generator().manual_seed(config.seed + 1 + self.epoch)
        plan = self.plan(generator)
        if self.batch:
            generator.set_state(self.drawn)
        self.network.train()
        began = kept = time.perf_counter()
        for rows in plan[self.batch :]:
            if self.done >= 1:
                break
            batch, denoise = self.compose(rows, generator)
            inputs = config.augmentation.draw(batch, denoise, generator).to(self.device)
            pairs = batch.to(self.device)
            terms = loss_terms(self.network, self.average, inputs, pairs, self.scales)
            total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
            self._update(total)
            for name, term in {**terms, "total": total}.items():
                self.sums[name] = self.sums.get(name, 0.0) + float(term.detach())
            self.batch += 1
            self.seconds += time.perf_counter() - began
            if keep is not None and time.perf_counter() - kept > SAVE_SECONDS:
                self.drawn = generator.get_state()
                keep()
                kept = time.perf_counter()
            if report_step is not None:
                report_step(self.done)
            began = time.perf_counter()
        loss = {name: value / max(1, self.batch) for name, value in self.sums.items()}
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, {}
        validation = self.validate()
        if validation["score"] < self.best:
            self.best = validation["score"]
            self.best_weights = {name: value.clone() for name, value in self.average.state_dict().items()}
        progress = Progress(self.epoch, self.step, self.seconds / 60, self.done, loss, validation)
        self.history.append(progress)
        return progress

    @property
    def n_noisy(self) -> int:
        """Number of relaxed crystals to denoise in a batch."""
        size = self.config.batch_size
        return min(round(size * self.config.denoising_share), size - 1, len(self.relaxed))

    def plan(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return the rows of the pairs of each batch of an epoch."""
        order = torch.randperm(len(self.pairs), generator=generator)
        return order.split(self.config.batch_size - self.n_noisy)

    def compose(self, rows: Tensor, generator: torch.Generator) -> tuple[Pairs, Tensor]:
        """Return a batch of these pairs and of others, and a mask of the examples to denoise, [pairs]."""
        batch = self.pairs.take(rows)
        if self.n_noisy:
            others = torch.randint(len(self.relaxed), (self.n_noisy,), generator=generator)
            batch = concatenate(batch, self.relaxed.take(others))
        return batch, torch.arange(len(batch)) >= len(rows)

    def validate(self) -> dict[str, float]:
        """Return errors on the validation pairs. The best weights have the lowest ``score``."""
        return validate(self.average, self.validation)

    def decay(self) -> float:
        """Return the decay of the running average. It is small at first, as the weights start from noise."""
        return min(self.config.ema_decay, (1 + self.step) / (10 + self.step))

    def _update(self, total: Tensor) -> None:
        """Take one step of the optimiser and of the running average. Gradients that are not finite are skipped."""
        config = self.config
        warm = min(1.0, (self.step + 1) / config.warmup_steps)
        cosine = 0.5 * (1 + float(np.cos(np.pi * self.done)))
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * warm * max(cosine, 1e-3)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        if torch.isfinite(norm):
            self.optimizer.step()
        self.step += 1
        decay = self.decay()
        with torch.no_grad():
            averages: list[Tensor] = [*self.average.parameters()]
            weights: list[Tensor] = [*self.network.parameters()]
            torch._foreach_lerp_(averages, weights, 1 - decay)

    def save(self, path: Path) -> None:
        """Write the data that a resumed fit needs. The file is replaced atomically."""
        arrays: dict[str, Any] = {}
        for prefix, module in (("network", self.network), ("average", self.average)):
            arrays |= {f"{prefix}/{name}": value.cpu().numpy() for name, value in module.state_dict().items()}
        arrays |= {f"best/{name}": value.cpu().numpy() for name, value in self.best_weights.items()}
        arrays |= moments_to_arrays(self.optimizer, "optimizer")
        state = {
            "step": self.step,
            "epoch": self.epoch,
            "batch": self.batch,
            "sums": self.sums,
            "seconds": self.seconds,
            "best": self.best,
            "recipe": self.recipe,
            "history": [asdict(progress) for progress in self.history],
        }
        arrays["drawn"] = self.drawn.numpy()
        arrays["state"] = np.array(json.dumps(state))
        write_arrays(path, arrays)

    def restore(self, path: Path) -> None:
        """Continue from the file of `save`.

        Raises
        ------
        DataError
            The checkpoint belongs to another recipe or to other data, or is damaged.
        """
        arrays = read_arrays(path)
        try:
            self._restore(path, arrays)
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            if isinstance(error, DataError):
                raise
            raise damaged_checkpoint(path, error) from error

    def _restore(self, path: Path, arrays: dict[str, NDArray[Any]]) -> None:
        state = json.loads(str(arrays["state"]))
        check_recipe(path, state["recipe"], self.recipe)
        self.drawn = torch.from_numpy(arrays["drawn"])
        parts = by_prefix(arrays)
        self.network.load_state_dict(parts["network"])
        self.average.load_state_dict(parts["average"])
        self.best_weights = parts["best"]
        restore_moments(self.optimizer, parts.get("optimizer", {}))
        self.step, self.epoch = state["step"], state["epoch"]
        self.batch, self.sums = state["batch"], state["sums"]
        self.seconds, self.best = state["seconds"], state["best"]
        self.history = [Progress(**row) for row in state["history"]]


AnyFit = TypeVar("AnyFit", bound=Fit)


def thin(pairs: Pairs, share: float, seed: int) -> Pairs:
    """Return a random share of pairs, at least one if there are any."""
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))
    return pairs.take(order[: max(1, round(share * len(pairs)))])


def read_settings(arrays: dict[str, Tensor]) -> tuple[NetworkConfig, FitConfig]:
    """Read the shape of the network and the settings of the fit from a prepared tensor file."""
    settings = json.loads(bytes(arrays["settings"].tolist()))
    augmentation = Augmentation(**settings["fit"].pop("augmentation"))
    weights = LossWeights(**settings["fit"].pop("weights"))
    config = FitConfig(**settings["fit"], augmentation=augmentation, weights=weights)
    return NetworkConfig(**settings["network"]), config


def fit(
    prepared: Path,
    run_dir: Path,
    report: Callable[[Progress], None],
    report_step: Callable[[float], None] | None = None,
    kind: type[AnyFit] = Fit,  # type: ignore[assignment]
) -> AnyFit:
    """Fit a network to a prepared tensor file, or continue a stopped run.

    Parameters
    ----------
    prepared : Path
        File of `cryslator_flows.training.prepare.prepare`, which has the settings of network and fit.
    run_dir : Path
        Folder for ``checkpoint.npz``, written every `SAVE_SECONDS` and after every epoch, and ``metrics.jsonl``, with
        one line for each epoch.
    report : callable
        Called after every epoch.
    report_step : callable or None
        Called after every step with the finished share.
    kind : type of Fit
        Class of the fit.

    Returns
    -------
    Fit
        The finished fit. Its `best_weights` are the weights with the best validation score.

    Raises
    ------
    DataError
        The checkpoint in `run_dir` belongs to another recipe or to other data, a file is damaged, or no epoch has a
        finite score.
    StoreError
        The checkpoint cannot be written.
    """
    arrays = load_arrays(prepared)
    network, config = read_settings(arrays)
    with torch_threads(config.threads):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        state = kind(arrays, network, config, device)
        run_dir.mkdir(parents=True, exist_ok=True)
        checkpoint = run_dir / "checkpoint.npz"
        if checkpoint.exists():
            state.restore(checkpoint)
            _write_history(state, run_dir)
        while state.done < 1 or state.batch:
            progress = state.run_epoch(report_step, lambda: state.save(checkpoint))
            state.save(checkpoint)
            _write_history(state, run_dir)
            report(progress)
    if not np.isfinite(state.best):
        raise DataError(
            f"{run_dir}: no epoch has a finite validation score, so there are no weights to keep; see the errors in "
            "metrics.jsonl there, look for wrong pairs or lower learning_rate, and train in another folder"
        )
    return state


def _write_history(state: Fit, run_dir: Path) -> None:
    lines = "".join(json.dumps(asdict(row)) + "\n" for row in state.history)
    write_whole(run_dir / "metrics.jsonl", lines)


if __name__ == "__main__":
    try:
        with sole_training(Path(sys.argv[2])):
            fit(Path(sys.argv[1]), Path(sys.argv[2]), lambda progress: print(progress.describe(), flush=True))
    except CryslatorError as error:
        sys.exit(f"Error: {error}")
