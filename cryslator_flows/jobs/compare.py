"""Job that compares the relaxations of one candidate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobflow import JobConfig, Maker, OnMissing, job
from pydash import get

from cryslator_flows.analysis.computed_entries import correction_per_atom, entry_parameters
from cryslator_flows.analysis.same_minimum import compare_ends
from cryslator_flows.counting import total_cost
from cryslator_flows.counting.ledger import LEDGER_NAME, ledger_cost
from cryslator_flows.counting.task_documents import last_relaxation
from cryslator_flows.documents.candidates import Candidate, Translation
from cryslator_flows.documents.relaxations import (
    JOB_FAILED,
    Relaxation,
    RelaxationComparison,
    RelaxationCost,
    Start,
)
from cryslator_flows.errors import CountingError
from cryslator_flows.settings import SETTINGS


@dataclass
class CompareMaker(Maker):
    """Compare the ends and the costs of the relaxations of one candidate.

    The job runs also when a relaxation failed, and then records the failure.

    Parameters
    ----------
    name : str
        The job name.
    energy_tolerance : float
        Largest difference of final energies that counts as the same minimum, in eV/atom.

    Examples
    --------
    >>> CompareMaker(energy_tolerance=0.002).name
    'compare'
    """

    name: str = "compare"
    energy_tolerance: float = 0.005

    @job(config=JobConfig(on_missing_references=OnMissing.NONE), output_schema=RelaxationComparison)
    def make(
        self,
        candidate: Candidate,
        translation: Translation,
        documents: dict[Start, list[Any]],
        job_uuids: dict[Start, list[str]],
        campaign: str,
        settings: str = "",
        potentials: dict[Start, list[Any]] | None = None,
    ) -> RelaxationComparison:
        """Compare the relaxations of a candidate.

        Parameters
        ----------
        candidate : Candidate
            The candidate.
        translation : Translation
            Its translation.
        documents : dict
            For each start the task documents of its jobs in the order they ran; None for a failed job.
        job_uuids : dict
            For each start the uuids of these jobs.
        campaign : str
            Name of the campaign, to find the runs in the ledger.
        settings : str
            Hash of the settings of the relaxations.
        potentials : dict or None
            For each start that an interatomic potential made the documents of its jobs; None for a failed job.
        """
        relaxations = []
        for start in documents:
            relaxation = read_all_runs(start, documents[start], job_uuids[start], campaign, candidate.candidate_id)
            if potentials and start in potentials:
                relaxation = _with_potential(relaxation, potentials[start])
            relaxations.append(relaxation)
        return RelaxationComparison(
            campaign=campaign,
            settings=settings,
            unrelaxed_structure=candidate.structure,
            translated_structure=translation.structure,
            candidate_id=candidate.candidate_id,
            template_id=candidate.template_id,
            substitution=candidate.substitution,
            reduced_formula=candidate.reduced_formula,
            formation_energy_per_atom=translation.formation_energy_per_atom,
            formation_energy_uncertainty=translation.formation_energy_uncertainty,
            formation_energy_uncertainty_90=translation.formation_energy_uncertainty_90,
            relaxations=relaxations,
            endings=compare_ends(relaxations, self.energy_tolerance),
        )


def read_relaxation(start: Start, documents: list[Any], uuids: list[str]) -> Relaxation:
    """Read the end and the cost of a relaxation: the structure of its last relaxation, the energy of its last job.

    Parameters
    ----------
    start : str
        The start of the relaxation.
    documents : list
        The task documents of its jobs in the order they ran; None for a failed job.
    uuids : list of str
        The uuids of these jobs.
    """
    if not documents or any(document is None for document in documents):
        return Relaxation(start=start, job_uuids=uuids, error=JOB_FAILED)
    last = documents[-1]
    structure, energy = get(documents[last_relaxation(documents)], "structure"), get(last, "output.energy")
    if structure is None or energy is None:
        return Relaxation(start=start, job_uuids=uuids, error="the last job left no structure or energy")
    end = get(last, "structure", structure)
    if end.composition.reduced_composition != structure.composition.reduced_composition:
        reason = (
            f"the last job has {end.formula}, the last relaxation {structure.formula}: its energy is of other atoms"
        )
        return Relaxation(start=start, job_uuids=uuids, error=reason)
    try:
        cost, error = total_cost(documents), None
    except CountingError as problem:
        cost, error = None, str(problem)
    relaxation = Relaxation(
        start=start,
        job_uuids=uuids,
        structure=structure,
        energy_per_atom=energy / len(end),
        entry_parameters=entry_parameters(get(last, "entry.parameters")),
        cost=cost,
        error=error,
    )
    return relaxation.model_copy(update={"correction_per_atom": correction_per_atom(relaxation)})


def read_all_runs(start: Start, documents: list[Any], uuids: list[str], campaign: str, candidate_id: str) -> Relaxation:
    """Read a relaxation with the cost of all its runs that are in the ledger.

    Parameters
    ----------
    start, documents, uuids
        As in `read_relaxation`.
    campaign, candidate_id : str
        Names of the runs in the ledger.
    """
    relaxation = read_relaxation(start, documents, uuids)
    spent = ledger_cost(SETTINGS.ledger or Path.cwd().parent / LEDGER_NAME, campaign, candidate_id, start)
    return relaxation if spent is None else _with_all_runs(relaxation, spent)


def _with_potential(relaxation: Relaxation, documents: list[Any]) -> Relaxation:
    """Add the cost of the potential; the relaxation failed if the potential failed."""
    if any(document is None for document in documents):
        return relaxation.model_copy(update={"error": "the pre-relaxation with the potential failed"})
    try:
        return relaxation.model_copy(update={"prerelaxation": total_cost(documents)})
    except CountingError:
        return relaxation


def _with_all_runs(relaxation: Relaxation, spent: RelaxationCost) -> Relaxation:
    """Count failed jobs and runs whose folders are gone too; the documents hold the last runs only.

    One run that could not be counted leaves the sum unknown, also if the documents hold steps.
    """
    known = relaxation.cost
    if known is None:
        cost = spent if relaxation.structure is not None else spent.model_copy(update={"converged": False})
        return relaxation.model_copy(update={"cost": cost})
    all_runs, last_runs = spent.total_electronic_steps, known.total_electronic_steps
    if all_runs is not None and last_runs is not None and all_runs <= last_runs:
        return relaxation
    kept = known.model_dump(include={"engine", "converged", "dir_name"})
    return relaxation.model_copy(update={"cost": spent.model_copy(update=kept)})
