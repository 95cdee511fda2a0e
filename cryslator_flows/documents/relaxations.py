"""Relaxations, their cost, and their comparison."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, Field

from cryslator_flows.documents.candidates import Translation
from cryslator_flows.documents.gate import Crystal

Start = Literal["unrelaxed", "scaled", "translated", "mlip", "translated_mlip"]
STARTS: tuple[Start, ...] = get_args(Start)
# The error of a relaxation whose reason is that of a job.
JOB_FAILED = "a relaxation job failed"


class RelaxationCost(BaseModel):
    """Cost of one relaxation."""

    engine: str = Field(description="Code or interatomic potential")
    ionic_steps: int | None = Field(
        None, description="Ionic steps of all attempts, each one evaluation of energy, forces and stress"
    )
    electronic_steps: list[int] | None = Field(
        None,
        description="Electronic (SCF) steps of each ionic step, attempts in the order they ran; "
        "None where unknown or where the engine has none",
    )
    attempts: int | None = Field(None, description="Times the engine was started, custodian's restarts included")
    discarded_electronic_steps: int | None = Field(
        None, description="Electronic steps of the attempts that custodian discarded"
    )
    n_kpoints: int | None = Field(None, description="Irreducible k-points")
    response_steps: list[int] | None = Field(
        None,
        description="Steps of each loop of linear response (LEPSILON, NMR, DFPT), apart from the electronic steps; "
        "None where unknown or where there was none",
    )
    converged: bool | None = Field(
        None,
        description="True if the relaxation reached its criterion, or the single point its SCF cycle; "
        "None where unknown",
    )
    guard: str | None = Field(
        None, description="Reason for the guard's return to the unrelaxed structure; None if it did not return"
    )
    synthetic: bool = Field(False, description="Result of a test double of the engine, never a measurement")
    wall_time: float | None = Field(None, description="Wall time, in s")
    core_hours: float | None = Field(
        None,
        description="Wall time times cores, in h; None unless the engine states both, as VASP does. The cores of VASP "
        "are its MPI ranks: further OpenMP threads do not count",
    )
    dir_name: str | None = Field(None, description="Directory of the calculation")

    @property
    def total_electronic_steps(self) -> int | None:
        """All electronic steps; None where unknown."""
        return None if self.electronic_steps is None else sum(self.electronic_steps)

    @property
    def electronic_steps_times_kpoints(self) -> int | None:
        """Product of electronic steps and irreducible k-points; None where one of them is unknown."""
        steps = self.total_electronic_steps
        return None if steps is None or self.n_kpoints is None else steps * self.n_kpoints


class Relaxation(BaseModel):
    """Relaxation of one candidate from one start."""

    start: Start = Field(description="Structure at the start of the relaxation")
    job_uuids: list[str] = Field(description="Jobs of the relaxation")
    structure: Crystal | None = Field(None, description="Relaxed structure; None if the relaxation failed")
    energy_per_atom: float | None = Field(None, description="Final energy of the engine, in eV/atom")
    entry_parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="Run type, U values and POTCARs of VASP, as in a `ComputedStructureEntry`; empty in a digest",
    )
    correction_per_atom: float | None = Field(
        None,
        description="Correction of the energy by pymatgen's MaterialsProject2020Compatibility, in eV/atom; "
        "None unless VASP ran in its settings",
    )
    cost: RelaxationCost | None = Field(None, description="Cost, also of a failed relaxation; None where unknown")
    prerelaxation: RelaxationCost | None = Field(
        None,
        description="Cost of making the start by an interatomic potential, never part of `cost`; "
        "None for other starts and where unknown",
    )
    error: str | None = Field(None, description="Reason for a missing result")


class TranslatedRelaxation(Relaxation):
    """Relaxation of one translated structure outside a campaign."""

    unrelaxed_structure: Crystal = Field(description="The structure that was translated")
    translation: Translation = Field(description="Its translation, where the relaxation starts")


Outcome = Literal["same minimum", "ended lower", "ended higher", "unconverged", "failed", "not compared"]


class Ending(BaseModel):
    """Result of a relaxation from one start, compared with the relaxation from the unrelaxed structure."""

    start: Start = Field(description="The start that is compared, never 'unrelaxed'")
    outcome: Outcome = Field(description="Kind of result; 'not compared' without a relaxation from the unrelaxed start")
    energy_difference: float | None = Field(
        None, description="Final energy minus the final energy from the unrelaxed start, in eV/atom"
    )


class RelaxationComparison(BaseModel):
    """Relaxations of one candidate from one or several starts."""

    campaign: str = Field("", description="Campaign of the comparison")
    candidate_id: str = Field(description="The candidate")
    template_id: str = Field(description="The template of the candidate")
    substitution: dict[str, str] = Field(description="Template element to new element")
    reduced_formula: str = Field(description="Reduced formula, as in emmet's formula_pretty")
    formation_energy_per_atom: float = Field(description="Formation energy by the translator, in eV/atom")
    formation_energy_uncertainty: float | None = Field(
        None, description="Half width of its 68 % interval, see `Translation`, in eV/atom; None in old documents"
    )
    formation_energy_uncertainty_90: float | None = Field(None, description="The same for 90 %, in eV/atom")
    unrelaxed_structure: Crystal | None = Field(None, description="The candidate; None in a digest")
    translated_structure: Crystal | None = Field(None, description="Its translation; None in a digest")
    settings: str = Field("", description="Hash of all settings of the relaxations and of the model")
    reused_from: str | None = Field(None, description="Campaign that relaxed the candidate, if it was another one")
    relaxations: list[Relaxation] = Field(description="One relaxation for each start")
    endings: list[Ending] = Field(description="Result for each start but the unrelaxed one")

    def ending(self, start: Start = "translated") -> Ending | None:
        """Return the result for `start`; None without a relaxation."""
        return next((item for item in self.endings if item.start == start), None)

    def relaxation(self, start: Start) -> Relaxation | None:
        """Return the relaxation from `start`; None without one."""
        return next((item for item in self.relaxations if item.start == start), None)

    def digest(self) -> RelaxationComparison:
        """Return a copy without structures and with electronic steps summed.

        A digest takes a few hundred bytes and suffices to compute savings.
        """
        relaxations = []
        for item in self.relaxations:
            cost = item.cost
            if cost is not None and cost.electronic_steps is not None:
                cost = cost.model_copy(update={"electronic_steps": [sum(cost.electronic_steps)]})
            relaxations.append(item.model_copy(update={"structure": None, "cost": cost, "entry_parameters": {}}))
        return self.model_copy(
            update={"relaxations": relaxations, "unrelaxed_structure": None, "translated_structure": None}
        )


class Digests(BaseModel):
    """Comparisons without structures, which one wave of relaxations passes to the next."""

    comparisons: list[RelaxationComparison] = Field(default_factory=list, description="See `digest`")
