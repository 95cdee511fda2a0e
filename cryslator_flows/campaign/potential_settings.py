"""Settings of the stage between translation and relaxation: the key ``potential`` of a campaign file."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from cryslator_flows.config import StrictModel
from cryslator_flows.errors import CampaignError
from cryslator_flows.screening.cuts import Cuts

if TYPE_CHECKING:
    from jobflow import Maker

    from cryslator_flows.flows.potential_stage import PotentialFlowMaker
    from cryslator_flows.jobs.adapt import AdaptMaker


class PotentialSettings(StrictModel):
    """An interatomic potential that relaxes the candidates that the translator selects, and selects among them."""

    maker: str | None = Field(
        None,
        description="'chgnet', or the import path of an atomate2 maker of one job of any potential; without this key "
        "SevenNet if it is installed, else CHGNet",
    )
    kwargs: dict[str, Any] = Field(default_factory=dict, description="Arguments of the maker")
    batch: int = Field(100, ge=1, description="Number of candidates in a job, which loads the potential once")
    adapt: int | None = Field(
        None,
        ge=10,
        description="Number of random candidates that are relaxed before the selection. Half of them fine-tune the "
        "translator, half recalibrate its intervals and measure it; then all candidates are translated again",
    )
    select: Cuts = Field(
        default_factory=lambda: Cuts(top_k=10),
        description="Cuts on the formation energies by the potential; the best 10 without this key",
    )

    @field_validator("select")
    @classmethod
    def _properties_are_predicted_before(cls, select: Cuts) -> Cuts:
        if select.properties:
            raise ValueError("properties: they are predicted with the translation; move them to `selection`")
        return select

    def maker_and_kwargs(self) -> tuple[str, dict[str, Any]]:
        """Return name and arguments of the maker; without `maker` they depend on what is installed."""
        from cryslator_flows.engines.by_name import FORCE_FIELD_MAKER

        if self.maker is None and find_spec("sevenn") is not None:
            sevennet = {"force_field_name": "SevenNet", "relax_kwargs": {"fmax": 0.05}}
            return FORCE_FIELD_MAKER, {**sevennet, **self.kwargs}
        return self.maker or "chgnet", self.kwargs

    def relax_maker(self) -> Maker:
        """Build the maker of the potential.

        Raises
        ------
        CampaignError
            It cannot be built, runs DFT, or makes more than one job.
        """
        from cryslator_flows.engines.by_name import FORCE_FIELD_MAKER, build_potential_maker

        name, kwargs = self.maker_and_kwargs()
        maker = build_potential_maker(name, kwargs, "potential")
        if not hasattr(type(maker).make, "original"):
            raise CampaignError(
                f"potential.maker {name!r}: makes a flow, but this key needs a maker of one job; give "
                f"{FORCE_FIELD_MAKER}"
            )
        return maker

    def to_adapt_maker(self, model: str) -> AdaptMaker | None:
        """Build the maker that adapts the translator; None without `adapt`.

        Parameters
        ----------
        model : str
            Name or folder of the campaign's model.
        """
        from cryslator_flows.jobs.adapt import AdaptMaker
        from cryslator_flows.jobs.adapt_model import AdaptModelMaker
        from cryslator_flows.jobs.translate_chunk import TranslateChunkMaker
        from cryslator_flows.screening.acquisition import RandomSample

        if self.adapt is None:
            return None
        return AdaptMaker(
            relax_maker=self.relax_maker(),
            batch=self.batch,
            sample=RandomSample(self.adapt),
            model_maker=AdaptModelMaker(model_name=model),
            translate_maker=TranslateChunkMaker(model_name=model),
        )

    def to_maker(self) -> PotentialFlowMaker:
        """Build the maker of the stage."""
        from cryslator_flows.flows.potential_stage import PotentialFlowMaker
        from cryslator_flows.jobs.potential_select import PotentialSelectMaker

        return PotentialFlowMaker(
            relax_maker=self.relax_maker(), batch=self.batch, select_maker=PotentialSelectMaker(cuts=self.select)
        )
