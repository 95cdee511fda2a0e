"""Summary of a campaign."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from cryslator_flows.documents.candidates import EnumerationCounts
from cryslator_flows.documents.relaxations import Outcome, Start
from cryslator_flows.documents.rounds import RoundOutcome

Quantity = Literal["electronic steps", "electronic steps x k-points", "ionic steps"]
QUANTITIES: tuple[Quantity, ...] = ("electronic steps", "electronic steps x k-points", "ionic steps")


class Savings(BaseModel):
    """Paired comparison of one kind of step over the candidates that reached the same minimum from both starts."""

    quantity: Quantity = Field(description="Kind of step")
    start: Start = Field(description="The start that is compared with the unrelaxed one")
    n_pairs: int = Field(description="Candidates compared")
    mean_unrelaxed: float = Field(description="Mean steps from the unrelaxed start")
    mean: float = Field(description="Mean steps from the start that is compared")
    saving: float = Field(description="1 - total from this start / total from unrelaxed starts")
    interval: tuple[float, float] | None = Field(
        None, description="Paired bootstrap 95 % interval of the saving; None below 5 pairs"
    )
    p_value: float | None = Field(None, description="Wilcoxon signed-rank test, two-sided; None below 5 unequal pairs")
    share_slower: float = Field(description="Share of candidates that took more steps from this start")

    @property
    def ratio(self) -> float:
        """Total steps from this start over total steps from the unrelaxed starts."""
        return 1 - self.saving


class Prerelaxations(BaseModel):
    """What an interatomic potential spent to make the structures of one start."""

    start: Start = Field(description="The start, `mlip` or `translated_mlip`")
    engines: list[str] = Field(description="Interatomic potentials")
    n_candidates: int = Field(description="Candidates whose cost is known")
    unconverged: int | None = Field(
        None, description="How many of these the potential did not relax to its criterion; None where one is unknown"
    )
    ionic_steps: float | None = Field(None, description="Mean ionic steps of a candidate; None where one is unknown")
    seconds: float | None = Field(None, description="Mean wall time of a candidate, in s; None where one is unknown")


class CampaignSummary(BaseModel):
    """The funnel of a campaign and what translation saved."""

    campaign: str = Field(description="Name of the campaign")
    counts: EnumerationCounts
    translated: int = Field(description="Candidates translated")
    not_translated: int = Field(description="Candidates that could not be translated")
    out_of_domain: int = Field(0, description="Translated candidates that are unlike the model's training data")
    selected: int = Field(description="Candidates selected to be relaxed")
    relaxed: int = Field(description="Candidates with at least one converged relaxation")
    reused: int = Field(0, description="Candidates whose relaxations were taken over from another campaign")
    outcomes: dict[Start, dict[Outcome, int]] = Field(description="For each start, how many relaxations ended how")
    guarded: dict[Start, int] = Field(
        description="For each start, how many relaxations the guard sent back to the unrelaxed structure"
    )
    synthetic: int = Field(
        description="Relaxations by a test double of an engine; no saving is measured from what they cost"
    )
    engines: list[str] = Field(description="Codes and interatomic potentials that relaxed")
    savings: list[Savings] = Field(description="For each start and each kind of step the engine has")
    rounds: list[RoundOutcome] = Field(default_factory=list, description="Rounds of active learning, if it has any")
    translation_seconds: float | None = Field(
        description="Mean wall time of translating one candidate, in s; None where unknown"
    )
    prerelaxations: list[Prerelaxations] = Field(
        default_factory=list, description="What interatomic potentials spent to make starts, not part of the savings"
    )
    versions: dict[str, str] = Field(description="Versions of the packages and of the model")
