"""Fit the network to a prepared tensor file: resumable, time-bounded, on any machine with torch and numpy.

``python -m cryslator_flows.translator.fit prepared.npz RUN_DIR`` is the whole of it; ``cryslator train`` calls the
same function and then writes the model folder.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from cryslator_flows.translator.adversary import Adversary
from cryslator_flows.translator.checkpoint import moments_to_arrays, restore_moments, write_arrays
from cryslator_flows.translator.loss import LossWeights, loss_terms, measure_scales
from cryslator_flows.translator.network import Network, NetworkConfig
from cryslator_flows.translator.pairs import Augmentation, Pairs, concatenate, from_arrays, load_arrays
from cryslator_flows.translator.validation import validate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class FitConfig:
    """How the network is fitted.

    Parameters
    ----------
    epochs : int
        Passes over the training pairs at most.
    minutes : float
        Training time at most, over all resumed runs together; the learning rate has decayed to its end by then.
    batch_size : int
        Pairs in a step.
    learning_rate : float
        Peak of the schedule: linear warm-up, then cosine decay.
    warmup_steps : int
        Steps of the warm-up.
    weight_decay : float
        Of AdamW.
    clip : float
        Largest norm of the gradient.
    ema_decay : float
        Decay of the running average of the weights, which is teacher and result.
    pairs : int or None
        Training pairs to use, drawn at random, with the same share of the relaxed crystals; None for all.
    denoising_share : float
        Share of the examples that are relaxed crystals to be denoised.
    weights : LossWeights
        Weight of each term of the loss.
    augmentation : Augmentation
        How inputs are drawn.
    seed : int
        Of all random numbers.
    threads : int
        Torch threads; 0 leaves torch's own choice.
    """

    epochs: int = 60
    minutes: float = 60.0
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup_steps: int = 300
    weight_decay: float = 0.01
    clip: float = 5.0
    ema_decay: float = 0.998
    pairs: int | None = None
    denoising_share: float = 0.15
    weights: LossWeights = field(default_factory=LossWeights)
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0
    threads: int = 0


@dataclass(frozen=True)
class Progress:
    """Where a fit stands after an epoch.

    Parameters
    ----------
    epoch : int
        Epochs done.
    minutes : float
        Training time spent, earlier runs included.
    done : float
        Share of the epochs or of the time, whichever is further, 0 to 1.
    loss : dict
        Mean of each term of the loss over the epoch.
    validation : dict
        Metrics on the validation pairs, see `validate`.
    """

    epoch: int
    minutes: float
    done: float
    loss: dict[str, float]
    validation: dict[str, float]

    def describe(self) -> str:
        """One line."""
        validation = ", ".join(f"{name} {value:.4f}" for name, value in self.validation.items())
        return (
            f"epoch {self.epoch}  {self.minutes:.1f} min  {self.done:.0%}  loss {self.loss['total']:.3f}  {validation}"
        )


class Fit:
    """A fit in progress: network, running average, optimiser and clock, saved and restored together."""

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
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, foreach=True
        )
        self.adversary = Adversary(network.width, config.learning_rate, device) if config.weights.adversarial else None
        self.step = 0
        self.epoch = 0
        self.seconds = 0.0
        self.best = float("inf")
        self.best_weights = copy.deepcopy(self.average.state_dict())
        self.history: list[Progress] = []

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        examples = len(self.pairs) / (1 - self.config.denoising_share)
        return max(1, int(examples) // self.config.batch_size)

    @property
    def done(self) -> float:
        """Share of the fit that lies behind, 0 to 1, by steps or by time, whichever is further."""
        by_steps = self.step / (self.config.epochs * self.steps_per_epoch)
        return min(1.0, max(by_steps, self.seconds / 60 / self.config.minutes))

    def run_epoch(self, report_step: Callable[[float], None] | None = None) -> Progress:
        """Train for one epoch, or until the time is up, then validate."""
        config, weights = self.config, asdict(self.config.weights)
        sums: dict[str, Tensor] = {}
        # Every epoch starts from its own seed, so that a resumed fit draws what an unbroken one draws.
        torch.manual_seed(config.seed + 1 + self.epoch)
        generator = torch.Generator().manual_seed(config.seed + 1 + self.epoch)
        self.network.train()
        steps = 0
        began = time.perf_counter()
        for batch, denoise in self.draw(generator):
            inputs = config.augmentation.draw(batch, denoise, generator).to(self.device)
            pairs = batch.to(self.device)
            terms, prediction, goal = loss_terms(self.network, self.average, inputs, pairs, self.scales)
            if self.adversary is not None:
                self.adversary.learn(prediction, goal)
                terms["adversarial"] = self.adversary.deceive(prediction)
            total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
            self._update(total)
            for name, term in {**terms, "total": total}.items():
                sums[name] = sums.get(name, torch.zeros((), device=self.device)) + term.detach()
            steps += 1
            self.seconds += time.perf_counter() - began
            if report_step is not None:
                report_step(self.done)
            if self.done >= 1:
                break
            began = time.perf_counter()
        self.epoch += 1
        validation = self.validate()
        if validation["score"] < self.best:
            self.best = validation["score"]
            self.best_weights = {name: value.clone() for name, value in self.average.state_dict().items()}
        loss = {name: float(value) / steps for name, value in sums.items()}
        progress = Progress(self.epoch, self.seconds / 60, self.done, loss, validation)
        self.history.append(progress)
        return progress

    def draw(self, generator: torch.Generator) -> Iterator[tuple[Pairs, Tensor]]:
        """The batches of an epoch, each with what is True where an example is to be denoised, [pairs]."""
        n_noisy = min(round(self.config.batch_size * self.config.denoising_share), len(self.relaxed))
        for chunk in torch.randperm(len(self.pairs), generator=generator).split(self.config.batch_size - n_noisy):
            batch = self.pairs.take(chunk)
            if n_noisy:
                rows = torch.randint(len(self.relaxed), (n_noisy,), generator=generator)
                batch = concatenate(batch, self.relaxed.take(rows))
            yield batch, torch.arange(len(batch)) >= len(chunk)

    def validate(self) -> dict[str, float]:
        """Errors on the validation pairs; the lowest ``score`` is that of the best weights."""
        return validate(self.average, self.validation)

    def decay(self) -> float:
        """Share of the running average that the next step leaves: small at first, as it starts from noise."""
        return min(self.config.ema_decay, (1 + self.step) / (10 + self.step))

    def _update(self, total: Tensor) -> None:
        """One step of the optimiser and of the running average; a step that is not finite is left out."""
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
        """Write everything a resumed fit needs; the file is replaced in one move."""
        arrays: dict[str, Any] = {}
        for prefix, module in (("network", self.network), ("average", self.average)):
            arrays |= {f"{prefix}/{name}": value.cpu().numpy() for name, value in module.state_dict().items()}
        arrays |= {f"best/{name}": value.cpu().numpy() for name, value in self.best_weights.items()}
        arrays |= moments_to_arrays(self.optimizer, "optimizer")
        if self.adversary is not None:
            weights = self.adversary.network.state_dict()
            arrays |= {f"adversary/{name}": value.cpu().numpy() for name, value in weights.items()}
            arrays |= moments_to_arrays(self.adversary.optimizer, "adversary_optimizer")
        state = {
            "step": self.step,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "best": self.best,
            "network": asdict(self.network.config),
            "history": [asdict(progress) for progress in self.history],
        }
        arrays["state"] = np.array(json.dumps(state))
        write_arrays(path, arrays)

    def restore(self, path: Path) -> None:
        """Continue from what `save` wrote.

        Raises
        ------
        ValueError
            The checkpoint belongs to a network of another shape.
        """
        with np.load(path, allow_pickle=False) as archive:
            state = json.loads(str(archive["state"]))
            if state["network"] != asdict(self.network.config):
                raise ValueError(f"{path}: checkpoint of another network ({state['network']}); remove it to start anew")
            parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "best": {}}
            parts["adversary"] = {}
            moments: dict[str, dict[int, dict[str, Tensor]]] = {"optimizer": {}, "adversary_optimizer": {}}
            for name in archive.files:
                group, _, rest = name.partition("/")
                if group in parts:
                    parts[group][rest] = torch.from_numpy(archive[name])
                elif group in moments:
                    index, _, key = rest.partition("/")
                    moments[group].setdefault(int(index), {})[key] = torch.from_numpy(archive[name])
        self.network.load_state_dict(parts["network"])
        self.average.load_state_dict(parts["average"])
        self.best_weights = parts["best"]
        restore_moments(self.optimizer, moments["optimizer"])
        if self.adversary is not None:
            self.adversary.network.load_state_dict(parts["adversary"])
            restore_moments(self.adversary.optimizer, moments["adversary_optimizer"])
        self.step, self.epoch = state["step"], state["epoch"]
        self.seconds, self.best = state["seconds"], state["best"]
        self.history = [Progress(**row) for row in state["history"]]


State = TypeVar("State", bound=Fit)


def thin(pairs: Pairs, share: float, seed: int) -> Pairs:
    """A random share of pairs, at least one if there are any."""
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))
    return pairs.take(order[: max(1, round(share * len(pairs)))])


def fit(
    prepared: Path,
    run_dir: Path,
    report: Callable[[Progress], None],
    report_step: Callable[[float], None] | None = None,
    kind: type[State] = Fit,  # type: ignore[assignment]
) -> State:
    """Fit a network to a prepared tensor file, or go on where an earlier run stopped.

    Parameters
    ----------
    prepared : Path
        File of `cryslator_flows.translator.prepare.prepare`; it carries the network's and the fit's settings.
    run_dir : Path
        Holds ``checkpoint.npz`` (written after every epoch) and ``metrics.jsonl`` (one line an epoch).
    report : callable
        Called after every epoch.
    report_step : callable or None
        Called after every step with the share done.
    kind : type of Fit
        What the fit is.

    Returns
    -------
    Fit
        The finished fit; `best_weights` holds the weights with the best validation score.
    """
    arrays = load_arrays(prepared)
    settings = json.loads(bytes(arrays.pop("settings").tolist()))
    augmentation = Augmentation(**settings["fit"].pop("augmentation"))
    weights = LossWeights(**settings["fit"].pop("weights"))
    config = FitConfig(**settings["fit"], augmentation=augmentation, weights=weights)
    if config.threads:
        torch.set_num_threads(config.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    state = kind(arrays, NetworkConfig(**settings["network"]), config, device)
    run_dir.mkdir(parents=True, exist_ok=True)
    checkpoint = run_dir / "checkpoint.npz"
    if checkpoint.exists():
        state.restore(checkpoint)
    while state.done < 1:
        progress = state.run_epoch(report_step)
        state.save(checkpoint)
        lines = "".join(json.dumps(asdict(row)) + "\n" for row in state.history)
        (run_dir / "metrics.jsonl").write_text(lines)
        report(progress)
    return state


if __name__ == "__main__":
    fit(Path(sys.argv[1]), Path(sys.argv[2]), lambda progress: print(progress.describe(), flush=True))
