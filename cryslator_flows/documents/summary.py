"""Summary of a campaign."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from cryslator_flows.documents.adaptation import Adaptation
from cryslator_flows.documents.candidates import EnumerationCounts
from cryslator_flows.documents.potential import PotentialStats
from cryslator_flows.documents.relaxations import Outcome, Start
from cryslator_flows.documents.rounds import RoundOutcome

Quantity = Literal["electronic steps", "electronic steps x k-points", "ionic steps", "core-hours"]
QUANTITIES: tuple[Quantity, ...] = ("electronic steps", "electronic steps x k-points", "ionic steps", "core-hours")


class Savings(BaseModel):
    """Paired comparison, in steps or core-hours, of the candidates that reached the same minimum from both starts."""

    quantity: Quantity = Field(description="Kind of step, or core-hours")
    start: Start = Field(description="Start that is compared with the unrelaxed one")
    n_pairs: int = Field(description="Candidates compared")
    mean_unrelaxed: float = Field(description="Mean steps or core-hours from the unrelaxed start")
    mean: float = Field(description="Mean steps or core-hours from the compared start")
    saving: float = Field(description="1 - total from this start / total from unrelaxed starts")
    interval: tuple[float, float] | None = Field(
        None, description="Paired bootstrap 95 % interval of the saving; None below 5 pairs"
    )
    p_value: float | None = Field(None, description="Wilcoxon signed-rank test, two-sided; None below 5 unequal pairs")
    share_slower: float = Field(description="Share of candidates that took more from this start")

    @property
    def ratio(self) -> float:
        """Ratio of all steps from this start to all steps from the unrelaxed starts."""
        return 1 - self.saving


class Prerelaxations(BaseModel):
    """Cost of making the structures of one start by an interatomic potential."""

    start: Start = Field(description="The start, `mlip` or `translated_mlip`")
    engines: list[str] = Field(description="Interatomic potentials")
    n_candidates: int = Field(description="Candidates whose cost is known")
    unconverged: int | None = Field(
        None, description="Number of candidates that did not reach the criterion; None where one is unknown"
    )
    ionic_steps: float | None = Field(None, description="Mean ionic steps of a candidate; None where one is unknown")
    seconds: float | None = Field(None, description="Mean wall time of a candidate, in s; None where one is unknown")


class CampaignSummary(BaseModel):
    """Funnel of a campaign and savings by translation."""

    campaign: str = Field(description="Name of the campaign")
    counts: EnumerationCounts
    translated: int = Field(description="Candidates translated")
    not_translated: int = Field(description="Candidates that could not be translated")
    out_of_domain: int = Field(0, description="Translated candidates that are unlike the model's training data")
    domain_reasons: dict[str, int] = Field(default_factory=dict, description="Candidates out of domain for each reason")
    left_out: dict[str, int] = Field(
        default_factory=dict, description="Translated candidates that the cuts on the translation left out, by reason"
    )
    selected: int = Field(description="Candidates selected to be relaxed")
    relaxed: int = Field(description="Candidates with at least one converged relaxation")
    reused: int = Field(0, description="Candidates with relaxations from another campaign")
    outcomes: dict[Start, dict[Outcome, int]] = Field(description="Relaxations of each outcome for each start")
    guarded: dict[Start, int] = Field(
        description="Number of relaxations that the guard returned to the unrelaxed structure, for each start"
    )
    synthetic: int = Field(description="Relaxations by a test double of an engine, which never enter a saving")
    engines: list[str] = Field(description="Codes and interatomic potentials of the relaxations")
    savings: list[Savings] = Field(
        description="Savings for each start, in each kind of step of the engine and in core-hours"
    )
    rounds: list[RoundOutcome] = Field(default_factory=list, description="Rounds of active learning, if any")
    translation_seconds: float | None = Field(
        description="Mean wall time of translating one candidate, in s; None where unknown"
    )
    prerelaxations: list[Prerelaxations] = Field(
        default_factory=list, description="Cost of making starts by interatomic potentials, not part of the savings"
    )
    potential: PotentialStats | None = Field(
        None, description="What the potential did between translation and relaxation"
    )
    adaptation: Adaptation | None = Field(None, description="Adaptation of the translator, if any")
    element_energies: dict[str, float] = Field(
        default_factory=dict, description="Energies of the elements that the engine relaxed, in eV/atom"
    )
    elements_without_energy: dict[str, str] = Field(
        default_factory=dict, description="Reason for each element whose relaxation has not converged"
    )
    versions: dict[str, str] = Field(description="Versions of the packages and of the model")
