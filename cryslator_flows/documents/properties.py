"""Properties of starts, compared with properties of the relaxed structure."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from cryslator_flows.documents.relaxations import Start

Calculated = Literal["unrelaxed", "scaled", "translated", "mlip", "translated_mlip", "relaxed"]


class DensityOfStates(BaseModel):
    """Total density of states, both spins, broadened by a Gaussian."""

    energies: list[float] = Field(description="Energies above the highest occupied level, in eV; one grid for all")
    densities: list[float] = Field(description="Densities at these energies, in states/eV/atom")


class ElectronicProperties(BaseModel):
    """Electronic properties of one structure from a static calculation."""

    engine: str = Field(description="Code of the calculation")
    energy_per_atom: float | None = Field(None, description="Energy, in eV/atom")
    band_gap: float = Field(description="Band gap, in eV; 0 for a metal")
    efermi: float = Field(
        description="Fermi level on the engine's own zero of energy, in eV; the middle of the gap where there is one"
    )
    dos: DensityOfStates | None = Field(None, description="Density of states; None where there is none")
    dos_error: str | None = Field(None, description="Reason for a missing density of states")
    synthetic: bool = Field(False, description="Result of a test double of the engine, never a measurement")


class PropertyErrors(BaseModel):
    """Differences between a start and the relaxed structure, start minus relaxed."""

    volume: float = Field(description="Ratio of cell volumes, start over relaxed, minus one")
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
    """Structures from which one candidate could be relaxed, with their electronic properties and differences."""

    candidate_id: str = Field(description="The candidate")
    reduced_formula: str = Field(description="Reduced formula, as in emmet's formula_pretty")
    errors: dict[Start, PropertyErrors] = Field(description="Differences of each start that could be compared")
    electronic: dict[Calculated, ElectronicProperties] = Field(
        description="Properties of each structure whose static calculation succeeded"
    )
    missing: dict[Calculated, str] = Field(description="Reason for each structure without properties or differences")

    @property
    def synthetic(self) -> bool:
        """True if a test double calculated any of the properties."""
        return any(item.synthetic for item in self.electronic.values())
