"""Elements that the engine of a campaign relaxed."""

from __future__ import annotations

from pydantic import BaseModel, Field

from cryslator_flows.documents.relaxations import Relaxation, RelaxationComparison


class ElementReference(BaseModel):
    """Crystal of an element, relaxed by the maker that relaxes the candidates."""

    symbol: str = Field(description="The element")
    relaxation: Relaxation = Field(description="Its relaxation; no saving counts its steps")
    settings: str | None = Field(
        None, description="Hash of the relax maker, without versions of packages; None in documents of earlier versions"
    )


# What campaigns reuse of each other.
Known = RelaxationComparison | ElementReference


class FetchedPhases(BaseModel):
    """Compounds of the Materials Project that compete with candidates that VASP relaxes."""

    energies: dict[str, dict[str, float]] = Field(
        default_factory=dict,
        description="Formation energy by reduced formula, in eV/atom, for each thermo type of the Materials Project",
    )
    note: str | None = Field(None, description="Reason for missing energies")
