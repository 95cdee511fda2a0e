"""Rounds of active learning: the key ``rounds`` of a campaign file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from cryslator_flows.config import StrictModel
from cryslator_flows.training.round_tuning import REPLAY_SHARE, FineTuning

if TYPE_CHECKING:
    from cryslator_flows.jobs.learning_round import RoundMaker
    from cryslator_flows.jobs.relax import RelaxSelectedMaker
    from cryslator_flows.screening.acquisition import Acquisition


class RoundSettings(StrictModel):
    """Rounds of active learning between translation and selection."""

    number: int = Field(3, ge=1, le=100, description="Number of rounds")
    batch: int = Field(8, ge=1, le=500, description="Number of candidates that each round relaxes")
    exploration: float = Field(
        1.0,
        ge=0,
        description="A batch has the lowest `formation energy - exploration * uncertainty`; 0 trusts the predictions",
    )
    per_composition: int | None = Field(2, ge=1, description="Candidates of one reduced formula in a batch, at most")
    fine_tune: FineTuning = Field(default_factory=lambda: FineTuning(), description="Settings of the fine-tuning")
    replay: Path | None = Field(
        None,
        description="Old pairs, .jsonl or .jsonl.gz, for training so that the model does not forget them, see "
        "`cryslator train --from`; the stage learn reads the file where it runs",
    )
    replay_share: float = Field(REPLAY_SHARE, ge=0, lt=1, description="Share of old pairs in a training step, 0 to 1")

    def acquisition(self) -> Acquisition:
        """Build the acquisition that chooses the batches."""
        from cryslator_flows.screening.acquisition import Acquisition

        return Acquisition(self.batch, self.exploration, self.per_composition)

    def to_maker(self, model: str, relax_maker: RelaxSelectedMaker, element_energies: dict[str, float]) -> RoundMaker:
        """Build the maker of the rounds.

        Parameters
        ----------
        model : str
            Name or folder of the campaign's model.
        relax_maker : RelaxSelectedMaker
            Relaxes the batches.
        element_energies : dict
            Energies of the elements by the engine, in eV/atom.
        """
        from cryslator_flows.jobs.learn import LearnMaker
        from cryslator_flows.jobs.learning_round import RoundMaker
        from cryslator_flows.jobs.translate_chunk import TranslateChunkMaker

        return RoundMaker(
            relax_maker,
            rounds=self.number,
            acquisition=self.acquisition(),
            learn_maker=LearnMaker(
                model_name=model,
                element_energies=element_energies,
                replay=None if self.replay is None else str(self.replay),
                replay_share=self.replay_share,
                fine_tune=self.fine_tune,
            ),
            translate_maker=TranslateChunkMaker(model_name=model),
        )
