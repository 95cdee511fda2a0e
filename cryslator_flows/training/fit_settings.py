"""Settings and progress of a fit. Torch and numpy only."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from cryslator_flows.training.loss import LossWeights
from cryslator_flows.training.tensors import Augmentation

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set the number of torch threads within a ``with``. 0 leaves the number unchanged."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class FitConfig:
    """Settings of the fit of a network.

    Parameters
    ----------
    epochs : int
        Passes over the training pairs. The learning rate decays over all of them.
    minutes : float or None
        Largest training time in minutes, over all resumed runs together; None for no bound. A busy machine trains
        less in it.
    batch_size : int
        Pairs in a step.
    learning_rate : float
        Peak of the schedule: linear warm-up, then cosine decay.
    warmup_steps : int
        Steps of the warm-up.
    weight_decay : float
        Weight decay of AdamW.
    clip : float
        Largest norm of the gradient.
    ema_decay : float
        Decay of the running average of the weights, which is both teacher and result.
    pairs : int or None
        Number of training pairs, drawn at random with the same share of the relaxed crystals. None for all.
    denoising_share : float
        Share of the examples that are relaxed crystals to denoise.
    weights : LossWeights
        Weight of each term of the loss.
    augmentation : Augmentation
        Settings for drawing inputs.
    seed : int
        Seed of all random numbers.
    threads : int
        Torch threads. 0 leaves torch's choice.

    Raises
    ------
    ValueError
        A setting is out of range; the message begins with its name.
    """

    epochs: int = 60
    minutes: float | None = None
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

    def __post_init__(self) -> None:
        at_least_one = {"epochs", "batch_size", "warmup_steps", "pairs"}
        above_zero = {"minutes", "learning_rate", "clip"}
        for name, value in vars(self).items():
            if name in at_least_one and value is not None and value < 1:
                raise ValueError(f"{name}: {value!r} is not at least 1")
            if name in above_zero and value is not None and value <= 0:
                raise ValueError(f"{name}: {value!r} is not above 0")
            if name in ("denoising_share", "ema_decay") and not 0 <= value < 1:
                raise ValueError(f"{name}: {value!r} is not from 0 to below 1")


@dataclass(frozen=True)
class Progress:
    """Progress of a fit after an epoch.

    Parameters
    ----------
    epoch, step : int
        Epochs and steps done.
    minutes : float
        Training time so far in minutes, with earlier runs.
    done : float
        Finished share of the epochs or of the time, whichever is larger, 0 to 1.
    loss : dict
        Mean of each term of the loss over the epoch.
    validation : dict
        Metrics on the validation pairs, see `validate`.
    """

    epoch: int
    step: int
    minutes: float
    done: float
    loss: dict[str, float]
    validation: dict[str, float]

    def describe(self) -> str:
        """Return the progress as one line."""
        validation = ", ".join(f"{name} {value:.4f}" for name, value in self.validation.items())
        return (
            f"epoch {self.epoch}  {self.minutes:.1f} min  {self.done:.0%}  loss {self.loss['total']:.3f}  {validation}"
        )
