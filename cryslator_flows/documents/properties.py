"""Properties of starts beside those of the relaxed structure."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from cryslator_flows.documents.relaxations import Start

Calculated = Literal["unrelaxed", "translated", "mlip", "translated_mlip", "relaxed"]


class DensityOfStates(BaseModel):
    """Total density of states, both spins, broadened by a Gaussian."""

    energies: list[float] = Field(description="Above the highest occupied level, in eV; the same grid for all crystals")
    densities: list[float] = Field(description="In states/eV/atom")


class ElectronicProperties(BaseModel):
    """What a static calculation found about the electrons of one structure."""

    engine: str = Field(description="Code that calculated it")
    energy_per_atom: float | None = Field(None, description="Energy, in eV/atom")
    band_gap: float = Field(description="Band gap, in eV; 0 for a metal")
    efermi: float = Field(
        description="Fermi level on the engine's own zero of energy, in eV; the middle of the gap where there is one"
    )
    dos: DensityOfStates | None = Field(None, description="Density of states; None where there is none")
    dos_error: str | None = Field(None, description="Why there is no density of states")
    synthetic: bool = Field(False, description="Made by a test double of the engine: never a measurement")


class PropertyErrors(BaseModel):
    """How far a start is from the relaxed structure; differences are start minus relaxed."""

    volume: float = Field(description="Cell volume over that of the relaxed structure, minus one")
    volume_per_atom: float = Field(description="Difference of volumes, in angstrom^3/atom")
    lengths: tuple[float, float, float] = Field(description="Differences of a, b and c, in angstrom")
    angles: tuple[float, float, float] = Field(description="Differences of alpha, beta and gamma, in degrees")
    fractional: float = Field(description="Mean absolute difference of fractional coordinates, drift removed")
    cartesian: float = Field(
        description="Mean distance between the positions of an atom, in the relaxed cell, drift removed, in angstrom"
    )
    band_gap: float | None = Field(None, description="Difference of band gaps, in eV; None where one is unknown")
    efermi: float | None = Field(None, description="Difference of Fermi levels, in eV; None where one is unknown")
    dos_distance: float | None = Field(
        None, description="Distance of the densities of occupied states, 0 (equal) to 1; None where one is unknown"
    )


class PropertyComparison(BaseModel):
    """Structures from which one candidate could be relaxed, and their electrons, beside the relaxed structure."""

    candidate_id: str = Field(description="The candidate")
    reduced_formula: str = Field(description="Reduced formula, as in emmet's formula_pretty")
    errors: dict[Start, PropertyErrors] = Field(description="For each start that could be compared")
    electronic: dict[Calculated, ElectronicProperties] = Field(
        description="For each structure whose static calculation succeeded"
    )
    missing: dict[Calculated, str] = Field(description="Why a structure has no electronic properties or no errors")

    @property
    def synthetic(self) -> bool:
        """Whether a test double calculated any of it."""
        return any(item.synthetic for item in self.electronic.values())
