"""Adaptation of the translator to the candidates of a campaign."""

from __future__ import annotations

from pydantic import BaseModel, Field

from cryslator_flows.documents.potential import PotentialRelaxation
from cryslator_flows.documents.rounds import TunedModel


class HeldOutScores(BaseModel):
    """Errors of a translator on candidates that it was not trained on, against an interatomic potential."""

    energy_error: float = Field(description="Mean absolute error of the formation energies, in eV/atom")
    coverage: float = Field(description="Share of the 90 % intervals that hold the formation energy, 0 to 1")
    half_width: float = Field(description="Mean half width of the 90 % intervals, in eV/atom")
    volume_error: float = Field(description="Mean absolute relative error of the volumes, 0 to 1")
    recall: float = Field(
        description="Share of the tenth of lowest formation energy by the potential that is in the tenth of lowest "
        "predicted formation energy, 0 to 1"
    )


class Adaptation(BaseModel):
    """Fine-tuning of the translator on some candidates of a campaign, and its errors on others, before and after."""

    requested: int = Field(description="Candidates that the campaign file requests for the sample")
    n_sampled: int = Field(description="Candidates of the sample: all, if the campaign has fewer")
    engine: str | None = Field(description="The potential; None if all relaxations failed")
    n_relaxed: int = Field(description="Candidates of the sample that the potential relaxed")
    dropped: dict[str, int] = Field(description="Candidates of the sample that are in neither half, by reason")
    ionic_steps: float | None = Field(description="Mean ionic steps of a candidate; None where unknown")
    seconds: float | None = Field(description="Mean wall time of a candidate, in s; None where unknown")
    element_energies: dict[str, float] = Field(
        description="Energies of the elements by the potential, fitted to known compounds, in eV/atom"
    )
    n_compounds: int = Field(description="Known compounds that determine the energies of the elements")
    formation_energy_error: float | None = Field(
        description="Mean absolute error of the formation energies of these compounds, each left out of the fit, in "
        "eV/atom; None where unknown"
    )
    n_train: int = Field(description="Candidates of the half that fine-tuned the model")
    n_held_out: int = Field(description="Candidates of the half that was never trained on")
    n_shared_formulas: int = Field(description="Candidates held out whose reduced formula is in the other half too")
    before: HeldOutScores | None = Field(
        None, description="Errors of the campaign's own model on the half held out; None without an adaptation"
    )
    after: HeldOutScores | None = Field(
        None,
        description="Errors of the adapted model on the same candidates; the interval of each comes from the others, "
        "see `recalibrate`",
    )
    kept: str | None = Field(None, description="Reason to keep the campaign's own model; None if it was adapted")
    model_name: str = Field(description="Model that translates afterwards")
    model_version: str = Field(description="Version of this model")


class Adapted(BaseModel):
    """Adaptation, with the adapted model and the relaxations that are not repeated."""

    adaptation: Adaptation = Field(description="Counts and errors")
    model: TunedModel | None = Field(None, description="The adapted model; None for the campaign's own")
    relaxed: list[PotentialRelaxation] = Field(
        description="Relaxations of the sample whose starts remain valid; empty with an adapted model"
    )
    compounds: list[PotentialRelaxation] = Field(description="Relaxations of the known compounds")
