"""Adaptation of the translator to the candidates of a campaign."""

from __future__ import annotations

from pydantic import BaseModel, Field

from cryslator_flows.documents.potential import PotentialRelaxation, PotentialWork
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


class Adaptation(PotentialWork):
    """Fine-tuning of the translator on some candidates of a campaign, and its errors on others, before and after."""

    requested: int = Field(description="Candidates that the campaign file requests for the sample")
    n_sampled: int = Field(description="Candidates of the sample: all, if the campaign has fewer")
    dropped: dict[str, int] = Field(description="Candidates of the sample that are in neither half, by reason")
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
