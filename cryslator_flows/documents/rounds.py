"""Rounds of active learning."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from cryslator_flows.documents.references import ElementReference
from cryslator_flows.documents.relaxations import Digests


class TunedModel(BaseModel):
    """Model that was fine-tuned in a campaign, with its files. Workers need not share a disk."""

    name: str = Field(description="Name of the model: name of the campaign with the round")
    version: str = Field(description="Leading digits of the SHA-256 of its weights, calibration and configuration")
    base: str = Field(description="Name of the model it was fine-tuned from")
    files: dict[str, str] = Field(description="Files of the model by name, each in base64")


class RoundOutcome(BaseModel):
    """Relaxations of a round of active learning, and the model after it."""

    round: int = Field(description="Number of the round, from 1")
    batch: list[str] = Field(description="Candidates of the round")
    relaxed: int = Field(description="Number of candidates that converged from at least one start")
    energy_error: float | None = Field(
        None,
        description="Mean absolute error of the formation energies predicted for the batch before its "
        "relaxation, in eV/atom; None where none converged",
    )
    lowest_energy: float | None = Field(
        None, description="Lowest formation energy by the engine so far, in eV/atom; None where none converged"
    )
    lowest: str | None = Field(None, description="Candidate with the lowest formation energy")
    lowest_formula: str | None = Field(None, description="Reduced formula of this candidate")
    pairs: int = Field(description="Training pairs of all rounds so far")
    dropped: dict[str, int] = Field(
        default_factory=dict, description="Candidates of the batch without a pair, by reason"
    )
    model_name: str = Field(description="Model that translates after this round")
    model_version: str = Field(description="Version of this model")
    metrics: dict[str, float] = Field(default_factory=dict, description="Metrics of the fine-tuning")
    not_learnt: str | None = Field(None, description="Reason for a model without change; None if the model learnt")


class Learned(BaseModel):
    """Results of all rounds of active learning so far, which each round passes to the next."""

    outcomes: list[RoundOutcome] = Field(description="Outcome of each round")
    digests: Digests = Field(description="Relaxations of the rounds")
    references: list[ElementReference] = Field(
        default_factory=list, description="Elements that the rounds relaxed for their formation energies"
    )
    records: list[dict[str, Any]] = Field(description="Training pairs, each a `PairRecord`")
    model: TunedModel | None = Field(None, description="Model for the next translations; None for the campaign's own")
