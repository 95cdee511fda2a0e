"""Settings of a fine-tuning in rounds of active learning. Without torch, as campaigns are read without it."""

from __future__ import annotations

from pydantic import Field

from cryslator_flows.config import StrictModel

REPLAY_SHARE = 0.5


class FineTuning(StrictModel):
    """Fine-tuning in a round of active learning, always from the campaign's own model and on all pairs so far."""

    epochs: int = Field(
        4, ge=1, le=1000, description="Largest number of passes over the pairs, each of at least 50 steps"
    )
    minutes: float = Field(10.0, gt=0, le=10_000, description="Largest training time in each round, in minutes")
    learning_rate: float = Field(3e-4, gt=0, le=0.1, description="Peak of the schedule of the learning rate")
    batch_size: int = Field(16, ge=2, le=1024, description="Pairs in a step, old ones included")
    seed: int = Field(0, ge=0, description="Seed of all random numbers")
