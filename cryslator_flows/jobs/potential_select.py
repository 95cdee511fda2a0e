"""Job that selects candidates by the energies of an interatomic potential."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jobflow import JobConfig, Maker, OnMissing, Response, job

from cryslator_flows.crystals.packing import Selection, TranslatedCandidates
from cryslator_flows.documents.potential import PotentialBatch, PotentialRelaxation, PotentialStats, PotentialWork
from cryslator_flows.documents.references import Known
from cryslator_flows.jobs.relax import RelaxSelectedMaker
from cryslator_flows.jobs.relax_lanes import relax_selection, split
from cryslator_flows.screening.cuts import Cuts
from cryslator_flows.screening.fitted_references import FittedReferences

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from cryslator_flows.documents.candidates import Translation


@dataclass
class PotentialSelectMaker(Maker):
    """Keep the most stable candidates by a potential, and relax them from its structures.

    Formation energies come from energies of the elements that are fitted to known compounds, see `FittedReferences`.

    Parameters
    ----------
    name : str
        The job name.
    cuts : Cuts
        Cuts on the formation energies by the potential. Their uncertainty is the error of the fit.
    relax_maker : RelaxSelectedMaker or None
        Relaxes the selected candidates in waves; None stops after the selection.
    max_relaxed : int or None
        As in `SelectMaker`.

    Examples
    --------
    >>> PotentialSelectMaker(cuts=Cuts(top_k=20)).name
    'select by potential'
    """

    name: str = "select by potential"
    cuts: Cuts = field(default_factory=Cuts)
    relax_maker: RelaxSelectedMaker | None = None
    max_relaxed: int | None = None

    @job(config=JobConfig(on_missing_references=OnMissing.NONE), data=["remaining", "prerelaxed"])
    def make(
        self,
        translated: TranslatedCandidates,
        batches: list[PotentialBatch | None],
        compounds: PotentialBatch | None,
        selection: Selection,
        campaign: str,
        known: list[Known],
        made: dict[str, Any] | None = None,
    ) -> Response[Selection]:
        """Select.

        Parameters
        ----------
        translated : TranslatedCandidates
            The candidates that the potential relaxed.
        batches : list of PotentialBatch
            Their relaxations; None for a failed job.
        compounds : PotentialBatch or None
            Relaxations of known compounds; None if this job failed.
        selection : Selection
            The selection by the translator.
        campaign : str
            Name of the campaign.
        known : list of Known
            Relaxations of other campaigns, which are not repeated.
        made : dict or None
            Output that this job stored before. The job then relaxes the same elements.
        """
        relaxed = {item.name: item for batch in batches if batch is not None for item in batch.relaxed}
        references = fit_references(compounds)
        candidates, failed = judge(translated, relaxed, references)
        left_out: Counter[str] = Counter()
        chosen = self.cuts.select(candidates, left_out)
        names = chosen.arrays()["candidate_id"].tolist()
        row_of = {name: row for row, name in enumerate(translated.arrays()["candidate_id"].tolist())}
        stats = _stats(translated, candidates, relaxed, references, failed, len(names))
        stats.left_out = dict(left_out)
        most = None if self.relax_maker is None else self.max_relaxed
        left_to_relax = translated.take([row_of[name] for name in names])
        _, left = split(left_to_relax, most)
        prerelaxed, prerelaxed_left = split(chosen, most)
        relaxed_elements = selection.references
        elements = (
            [] if self.relax_maker is None else self.relax_maker.elements_to_relax(left_to_relax, relaxed_elements)
        )
        relaxed_before = [item.candidate_id for digests in selection.comparisons for item in digests.comparisons]
        candidate_ids = [*dict.fromkeys([*names, *relaxed_before])]
        selected = selection.model_copy(
            update={
                "n_selected": len(candidate_ids),
                "candidate_ids": candidate_ids,
                "potential": stats,
                "remaining": left,
                "prerelaxed": prerelaxed_left,
                "elements": elements if made is None else made.get("elements", []),
            }
        )
        if self.relax_maker is None or not names:
            return Response(output=selected)
        flow = relax_selection(self.relax_maker, selected, left_to_relax, most, known, campaign, prerelaxed)
        return Response(output=selected, replace=flow)


def fit_references(compounds: PotentialBatch | None) -> FittedReferences:
    """Fit energies of the elements to the relaxations of known compounds; None if their job failed."""
    return FittedReferences.fit({
        item.name: item.energy_per_atom
        for item in (compounds.relaxed if compounds is not None else [])
        if item.energy_per_atom is not None
    })  # fmt: skip


def judge(
    translated: TranslatedCandidates, relaxed: dict[str, PotentialRelaxation], references: FittedReferences
) -> tuple[TranslatedCandidates, Counter[str]]:
    """Put structures and formation energies by a potential in place of the translator's.

    Parameters
    ----------
    translated : TranslatedCandidates
        The candidates.
    relaxed : dict
        Relaxation by the potential by the identifier of the candidate.
    references : FittedReferences
        Energies of the elements by the potential.

    Returns
    -------
    tuple
        The candidates that have a structure and a formation energy, then the others by reason.
    """
    kept, rows = [], []
    failed: Counter[str] = Counter()
    for position, (candidate, translation) in enumerate(translated.rows()):
        item = relaxed.get(candidate.candidate_id)
        if item is None or item.structure is None or item.energy_per_atom is None:
            failed["the job failed" if item is None else item.error or "no structure"] += 1
            continue
        energy = references.formation_energy(candidate.reduced_formula, item.energy_per_atom)
        if np.isnan(energy):
            failed["an element has no energy by the potential"] += 1
            continue
        kept.append(position)
        rows.append((candidate.reduced_formula, _replaced(translation, item, energy, references.error)))
    return TranslatedCandidates.add(translated, kept, rows), failed


def _replaced(translation: Translation, item: PotentialRelaxation, energy: float, error: float) -> Translation:
    changes = {
        "structure": item.structure,
        "formation_energy_per_atom": energy,
        "formation_energy_uncertainty": error,
        "formation_energy_uncertainty_90": 2 * error,
        "out_of_domain": False,
        "domain_reason": "",
        "atoms_too_close": False,
        "model_name": item.engine or "potential",
    }
    return translation.model_copy(update=changes)


def _stats(
    translated: TranslatedCandidates,
    candidates: TranslatedCandidates,
    relaxed: dict[str, PotentialRelaxation],
    references: FittedReferences,
    failed: Counter[str],
    n_selected: int,
) -> PotentialStats:
    before = dict(zip(*(translated.arrays()[name].tolist() for name in COMPARED), strict=True))
    after = dict(zip(*(candidates.arrays()[name].tolist() for name in COMPARED), strict=True))
    differences = [abs(energy - before[name]) for name, energy in after.items()]
    return PotentialStats(
        **vars(work_of(relaxed.values(), references)),
        n_selected=n_selected,
        n_unconverged=sum(item.structure is not None and item.converged is False for item in relaxed.values()),
        failed=dict(failed),
        difference=_mean(differences),
    )


def work_of(relaxed: Collection[PotentialRelaxation], references: FittedReferences) -> PotentialWork:
    """Describe relaxations by a potential and its energies of the elements."""
    done = [item for item in relaxed if item.structure is not None]
    return PotentialWork(
        engine=next((item.engine for item in done if item.engine), None),
        n_relaxed=len(done),
        ionic_steps=_mean(item.ionic_steps for item in done),
        seconds=_mean(item.seconds for item in done),
        element_energies=references.energies,
        n_compounds=references.n_compounds,
        formation_energy_error=None if np.isnan(references.error) else references.error,
    )


COMPARED = ("candidate_id", "formation_energy_per_atom")


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None; None without one."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
