"""Job that adapts the model of a campaign to a sample of its candidates."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jobflow import JobConfig, Maker, OnMissing, job

from cryslator_flows.analysis.ends import NOT_CONVERGED
from cryslator_flows.crystals.packing import TranslatedCandidates
from cryslator_flows.documents.adaptation import Adaptation, Adapted
from cryslator_flows.documents.potential import PotentialBatch, PotentialRelaxation
from cryslator_flows.jobs.learn import tune_here
from cryslator_flows.jobs.potential_select import fit_references, work_of
from cryslator_flows.training.round_tuning import FineTuning
from cryslator_flows.translator.default_model import DEFAULT_MODEL
from cryslator_flows.translator.model_folder import find_model

if TYPE_CHECKING:
    from cryslator_flows.documents.candidates import Candidate, Translation
    from cryslator_flows.documents.rounds import TunedModel
    from cryslator_flows.screening.fitted_references import FittedReferences
    from cryslator_flows.training.records import PairRecord

# Fewer candidates in a half neither train nor test a model.
LEAST_HALF = 5


class MeasuredCandidate(NamedTuple):
    """Candidate with its translation, and what the potential made of it."""

    translation: Translation
    record: PairRecord
    energy: float
    volume: float


@dataclass
class AdaptModelMaker(Maker):
    """Fine-tune a model on one half of a sample, and measure it on the other half, before and after.

    The campaign's own model is kept if the fine-tuned one has the larger energy error on the half held out.

    Parameters
    ----------
    name : str
        The job name.
    model_name : str
        Name or folder of the campaign's model.
    fine_tune : FineTuning
        Settings of the fit.

    Examples
    --------
    >>> AdaptModelMaker(fine_tune=FineTuning(epochs=8)).name
    'adapt'
    """

    name: str = "adapt"
    model_name: str = DEFAULT_MODEL
    fine_tune: FineTuning = field(default_factory=FineTuning)

    @job(
        data=["files", "relaxed", "compounds"],
        output_schema=Adapted,
        config=JobConfig(on_missing_references=OnMissing.NONE),
    )
    def make(
        self,
        campaign: str,
        requested: int,
        sample: TranslatedCandidates,
        batches: list[PotentialBatch | None],
        compounds: PotentialBatch | None,
    ) -> Adapted:
        """Adapt the model.

        Parameters
        ----------
        campaign : str
            Name of the campaign.
        requested : int
            Candidates that the campaign file requests for the sample.
        sample : TranslatedCandidates
            The sample in random order, translated by the campaign's model.
        batches : list of PotentialBatch
            Relaxations of the sample by the potential; None for a failed job.
        compounds : PotentialBatch or None
            Relaxations of known compounds; None if this job failed.

        Raises
        ------
        ModelError
            The campaign's model does not exist, is damaged, or cannot be fine-tuned.
        """
        relaxed = {item.name: item for batch in batches if batch is not None for item in batch.relaxed}
        references = fit_references(compounds)
        measured, dropped = measure_all(sample, relaxed, references)
        train, held_out = measured[0::2], measured[1::2]
        formulas = {item.record.reduced_formula for item in train}
        scores, model, kept = self._adapt(campaign, train, held_out)
        base = find_model(self.model_name)
        adaptation = Adaptation(
            **vars(work_of(relaxed.values(), references)),
            requested=requested,
            n_sampled=sample.n_candidates,
            dropped=dict(dropped),
            n_train=len(train),
            n_held_out=len(held_out),
            n_shared_formulas=sum(item.record.reduced_formula in formulas for item in held_out),
            **scores,
            kept=kept,
            model_name=base.config().name if model is None else model.name,
            model_version=base.version() if model is None else model.version,
        )
        return Adapted(
            adaptation=adaptation,
            model=model,
            relaxed=[*relaxed.values()] if model is None else [],
            compounds=[] if compounds is None else compounds.relaxed,
        )

    def _adapt(
        self, campaign: str, train: list[MeasuredCandidate], held_out: list[MeasuredCandidate]
    ) -> tuple[dict[str, Any], TunedModel | None, str | None]:
        """Return the scores, then the adapted model, or the reason to keep the campaign's own."""
        from cryslator_flows.training.recalibrate import recalibrate, score_held_out
        from cryslator_flows.training.travel import pack_model

        if len(held_out) < LEAST_HALF:
            return {}, None, f"{len(train)} and {len(held_out)} candidates in the halves, {LEAST_HALF} are needed"
        energies, volumes = (np.array([getattr(item, name) for item in held_out]) for name in ("energy", "volume"))
        translations = [item.translation for item in held_out]
        widths = np.array([item.formation_energy_uncertainty_90 for item in translations])
        before = score_held_out(translations, widths, energies, volumes)
        base = find_model(self.model_name)
        tuned = tune_here(f"{campaign}-adapted", base, [item.record for item in train], self.fine_tune)
        seen, unseen = ([item.record.structure("unrelaxed") for item in half] for half in (train, held_out))
        translations, widths = recalibrate(tuned, base, seen, unseen, energies)
        after = score_held_out(translations, widths, energies, volumes)
        scores = {"before": before, "after": after}
        if after.energy_error >= before.energy_error:
            return scores, None, "the adapted model has the larger energy error on the half held out"
        return scores, pack_model(tuned, base.config().name), None


def measure_all(
    sample: TranslatedCandidates, relaxed: dict[str, PotentialRelaxation], references: FittedReferences
) -> tuple[list[MeasuredCandidate], Counter[str]]:
    """Return the candidates that the potential relaxed to a pair with a formation energy, and the others by reason.

    Parameters
    ----------
    sample : TranslatedCandidates
        The candidates.
    relaxed : dict
        Relaxation by the identifier of the candidate.
    references : FittedReferences
        Energies of the elements by the potential.
    """
    measured: list[MeasuredCandidate] = []
    dropped: Counter[str] = Counter()
    for candidate, translation in sample.rows():
        found = _measure(candidate, translation, relaxed.get(candidate.candidate_id), references)
        if isinstance(found, str):
            dropped[found] += 1
        else:
            measured.append(found)
    return measured, dropped


def _measure(
    candidate: Candidate, translation: Translation, item: PotentialRelaxation | None, references: FittedReferences
) -> MeasuredCandidate | str:
    from cryslator_flows.pairs.align import align
    from cryslator_flows.pairs.raw import Dropped, RawPair

    if item is None or item.structure is None or item.energy_per_atom is None:
        return "the job failed" if item is None else item.error or "no structure"
    if item.converged is False:
        return NOT_CONVERGED
    energy = references.formation_energy(candidate.reduced_formula, item.energy_per_atom)
    if np.isnan(energy):
        return "an element has no energy by the potential"
    columns = {"formation_energy_per_atom": energy, "template": candidate.template_id}
    name = candidate.candidate_id
    record = align(RawPair(name, name, candidate.structure, item.structure, columns))
    if isinstance(record, Dropped):
        return record.reason
    return MeasuredCandidate(translation, record, energy, item.structure.volume)
