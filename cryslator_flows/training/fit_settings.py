"""Settings of a fit, and where it stands. Torch and numpy only."""

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
    """Let torch work on so many threads meanwhile; 0 leaves the number as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class FitConfig:
    """How the network is fitted.

    Parameters
    ----------
    epochs : int
        Passes over the training pairs; the learning rate decays to its end over them.
    minutes : float or None
        Training time at most, over all resumed runs together; a busy machine trains less in it. None for no bound.
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


@dataclass(frozen=True)
class Progress:
    """Where a fit stands after an epoch.

    Parameters
    ----------
    epoch, step : int
        Epochs and steps done.
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
    step: int
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
