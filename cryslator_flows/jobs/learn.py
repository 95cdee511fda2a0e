"""Job that fine-tunes the model of a campaign on the relaxations of its rounds."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jobflow import JobConfig, Maker, OnMissing, job

from cryslator_flows.analysis.formation_energies import element_energies, formation_energies
from cryslator_flows.documents.references import ElementReference
from cryslator_flows.documents.relaxations import Digests, RelaxationComparison
from cryslator_flows.documents.rounds import Learned, RoundOutcome
from cryslator_flows.training.round_tuning import REPLAY_SHARE, FineTuning
from cryslator_flows.translator.default_model import DEFAULT_MODEL
from cryslator_flows.translator.model_folder import find_model

if TYPE_CHECKING:
    from cryslator_flows.training.records import PairRecord
    from cryslator_flows.translator.model_folder import ModelFolder

# From one or two pairs a model learns only their energies.
LEAST_PAIRS = 3
NO_ELEMENT = "an element has no energy by the engine"


@dataclass
class LearnMaker(Maker):
    """Fine-tune the campaign's model on the pairs of all rounds so far.

    Each round starts from the campaign's own model, not from the last tuned one. So the pairs of early rounds do not
    count several times. All pairs are training pairs; none is held out to select an epoch. The next batch tests the
    model instead, since it is predicted before it is relaxed. `track_calibration` calibrates the model.

    Parameters
    ----------
    name : str
        The job name.
    model_name : str
        Name or folder of the campaign's model.
    element_energies : dict
        Given energies of elements by the engine, in eV/atom; the rounds relax all others.
    replay : str or None
        File of old pairs for training, on the machine where the job runs.
    replay_share : float
        Share of old pairs in a training step, 0 to 1.
    fine_tune : FineTuning
        Settings of the fit.

    Examples
    --------
    >>> LearnMaker(element_energies={"Ca": -2.0, "O": -4.9}, replay_share=0.3).name
    'learn'
    """

    name: str = "learn"
    model_name: str = DEFAULT_MODEL
    element_energies: dict[str, float] = field(default_factory=dict)
    replay: str | None = None
    replay_share: float = REPLAY_SHARE
    fine_tune: FineTuning = field(default_factory=FineTuning)

    @job(
        data=["files", "records", "digests"],
        output_schema=Learned,
        config=JobConfig(on_missing_references=OnMissing.NONE),
    )
    def make(
        self,
        campaign: str,
        batch: list[str],
        comparisons: list[RelaxationComparison | None],
        elements: list[ElementReference | None],
        before: Learned | None,
    ) -> Learned:
        """Fine-tune the model.

        Parameters
        ----------
        campaign : str
            Name of the campaign.
        batch : list of str
            Candidates of this round.
        comparisons : list of RelaxationComparison or None
            Comparisons of this round; None if the comparison itself failed.
        elements : list of ElementReference or None
            Elements that this round relaxed; None if the job itself failed.
        before : Learned or None
            Output of the round before, whose model predicted this batch; None for the first round.

        Returns
        -------
        Learned
            The fine-tuned model, or the model before and the reason.

        Raises
        ------
        ModelError
            The campaign's model does not exist or is damaged.
        DataError
            The file of old pairs is wrong.
        """
        from cryslator_flows.pairs.align import align_all
        from cryslator_flows.pairs.raw import Dropped
        from cryslator_flows.pairs.sources.comparisons import comparison_pairs
        from cryslator_flows.training.records import PairRecord
        from cryslator_flows.training.tracking import track_calibration
        from cryslator_flows.training.travel import pack_model, unpack_model

        before = before or Learned(outcomes=[], digests=Digests(), records=[])
        done = [comparison for comparison in comparisons if comparison is not None]
        records = [PairRecord.model_validate(record) for record in before.records]
        references = [*before.references, *(item for item in elements if item is not None)]
        energies = element_energies(references) | self.element_energies
        formed = engine_energies(done, energies)
        dropped: Counter[str] = Counter()
        for pair in align_all(comparison_pairs(done, energies)):
            if isinstance(pair, Dropped):
                dropped[pair.reason] += 1
            elif pair.formation_energy_per_atom is None:
                dropped[NO_ELEMENT] += 1
            else:
                records.append(pair)
        number, base, model = len(before.outcomes) + 1, find_model(self.model_name), before.model
        told: dict[str, Any] = {"pairs": len(records), "dropped": dict(dropped), **_lowest(done, formed, before)}
        errors = _errors(done, formed)
        if len(records) < LEAST_PAIRS:
            told["not_learnt"] = f"{len(records)} training pairs so far, at least {LEAST_PAIRS} are needed"
        else:
            last = base if model is None else unpack_model(model, Path("before"))
            ratios = [error / uncertainty for error, uncertainty in errors if uncertainty]
            name = f"{campaign}-round-{number}"
            tuned = tune_here(name, base, records, self.fine_tune, self.replay, self.replay_share)
            seen = [record.structure("unrelaxed") for record in records]
            tuned = track_calibration(tuned, base, last, seen, ratios)
            model, told["metrics"] = pack_model(tuned, base.config().name), _metrics(tuned, base)
        outcome = RoundOutcome(
            round=number,
            batch=batch,
            relaxed=len(errors),
            energy_error=float(np.mean([error for error, _ in errors])) if errors else None,
            model_name=base.config().name if model is None else model.name,
            model_version=base.version() if model is None else model.version,
            **told,
        )
        digests = [comparison.digest() for comparison in done]
        return Learned(
            outcomes=[*before.outcomes, outcome],
            digests=Digests(comparisons=[*before.digests.comparisons, *digests]),
            references=references,
            records=[record.model_dump() for record in records],
            model=model,
        )


def engine_energies(comparisons: list[RelaxationComparison], element_energies: dict[str, float]) -> dict[str, float]:
    """Compute formation energies by the engine of the converged candidates whose elements have energies, in eV/atom."""
    found = formation_energies(comparisons, element_energies)
    return {} if found is None or found.fitted else found.energies


def _lowest(comparisons: list[RelaxationComparison], energies: dict[str, float], before: Learned) -> dict[str, Any]:
    """Return the most stable candidate so far, as fields of `RoundOutcome`."""
    formulas = {item.candidate_id: item.reduced_formula for item in comparisons}
    found = [(energy, name, formulas[name]) for name, energy in energies.items()]
    found += [
        (item.lowest_energy, item.lowest or "", item.lowest_formula or "")
        for item in before.outcomes
        if item.lowest_energy is not None
    ]
    return dict(zip(("lowest_energy", "lowest", "lowest_formula"), min(found, default=(None,) * 3), strict=True))


def _errors(comparisons: list[RelaxationComparison], energies: dict[str, float]) -> list[tuple[float, float | None]]:
    """Compute absolute errors of predictions, each with its stated uncertainty, both in eV/atom."""
    return [
        (abs(item.formation_energy_per_atom - energies[item.candidate_id]), item.formation_energy_uncertainty)
        for item in comparisons
        if item.candidate_id in energies
    ]


def tune_here(
    name: str,
    base: ModelFolder,
    records: list[PairRecord],
    settings: FineTuning,
    replay: str | None = None,
    replay_share: float = REPLAY_SHARE,
) -> ModelFolder:
    """Fine-tune a model in the folder of the job; continue there after an interruption.

    Parameters
    ----------
    name : str
        Name of the new model.
    base : ModelFolder
        The model to start from.
    records : list of PairRecord
        Training pairs, none of which is held out.
    settings : FineTuning
        Settings of the fit.
    replay : str or None
        File of old pairs for training.
    replay_share : float
        Share of old pairs in a training step, 0 to 1.

    Returns
    -------
    ModelFolder
        The fine-tuned model. Its calibration is of no use, since it comes from the training pairs.
    """
    from cryslator_flows.training.recipe import TuneConfig
    from cryslator_flows.training.replay import read_replay
    from cryslator_flows.training.splits import Split
    from cryslator_flows.training.tune import fine_tune
    from cryslator_flows.training.tune_data import TuneData

    old = [] if replay is None else read_replay(Path(replay))
    config = TuneConfig(replay_share=replay_share, **settings.model_dump())
    data = TuneData(Split(records, records, []), old, [], [], left_out=0)
    run_dir = Path("fine-tuning")
    tuned = fine_tune(base, data, Path(name), run_dir, config)
    shutil.rmtree(run_dir)
    return tuned


def _metrics(tuned: ModelFolder, base: ModelFolder) -> dict[str, float]:
    """Return the metrics of the fine-tuning."""
    training = tuned.metrics()["training"]
    widths = tuned.calibration().quantiles / base.calibration().quantiles
    return {
        "minutes": training["minutes"],
        "epochs": training["epochs"],
        "training_energy_error": training["best"]["validation"]["energy_mae"],
        "uncertainty_factor": float(widths[0, 0]),
    }
