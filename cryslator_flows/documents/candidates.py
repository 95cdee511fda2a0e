"""Candidates, their translations and counts."""

from __future__ import annotations

from math import hypot
from typing import Literal

from pydantic import BaseModel, Field

from cryslator_flows.documents.gate import Crystal


class Template(BaseModel):
    """Known structure whose elements are substituted."""

    template_id: str = Field(description="Identifier of the template, unique in a campaign")
    structure: Crystal = Field(description="The template structure")


class Candidate(BaseModel):
    """Substituted crystal before relaxation."""

    candidate_id: str = Field(description="Stable hash of template, substitution and settings")
    template_id: str = Field(description="The template of the candidate")
    substitution: dict[str, str] = Field(description="Template element to new element")
    structure: Crystal = Field(description="The unrelaxed structure")
    reduced_formula: str = Field(description="Reduced formula, as in emmet's formula_pretty")
    chemsys: str = Field(description="Elements in alphabetical order, joined by '-'")
    probability: float | None = Field(None, description="Probability by pymatgen's substitution predictor, 0 to 1")
    magnetic_moments: Literal["template", "input set"] = Field(
        "input set",
        description="Source of the initial magnetic moments: the template, or the engine's input set",
    )


# Factor from an error of the shape of a cell to one of positions: the length of a bond, in angstrom.
BOND = 2.0


class Translation(BaseModel):
    """Result of the translator for one structure."""

    candidate_id: str | None = Field(None, description="The candidate that was translated")
    structure: Crystal = Field(description="The translated structure, sites in the order of the input")
    formation_energy_per_atom: float = Field(description="Predicted formation energy, in eV/atom")
    formation_energy_uncertainty: float = Field(
        description="Half width of the interval that held 68 % of the validation energies, in eV/atom"
    )
    formation_energy_uncertainty_90: float = Field(
        description="Half width of the interval that held 90 % of the validation energies, in eV/atom"
    )
    mean_displacement: float = Field(description="Mean displacement of the atoms without the strain, in angstrom")
    volume_change: float = Field(description="Ratio of translated to unrelaxed volume, minus one")
    max_principal_strain: float = Field(description="Largest absolute principal logarithmic strain, without unit")
    volume_uncertainty_90: float | None = Field(
        None,
        description="Half width of the interval that held 90 % of the validation volumes, in ln(volume); None for a "
        "model without expected errors of structures",
    )
    shape_uncertainty_90: float | None = Field(
        None, description="The same for the shape of the cell: norm of the remaining strain without its trace"
    )
    displacement_uncertainty_90: float | None = Field(
        None, description="The same for the remaining mean displacement of the atoms, in angstrom"
    )
    atoms_too_close: bool = Field(description="Two atoms of the translated structure nearly coincide")
    unknown_elements: list[str] = Field(description="Elements that the training data of the model lack")
    domain_distance: float = Field(
        description="Distance from the training data by translated features; 99 % of the validation pairs are below 1"
    )
    out_of_domain: bool = Field(description="True for a crystal unlike the training data of the model")
    domain_reason: str = Field(
        "",
        description="Why the crystal is out of domain: few training crystals with an element in its class of compound "
        "or with its number of elements, a wide interval, or a domain distance above 1; empty inside the domain",
    )
    model_name: str = Field(description="Name of the model")
    model_version: str = Field(description="Leading digits of the SHA-256 of the model's files")

    def distance_90(self) -> float | None:
        """Return how far the translated structure may be from the relaxed one, volume apart, in angstrom.

        It is sqrt((`BOND` * shape)^2 + displacement^2) of the half widths of 90 % intervals; None without them.
        """
        if self.shape_uncertainty_90 is None or self.displacement_uncertainty_90 is None:
            return None
        return hypot(BOND * self.shape_uncertainty_90, self.displacement_uncertainty_90)


# Fields of a translation that fit into the cell of a table.
TRANSLATED = [name for name in Translation.model_fields if name not in ("candidate_id", "structure")]


class Rejection(BaseModel):
    """Candidate that could not be translated or relaxed, and the reason."""

    candidate_id: str
    reason: str


class EnumerationCounts(BaseModel):
    """Counts of the substitutions of a campaign before translation."""

    templates: int = Field(0, description="Templates used")
    rejected_templates: list[str] = Field(default_factory=list, description="Reason for each unusable template")
    enumerated: int = Field(0, description="Substituted structures made")
    not_charge_balanced: int = Field(0, description="Dropped: no charge-balanced oxidation states")
    filtered: dict[str, int] = Field(
        default_factory=dict, description="Dropped by each filter of the formula, in the order of the filters"
    )
    duplicates: int = Field(0, description="Dropped: equivalent to an earlier candidate")
    as_given_duplicates: list[str] = Field(
        default_factory=list,
        description="Identifier of each dropped structure of `kind: as-given`, and of the equivalent earlier candidate",
    )
    higher_ewald: int = Field(
        0, description="Dropped: orderings of a higher Ewald energy than those that `enumeration.orderings.keep` keeps"
    )
    unique: int = Field(0, description="Candidates kept")
    not_carried: dict[str, int] = Field(
        default_factory=dict,
        description="Number of templates with oxidation states, a total charge or site charges, which candidates lack",
    )
    moments_left: int = Field(
        0, description="Candidates whose moments the input set decides although the template has moments"
    )

    def equivalent_or_higher(self) -> str:
        """Describe how many candidates are equivalent to others, or orderings of higher Ewald energy."""
        higher = f", {self.higher_ewald} of higher Ewald energy" if self.higher_ewald else ""
        return f"{self.duplicates} equivalent{higher}"

    def remarks(self) -> list[str]:
        """Describe the charges and moments of templates that candidates do not have."""
        lines = [f"candidates have no {kind}, which templates have: {n}" for kind, n in self.not_carried.items()]
        if self.moments_left:
            lines.append(
                f"the input set decides the moments of {self.moments_left} candidates: a magnetic element comes to a "
                "site without a moment"
            )
        return lines


class TranslationStats(BaseModel):
    """Number of translated candidates, models and mean time."""

    n_translated: int = Field(0, description="Number of translations")
    n_rejected: int = Field(0, description="Number of candidates that could not be translated")
    n_out_of_domain: int = Field(0, description="Number of translations flagged as out of domain")
    domain_reasons: dict[str, int] = Field(
        default_factory=dict, description="Number of translations out of domain for each reason"
    )
    left_out: dict[str, int] = Field(
        default_factory=dict, description="Number of translated candidates that the cuts left out so far, by reason"
    )
    seconds: float | None = Field(
        None,
        description="Mean wall time of translating a candidate, in s, with reading weights and starting processes",
    )
    models: dict[str, str] = Field(
        default_factory=dict, description="Name of each model and leading digits of the SHA-256 of its files"
    )
