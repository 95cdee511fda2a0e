"""The translator as users see it: pymatgen structures in, translations out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from pymatgen.core import Element, Lattice, Structure

from cryslator_flows.crystals.check import check_structure
from cryslator_flows.defaults import DEFAULT_MODEL
from cryslator_flows.errors import StructureError
from cryslator_flows.schemas import Translation
from cryslator_flows.translator.graph import Crystals
from cryslator_flows.translator.network import apply, mean_per_crystal
from cryslator_flows.translator.pretrained import find_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cryslator_flows.translator.pretrained import ModelFolder

# Atoms in a batch: enough to fill the processor's vector units, small enough to stay in its caches.
ATOMS_PER_BATCH = 512
TOO_CLOSE = 0.7


def to_crystals(structures: list[Structure]) -> Crystals:
    """Batch of structures in double precision."""
    return Crystals(
        lattices=torch.from_numpy(np.stack([s.lattice.matrix for s in structures])),
        frac=torch.from_numpy(np.concatenate([s.frac_coords for s in structures])),
        numbers=torch.tensor([number for s in structures for number in s.atomic_numbers]),
        n_atoms=torch.tensor([len(s) for s in structures]),
    )


class Translator:
    """One-shot translation of unrelaxed structures to near-relaxed ones with a predicted formation energy.

    Parameters
    ----------
    folder : ModelFolder
        The model to load.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> from cryslator_flows import Translator
    >>> translator = Translator.from_pretrained()
    >>> cubic = Structure.from_spacegroup(
    ...     "Pm-3m", Lattice.cubic(3.9), ["Ba", "Mn", "O"], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0]]
    ... )
    >>> translator.translate(cubic).structure.composition.reduced_formula
    'BaMnO3'
    """

    def __init__(self, folder: ModelFolder) -> None:
        self.config = folder.config()
        self.name = self.config.name
        self.version = folder.version()
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        # Double precision, so that rounding stays far below the tolerance with which DFT codes look for symmetry.
        self.network = folder.network().double().to(self.device)

    @classmethod
    def from_pretrained(cls, name: str | Path = DEFAULT_MODEL) -> Translator:
        """Load a released model by name, or a model of your own by its folder.

        Raises
        ------
        ModelError
            No such model, or its files are damaged.
        """
        return cls(find_model(name))

    def translate(self, structure: Structure) -> Translation:
        """Translate one structure.

        Raises
        ------
        StructureError
            The structure makes no physical sense, see `check_structure`.
        """
        check_structure(structure)
        return self._translate_batch([structure])[0]

    def translate_many(self, structures: Iterable[Structure]) -> list[Translation]:
        """Translate structures in batches, results in the order of the input.

        Raises
        ------
        StructureError
            The first structure that cannot be translated, by its index. Use `translate_stream` to go on past it.
        """
        results = []
        named = ((f"structures[{index}]", structure) for index, structure in enumerate(structures))
        for _, result in self.translate_labelled(named):
            if isinstance(result, StructureError):
                raise result
            results.append(result)
        return results

    def translate_stream(self, structures: Iterable[Structure]) -> Iterator[Translation | StructureError]:
        """Translate a stream of structures in batches, in order; a structure that is wrong gives its error.

        Parameters
        ----------
        structures : iterable of Structure
            Any number of structures; a batch at a time is held in memory.

        Yields
        ------
        Translation or StructureError
            One for each structure.
        """
        for _, result in self.translate_labelled(("structure", structure) for structure in structures):
            yield result

    def translate_labelled(
        self, rows: Iterable[tuple[str, Structure | StructureError]]
    ) -> Iterator[tuple[str, Translation | StructureError]]:
        """Translate a stream of named structures; errors that come with it are passed on in their place.

        Parameters
        ----------
        rows : iterable of (name, Structure or StructureError)
            Structures with the name that messages call them by, a file for instance.

        Yields
        ------
        (name, Translation or StructureError)
            One for each row, in order.
        """
        waiting: list[tuple[str, Structure | StructureError]] = []
        atoms = 0
        for name, structure in rows:
            item = structure
            if isinstance(item, Structure):
                try:
                    check_structure(item, name)
                    atoms += len(item)
                except StructureError as error:
                    item = error
            waiting.append((name, item))
            if atoms >= ATOMS_PER_BATCH:
                yield from self._flush(waiting)
                waiting, atoms = [], 0
        yield from self._flush(waiting)

    def _flush(
        self, waiting: list[tuple[str, Structure | StructureError]]
    ) -> Iterator[tuple[str, Translation | StructureError]]:
        good = [item for _, item in waiting if isinstance(item, Structure)]
        translations = iter(self._translate_batch(good) if good else [])
        for name, item in waiting:
            yield name, item if isinstance(item, StructureError) else next(translations)

    @torch.inference_mode()
    def _translate_batch(self, structures: list[Structure]) -> list[Translation]:
        crystals = to_crystals(structures).to(self.device)
        prediction = self.network(crystals)
        translated = apply(prediction, crystals).to("cpu")
        moved = mean_per_crystal(prediction.shift.norm(dim=-1), crystals).tolist()
        energies = prediction.energy.tolist()
        uncertainty = (self.network.calibration * prediction.energy_scale).tolist()
        principal = torch.linalg.eigvalsh(prediction.strain).abs().amax(dim=-1).tolist()
        lattices = translated.lattices.numpy()
        positions = np.split(translated.frac.numpy(), np.cumsum([len(s) for s in structures])[:-1])

        known = set(self.config.elements)
        results = []
        for index, structure in enumerate(structures):
            after = Structure(
                Lattice(lattices[index]),
                structure.species,
                positions[index],
                site_properties=structure.site_properties,
            )
            symbols = {Element(site.specie.symbol).symbol for site in structure}
            results.append(
                Translation(
                    structure=after,
                    formation_energy_per_atom=energies[index],
                    formation_energy_uncertainty=uncertainty[index],
                    mean_displacement=moved[index],
                    volume_change=float(after.volume / structure.volume - 1),
                    max_principal_strain=principal[index],
                    atoms_too_close=not after.is_valid(tol=TOO_CLOSE),
                    unknown_elements=sorted(symbols - known),
                    model_name=self.name,
                    model_version=self.version,
                )
            )
        return results
