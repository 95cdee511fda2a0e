"""Relaxations with an interatomic potential between translation and DFT."""

from __future__ import annotations

from pydantic import BaseModel, Field

from cryslator_flows.documents.gate import Crystal


class PotentialRelaxation(BaseModel):
    """One structure relaxed with an interatomic potential."""

    name: str = Field(description="Identifier of the candidate, or formula of a known compound")
    formula: str = Field(description="Reduced formula")
    structure: Crystal | None = Field(None, description="Relaxed structure; None if the relaxation failed")
    energy_per_atom: float | None = Field(None, description="Energy by the potential, in eV/atom")
    engine: str | None = Field(None, description="The potential")
    ionic_steps: int | None = Field(None, description="Ionic steps; None where unknown")
    converged: bool | None = Field(None, description="True if the relaxation reached its criterion")
    seconds: float | None = Field(None, description="Wall time, in s")
    error: str | None = Field(None, description="Reason for a missing structure")


class PotentialBatch(BaseModel):
    """Structures that one job relaxed with an interatomic potential."""

    relaxed: list[PotentialRelaxation] = Field(description="One relaxation for each structure")


class PotentialWork(BaseModel):
    """Relaxations of candidates with an interatomic potential: number, cost, and its energies of the elements."""

    engine: str | None = Field(description="The potential; None if all relaxations failed")
    n_relaxed: int = Field(description="Candidates that it relaxed")
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


class PotentialStats(PotentialWork):
    """Counts, cost and errors of the stage of the potential."""

    n_selected: int = Field(description="Candidates that are left after the cuts on its energies")
    left_out: dict[str, int] = Field(
        default_factory=dict, description="Relaxed candidates that the cuts on its energies left out, by reason"
    )
    n_unconverged: int = Field(description="Relaxed candidates that did not reach the criterion")
    failed: dict[str, int] = Field(description="Candidates without a relaxed structure or formation energy, by reason")
    difference: float | None = Field(
        description="Mean absolute difference of formation energies by translator and potential, in eV/atom"
    )
