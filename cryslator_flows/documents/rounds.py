"""Rounds of active learning."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from cryslator_flows.documents.relaxations import Digests


class TunedModel(BaseModel):
    """A model that was fine-tuned in a campaign, files and all: workers need not share a disk."""

    name: str = Field(description="Name of the model, the campaign's with the round")
    version: str = Field(description="Leading digits of the SHA-256 of its weights, calibration and configuration")
    base: str = Field(description="Name of the model it was fine-tuned from")
    files: dict[str, str] = Field(description="Its files by name, each in base64")


class RoundOutcome(BaseModel):
    """What a round of active learning relaxed and learnt."""

    round: int = Field(description="Number of the round, from 1")
    batch: list[str] = Field(description="The candidates that it relaxed")
    relaxed: int = Field(description="How many of them converged from at least one start")
    energy_error: float | None = Field(
        None,
        description="Mean absolute error of the formation energies that were predicted for the batch before it was "
        "relaxed, in eV/atom; None where nothing converged",
    )
    lowest_energy: float | None = Field(
        None, description="Lowest formation energy by the engine so far, in eV/atom; None where nothing converged"
    )
    lowest: str | None = Field(None, description="The candidate that has it")
    lowest_formula: str | None = Field(None, description="Its reduced formula")
    pairs: int = Field(description="Training pairs of all rounds so far")
    dropped: dict[str, int] = Field(
        default_factory=dict, description="Candidates of the batch without a pair, by reason"
    )
    model_name: str = Field(description="The model that translates after this round")
    model_version: str = Field(description="Its version")
    metrics: dict[str, float] = Field(default_factory=dict, description="What the fine-tuning says of itself")
    not_learnt: str | None = Field(None, description="Why the model is still the one before; None if it learnt")


class Learned(BaseModel):
    """What rounds of active learning know so far; each hands it on to the next."""

    outcomes: list[RoundOutcome] = Field(description="Of each round")
    digests: Digests = Field(description="What they relaxed")
    records: list[dict[str, Any]] = Field(description="Training pairs, each a `PairRecord`")
    model: TunedModel | None = Field(None, description="Translates from now on; None for the campaign's own model")
