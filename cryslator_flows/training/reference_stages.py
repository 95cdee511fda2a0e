"""Stages in which the paper's system is fitted, each resumable and bounded in time. Torch and numpy only."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from cryslator_flows.errors import DataError
from cryslator_flows.training.checkpoint import (
    by_prefix,
    check_recipe,
    damaged_checkpoint,
    moments_to_arrays,
    read_arrays,
    restore_moments,
    write_arrays,
)
from cryslator_flows.training.loss import measure_scales
from cryslator_flows.training.tensors import Pairs
from cryslator_flows.translator.geometry import shift_between, strain_between

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from cryslator_flows.translator.graph import Crystals
    from cryslator_flows.translator.reference.feature_translation import Discriminator, Generator
    from cryslator_flows.translator.reference.graph_convolution import GraphConvolutionNetwork
    from cryslator_flows.translator.reference.reference_network import ReferenceNetwork

# Gaussian noise on the distances of the Graph-Encoder's inputs, in angstrom, as in the paper.
DISTANCE_NOISE = 1e-5
BATCH_SIZE = 64


@dataclass(frozen=True)
class StageProgress:
    """Progress of a stage after an epoch. `score` is its error on the validation pairs."""

    stage: str
    epoch: int
    minutes: float
    done: float
    score: float

    def describe(self) -> str:
        """Return the progress as one line."""
        return (
            f"{self.stage} epoch {self.epoch}  {self.minutes:.1f} min  {self.done:.0%}  "
            f"validation error {self.score:.4f}"
        )


class TrainingStage(ABC):
    """One stage: a module, its optimisers and its clock, which are saved and restored together.

    Parameters
    ----------
    name : str
        Name of the checkpoint.
    module : nn.Module
        Module to fit.
    n_examples : int
        Number of training examples.
    minutes : float
        Training time in minutes, over all resumed runs together. Learning rates decay to zero by then (half a cosine).
    seed : int
        Seed of all random numbers.
    """

    def __init__(self, name: str, module: nn.Module, n_examples: int, minutes: float, seed: int) -> None:
        self.name, self.module, self.n_examples = name, module, n_examples
        self.minutes, self.seed = minutes, seed
        self.optimizers: list[torch.optim.Optimizer] = []
        self.extra: nn.Module = nn.Identity()
        self.epoch, self.seconds, self.best = 0, 0.0, float("inf")
        self.best_weights = {name: value.clone() for name, value in module.state_dict().items()}

    @abstractmethod
    def step(self, rows: Tensor) -> None:
        """Take one optimiser step on the examples at `rows`."""

    @abstractmethod
    def score(self) -> float:
        """Return the error on the validation pairs. The weights with the lowest one are kept."""

    @property
    def done(self) -> float:
        """Return the used share of the time, 0 to 1."""
        return min(1.0, self.seconds / 60 / self.minutes)

    def add_adam(self, module: nn.Module, learning_rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        """Fit the parameters of a module with Adam."""
        optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate, betas=betas)
        optimizer.param_groups[0]["peak"] = learning_rate
        self.optimizers.append(optimizer)

    def run(self, path: Path, recipe: dict[str, Any], report: Callable[[StageProgress], None]) -> None:
        """Run to the end, or continue a stopped run. The module ends with its best weights.

        Parameters
        ----------
        path : Path
            The checkpoint.
        recipe : dict
            Settings and digests of the data, which identify the checkpoint.
        report : callable
            Called after every epoch.

        Raises
        ------
        DataError
            The checkpoint belongs to another recipe or to other data, or is damaged.
        """
        if path.exists():
            self._restore(path, recipe)
        while self.done < 1:
            self._run_epoch()
            self._save(path, recipe)
            report(StageProgress(self.name, self.epoch, self.seconds / 60, self.done, self.last))
        self.module.load_state_dict(self.best_weights)
        self.module.eval()

    def _run_epoch(self) -> None:
        torch.manual_seed(self.seed + self.epoch)
        self.module.train()
        for rows in torch.randperm(self.n_examples).split(BATCH_SIZE):
            if len(rows) < 2:  # batch norm needs two
                continue
            began = time.perf_counter()
            for optimizer in self.optimizers:
                rate = 0.5 * (1 + float(np.cos(np.pi * self.done)))
                optimizer.param_groups[0]["lr"] = optimizer.param_groups[0]["peak"] * max(rate, 1e-3)
            self.step(rows)
            self.seconds += time.perf_counter() - began
            if self.done >= 1:
                break
        self.epoch += 1
        self.module.eval()
        with torch.no_grad():
            self.last = self.score()
        if self.last < self.best:
            self.best = self.last
            self.best_weights = {name: value.clone() for name, value in self.module.state_dict().items()}

    def _save(self, path: Path, recipe: dict[str, Any]) -> None:
        arrays: dict[str, Any] = {}
        states = (("module", self.module.state_dict()), ("best", self.best_weights), ("extra", self.extra.state_dict()))
        for prefix, state in states:
            arrays |= {f"{prefix}/{name}": value.cpu().numpy() for name, value in state.items()}
        for index, optimizer in enumerate(self.optimizers):
            arrays |= moments_to_arrays(optimizer, f"optimizer{index}")
        arrays["state"] = np.array(json.dumps([self.epoch, self.seconds, self.best]))
        arrays["recipe"] = np.array(json.dumps(recipe))
        write_arrays(path, arrays)

    def _restore(self, path: Path, recipe: dict[str, Any]) -> None:
        arrays = read_arrays(path)
        try:
            check_recipe(path, json.loads(str(arrays["recipe"])), recipe)
            self._take_up(arrays)
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            if isinstance(error, DataError):
                raise
            raise damaged_checkpoint(path, error) from error

    def _take_up(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.epoch, self.seconds, self.best = json.loads(str(arrays["state"]))
        groups = by_prefix(arrays)
        self.module.load_state_dict(groups["module"])
        self.extra.load_state_dict(groups.get("extra", {}))
        self.best_weights = groups["best"]
        for index, optimizer in enumerate(self.optimizers):
            restore_moments(optimizer, groups.get(f"optimizer{index}", {}))


class EnergyStage(TrainingStage):
    """Stage of Graph-Encoder and Regressor, with the mean squared error of the standardised formation energy."""

    def __init__(
        self, name: str, network: ReferenceNetwork, train: Pairs, val: Pairs, minutes: float, device: str
    ) -> None:
        self.gcn: GraphConvolutionNetwork = network.baseline(name)
        super().__init__(f"energy-{name}", self.gcn, len(train), minutes, seed=1)
        self.network, self.train, self.val, self.device = network, train, val, device
        self.gcn.mean.copy_(train.energy.mean())
        self.gcn.spread.copy_(train.energy.std())
        self.best_weights = {key: value.clone() for key, value in self.gcn.state_dict().items()}
        self.add_adam(self.gcn, 1e-3)

    def step(self, rows: Tensor) -> None:
        """Take one step."""
        batch = self.train.take(rows).to(self.device)
        edges = self.network.find_edges(batch.unrelaxed)
        energy = self.gcn.energy(self.gcn.encode(batch.unrelaxed, edges, DISTANCE_NOISE))
        loss = ((energy - batch.energy) / self.gcn.spread).square().mean()
        self.optimizers[0].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers[0].step()

    def score(self) -> float:
        """Return the mean absolute error, in eV/atom."""
        errors = []
        for rows in torch.arange(len(self.val)).split(256):
            batch = self.val.take(rows).to(self.device)
            features = self.gcn.encode(batch.unrelaxed, self.network.find_edges(batch.unrelaxed))
            errors.append((self.gcn.energy(features) - batch.energy).abs())
        return float(torch.cat(errors).mean())


class TranslationStage(TrainingStage):
    """Stage of generator against discriminator on the crystal features of unrelaxed and relaxed crystals.

    Losses of the paper: mean absolute error of the translated feature (weight 1), least-squares GAN (0.1), identity
    (0.1). By the identity loss a relaxed feature must not change. Unrelaxed features have Gaussian noise.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        train: tuple[Tensor, Tensor],
        val: tuple[Tensor, Tensor],
        minutes: float,
        rates: tuple[float, float],
        noise: float,
    ) -> None:
        super().__init__("translation", generator, len(train[0]), minutes, seed=2)
        self.generator, self.discriminator, self.extra = generator, discriminator, discriminator
        self.train, self.val, self.noise = train, val, noise
        self.add_adam(generator, rates[0], betas=(0.5, 0.999))
        self.add_adam(discriminator, rates[1], betas=(0.5, 0.999))

    def step(self, rows: Tensor) -> None:
        """Take one step of the generator, and one of the discriminator."""
        unrelaxed, relaxed = (part[rows.to(part.device)] for part in self.train)
        unrelaxed = unrelaxed + self.noise * torch.randn_like(unrelaxed)
        translated = self.generator.translate(unrelaxed)
        loss = (translated - relaxed).abs().mean()
        loss = loss + 0.1 * (self.discriminator(unrelaxed, translated) - 1).square().mean()
        loss = loss + 0.1 * self.generator(relaxed).abs().mean()
        self.optimizers[0].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers[0].step()
        real = (self.discriminator(unrelaxed, relaxed) - 1).square().mean()
        fake = self.discriminator(unrelaxed, translated.detach()).square().mean()
        self.optimizers[1].zero_grad(set_to_none=True)
        (0.5 * (real + fake)).backward()
        self.optimizers[1].step()

    def score(self) -> float:
        """Return the mean absolute error of the translated features."""
        unrelaxed, relaxed = self.val
        parts = [self.generator.translate(part) for part in unrelaxed.split(256)]
        return float((torch.cat(parts) - relaxed).abs().mean())


class StructureStage(TrainingStage):
    """Stage of cell or positions from crystal features, with the mean squared error in units of the typical target."""

    def __init__(
        self,
        which: str,
        network: ReferenceNetwork,
        train: tuple[Pairs, Tensor, Tensor],
        val: tuple[Pairs, Tensor, Tensor],
        minutes: float,
        device: str,
    ) -> None:
        super().__init__(which, network.cell if which == "cell" else network.position, len(train[0]), minutes, seed=3)
        self.which, self.network, self.device = which, network, device
        self.train, self.val = train, val
        scales = measure_scales(train[0])
        self.scale = scales.strain if which == "cell" else scales.shift
        self.add_adam(self.module, 1e-3 if which == "cell" else 3e-4)

    def _errors(self, data: tuple[Pairs, Tensor, Tensor], rows: Tensor) -> Tensor:
        pairs, encoded, translated = data
        batch = pairs.take(rows).to(self.device)
        rows = rows.to(encoded.device)
        crystals: Crystals = batch.unrelaxed
        inputs = crystals, self.network.find_edges(crystals), encoded[rows], translated[rows]
        if self.which == "cell":
            return self.network.cell.strain(*inputs) - strain_between(crystals.lattices, batch.relaxed.lattices)
        return self.network.position.shift(*inputs) - shift_between(crystals, batch.relaxed)

    def step(self, rows: Tensor) -> None:
        """Take one step."""
        loss = (self._errors(self.train, rows) / self.scale).square().mean()
        self.optimizers[0].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers[0].step()

    def score(self) -> float:
        """Return the mean absolute error of the strain, or in angstrom of the displacement, per component."""
        parts = [self._errors(self.val, rows).abs().flatten() for rows in torch.arange(len(self.val[0])).split(256)]
        return float(torch.cat(parts).mean())
