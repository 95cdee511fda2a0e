"""Settings of the selection by the translator: the key ``selection`` of a campaign file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, FiniteFloat
from pymatgen.core import Composition

from cryslator_flows.crystals.substitution import Formula
from cryslator_flows.jobs.relax import RelaxSelectedMaker
from cryslator_flows.screening.cuts import Cuts


def _elements_at_zero(references: dict[str, float]) -> dict[str, float]:
    for formula, energy in references.items():
        if energy < 0 and len(Composition(formula)) == 1:
            raise ValueError(
                f"{formula}: {energy} eV/atom is not a formation energy, which is zero for an element; give formation "
                "energies, not total ones"
            )
    return references


References = Annotated[dict[Formula, FiniteFloat], AfterValidator(_elements_at_zero)]


class SelectionSettings(Cuts):
    """Selection of translated candidates to relax."""

    controls: int = Field(
        RelaxSelectedMaker.controls,
        ge=0,
        description="Number of selected candidates that are relaxed from all starts to measure the saving, chosen at "
        "random",
    )
    # A path is allowed here; `from_file` reads the file.
    references: References | Path = Field(  # type: ignore[assignment]
        default_factory=dict,
        description="Further phases for the hull, or other energies of known ones: formula to formation energy in "
        "eV/atom, or a YAML or JSON file of it",
    )

    def cuts(self) -> Cuts:
        """Return the cuts alone."""
        return Cuts.model_validate(self.model_dump(include=set(Cuts.model_fields)))
