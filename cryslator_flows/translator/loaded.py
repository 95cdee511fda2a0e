"""A model folder loaded for predictions: network in single precision, all other steps in double precision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pymatgen.core import Element, Lattice, Structure
from torch import Tensor

from cryslator_flows.crystals.check import inside_cell
from cryslator_flows.errors import ModelError, one_line
from cryslator_flows.translator.chemistry import Chemistry
from cryslator_flows.translator.equivalents import find_symmetry
from cryslator_flows.translator.graph import Crystals
from cryslator_flows.translator.network import Prediction, apply
from cryslator_flows.translator.settling import describe

if TYPE_CHECKING:
    from pymatgen.core import Species

    from cryslator_flows.translator.model_folder import ModelFolder


def to_crystals(structures: list[Structure]) -> Crystals:
    """Return structures as a batch in double precision."""
    return Crystals(
        lattices=torch.from_numpy(np.stack([s.lattice.matrix for s in structures])),
        # The search takes memory for all the space between the atoms at their given positions.
        frac=torch.from_numpy(np.concatenate([inside_cell(s) for s in structures])),
        numbers=torch.tensor([number for s in structures for number in s.atomic_numbers]),
        n_atoms=torch.tensor([len(s) for s in structures]),
    )


def to_structures(crystals: Crystals, like: list[Structure]) -> list[Structure]:
    """Return the structures of a batch, with the species and site properties of `like`."""
    lattices = crystals.lattices.cpu().numpy()
    positions = np.split(crystals.frac.cpu().numpy(), np.cumsum([len(s) for s in like])[:-1])
    return [
        Structure(Lattice(lattice), before.species, frac, site_properties=before.site_properties)
        for lattice, frac, before in zip(lattices, positions, like, strict=True)
    ]


@dataclass(frozen=True)
class ModelOutput:
    """Output of a model for a batch.

    Parameters
    ----------
    prediction : Prediction
        Prediction of the network, without the changes that relaxed crystals do not need.
    translated : Crystals
        The translated crystals.
    uncertainty : Tensor
        Half widths of the intervals that held 68 and 90 % of the validation targets, [crystals, 2].
    features : Tensor
        Translated features, [crystals, F].
    distance : Tensor
        Distance of `features` from features of training crystals, over the limit of the domain, [crystals].
    outside : list of str
        Why each crystal is out of domain, see `Calibration.reasons`; an empty text inside the domain.
    structure_uncertainty : Tensor or None
        Half widths of the 90 % intervals of ln(volume), shape and positions, [crystals, 3], see `ExpectedErrors`; None
        for a model without.
    """

    prediction: Prediction
    translated: Crystals
    uncertainty: Tensor
    features: Tensor
    distance: Tensor
    outside: list[str]
    structure_uncertainty: Tensor | None = None


def in_double(prediction: Prediction) -> Prediction:
    """Return a prediction in double precision."""
    changed: dict[str, Any] = {
        name: value.double() for name, value in vars(prediction).items() if torch.is_tensor(value)
    }
    return replace(prediction, **changed)


class LoadedModel:
    """Network and calibration of a model folder.

    Parameters
    ----------
    folder : ModelFolder
        The model to load.
    device : str or None
        Device of the computation. None for the GPU if there is one.

    Raises
    ------
    ModelError
        A file of the model is damaged, or the device does not exist.
    """

    def __init__(self, folder: ModelFolder, device: str | None = None) -> None:
        self.config = folder.config()
        self.version = folder.version()
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        network = folder.network()
        try:
            self.network = network.to(self.device)
        # torch raises AssertionError if it is built without CUDA.
        except (RuntimeError, AssertionError) as error:
            raise ModelError(f"device {self.device!r}: {one_line(error)}; give 'cpu', or None") from error
        self.calibration = folder.calibration().to(self.device, torch.float64)
        self._known = set(self.config.elements)

    def to_single(self, crystals: Crystals) -> Crystals:
        """Return crystals on the network's device, in single precision."""
        return crystals.to(self.device).in_precision(torch.float32)

    @torch.inference_mode()
    def predict(self, crystals: Crystals) -> ModelOutput:
        """Translate a batch from `to_crystals`."""
        crystals = find_symmetry(crystals)
        raw = in_double(self.network.translate(self.to_single(crystals)))
        crystals = crystals.to(self.device)
        encoded, features = self.network.crystal_features(raw, crystals)
        distance = self.calibration.distance(features)
        settling, errors = self.calibration.settling, self.calibration.errors
        numbers = describe(raw, crystals, encoded, features)
        prediction = raw if settling is None else settling.settle(raw, crystals, numbers)
        chemistry = Chemistry.of(crystals)
        uncertainty = self.calibration.uncertainty(raw.energy_scale, distance, chemistry)
        return ModelOutput(
            prediction=prediction,
            translated=apply(prediction, crystals),
            uncertainty=uncertainty,
            features=features,
            distance=distance / self.calibration.limit,
            outside=self.calibration.reasons(chemistry, uncertainty, distance),
            structure_uncertainty=None if errors is None else errors.widths(numbers, distance, chemistry.classes),
        )

    def unknown_elements(self, species: list[Element | Species]) -> list[str]:
        """Return the elements that are not in the training data."""
        return sorted({Element.from_Z(kind.Z).symbol for kind in species} - self._known)
