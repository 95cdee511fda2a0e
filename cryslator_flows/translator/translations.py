"""Translations of ASE's atoms, and lists of translations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ase import Atoms
from pydantic import ConfigDict, Field
from pymatgen.core import Composition, Structure

from cryslator_flows.documents.candidates import TRANSLATED, Translation

if TYPE_CHECKING:
    import pandas as pd


class AtomsTranslation(Translation):
    """Result of the translator for ASE's atoms, which gives atoms back."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    structure: Atoms = Field(  # type: ignore[assignment]
        description="The translated atoms, a copy of the input with its constraints and without its calculator"
    )


class Translations(list[Translation]):
    """A list of translations that makes a table of itself."""

    def to_dataframe(self) -> pd.DataFrame:
        """Return a row for each translation, in order: ``formula``, ``n_atoms``, the fields, ``structure``.

        Energies are in eV/atom, displacements in angstrom, see `Translation`.
        """
        import pandas as pd

        rows = []
        for item in self:
            given = item.structure
            found = given.composition if isinstance(given, Structure) else Composition(given.get_chemical_formula())
            sizes = {"formula": found.reduced_formula, "n_atoms": len(given)}
            rows.append(sizes | {name: getattr(item, name) for name in TRANSLATED} | {"structure": given})
        return pd.DataFrame(rows, columns=["formula", "n_atoms", *TRANSLATED, "structure"])
