"""Prediction of any property of the relaxed crystal from an unrelaxed structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryslator_flows.crystals.check import check_structure
from cryslator_flows.translator.loaded import LoadedModel, to_crystals
from cryslator_flows.translator.model_folder import find_model

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pymatgen.core import Structure

    from cryslator_flows.translator.model_folder import ModelFolder

BATCH = 64


@dataclass(frozen=True)
class PropertyPrediction:
    """Predicted property of the relaxed crystal.

    Parameters
    ----------
    target : str
        Name of the property.
    unit : str
        Unit of the property.
    value : float
        Predicted value, in `unit`.
    uncertainty, uncertainty_90 : float
        Half widths of the intervals that held 68 and 90 % of the validation values, in `unit`.
    out_of_domain : bool
        True if the crystal is unlike the crystals of the training data.
    domain_reason : str
        Why the crystal is out of domain; empty inside the domain.
    """

    target: str
    unit: str
    value: float
    uncertainty: float
    uncertainty_90: float
    out_of_domain: bool
    domain_reason: str


class PropertyPredictor:
    """Predictor of the property that a model's recipe names as its target.

    Parameters
    ----------
    folder : ModelFolder
        The model to load.

    Examples
    --------
    >>> predictor = PropertyPredictor.from_pretrained("cryslator-universal")
    >>> predictor.unit
    'eV/atom'
    >>> from pymatgen.core import Lattice, Structure
    >>> rock_salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> [prediction] = predictor.predict_many([rock_salt])
    >>> prediction.value < 0
    True

    """

    def __init__(self, folder: ModelFolder) -> None:
        self.model = LoadedModel(folder)
        self.target, self.unit = self.model.config.target, self.model.config.unit

    @classmethod
    def from_pretrained(cls, name: str | Path) -> PropertyPredictor:
        """Load a model by name or by its folder.

        Raises
        ------
        ModelError
            The model does not exist, or its files are damaged.
        """
        return cls(find_model(name))

    def predict_many(self, structures: Iterable[Structure]) -> list[PropertyPrediction]:
        """Predict the property of the relaxed crystals from their unrelaxed structures, in order.

        Raises
        ------
        StructureError
            A structure is unphysical, see `check_structure`.
        """
        given = list(structures)
        for index, structure in enumerate(given):
            check_structure(structure, f"structures[{index}]")
        results = []
        for start in range(0, len(given), BATCH):
            batch = given[start : start + BATCH]
            outcome = self.model.predict(to_crystals(batch))
            columns = outcome.prediction.energy.tolist(), outcome.uncertainty.tolist(), outcome.outside
            for value, (narrow, wide), reason in zip(*columns, strict=True):
                results.append(PropertyPrediction(self.target, self.unit, value, narrow, wide, bool(reason), reason))
        return results
