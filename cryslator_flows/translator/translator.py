"""Translator for pymatgen structures."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing import current_process
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from ase import Atoms
from loky import cpu_count
from pymatgen.core import Structure

from cryslator_flows.crystals.ase_atoms import atoms_like, structure_of
from cryslator_flows.crystals.check import check_structure
from cryslator_flows.crystals.outside import carried_properties
from cryslator_flows.documents.candidates import Translation
from cryslator_flows.errors import ModelError, StructureError, one_line
from cryslator_flows.system.processes import one_thread, start_processes
from cryslator_flows.translator.default_model import DEFAULT_MODEL
from cryslator_flows.translator.loaded import LoadedModel, to_crystals
from cryslator_flows.translator.model_folder import FORMATION_ENERGY, find_model
from cryslator_flows.translator.network import mean_per_crystal
from cryslator_flows.translator.translations import AtomsTranslation, Translations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cryslator_flows.translator.model_folder import ModelFolder

    Given = Structure | Atoms
    Row = tuple[str, Given | StructureError]
    Batch = list[Row]

# Atoms in a batch. With so many, the overhead of starting operations is small.
ATOMS_PER_BATCH = 1024
TOO_CLOSE = 0.7

# Starting processes takes some seconds. Two of them save this time on so many structures.
WORTH_PROCESSES = 5000
# More processes would wait for the one that reads and writes, and each takes some 350 MiB.
MOST_PROCESSES = 8

TranslationResult = Translation | StructureError
NamedResult = tuple[str, TranslationResult]


class Translator:
    """One-shot translation of unrelaxed structures to near-relaxed ones with a predicted formation energy.

    Structures of pymatgen give structures, and atoms of ASE give atoms.

    Parameters
    ----------
    folder : ModelFolder
        The model to load.
    device : str or None
        Device of the computation, such as ``"cuda:1"``. None for the GPU if there is one.

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

    def __init__(self, folder: ModelFolder, device: str | None = None) -> None:
        target = folder.config().target
        if target != FORMATION_ENERGY:
            raise ModelError(
                f"model {folder.name!r}: predicts {target!r}, not the formation energy; "
                "use PropertyPredictor of cryslator_flows.translator.property_predictor for it"
            )
        self.folder = folder
        self.model = LoadedModel(folder, device)
        self.name = self.model.config.name
        self.version = self.model.version
        self._n_translated = 0
        # Daemonic processes, such as workers of multiprocessing.Pool, must not start others.
        self._alone = current_process().daemon

    @classmethod
    def from_pretrained(cls, name: str | Path = DEFAULT_MODEL, device: str | None = None) -> Translator:
        """Load a released model by name, or another model by its folder, on a device.

        Raises
        ------
        ModelError
            The model or device does not exist, or a file is damaged.
        """
        return cls(find_model(name), device)

    def __repr__(self) -> str:
        """Return name and version of the model, the number of its elements and the device."""
        n_elements = len(self.model.config.elements)
        return f"<Translator {self.name}, version {self.version}: {n_elements} elements, on {self.model.device}>"

    @overload
    def translate(self, structure: Structure) -> Translation: ...

    @overload
    def translate(self, structure: Atoms) -> AtomsTranslation: ...

    def translate(self, structure: Given) -> Translation:
        """Translate one structure, or ASE's atoms.

        Raises
        ------
        StructureError
            The structure is unphysical, see `check_structure`.
        """
        # Threads that wait for each other on a busy machine can take ten times as long.
        with one_thread():
            (result,) = self.translate_batch([("structure", structure)])
        if isinstance(result, StructureError):
            raise result
        return result

    def translate_many(self, structures: Iterable[Given]) -> Translations:
        """Translate structures in batches, results in the order of the input, which `to_dataframe` makes a table.

        Raises
        ------
        StructureError
            The first structure that cannot be translated, by its index. Use `translate_stream` to continue after it.
        """
        results = Translations()
        named = ((f"structures[{index}]", structure) for index, structure in enumerate(structures))
        for _, result in self.translate_labelled(named):
            if isinstance(result, StructureError):
                raise result
            results.append(result)
        return results

    def translate_stream(self, structures: Iterable[Given]) -> Iterator[TranslationResult]:
        """Translate a stream of structures in batches, in order. A wrong structure yields its error.

        Parameters
        ----------
        structures : iterable of Structure or Atoms
            Any number of structures. One batch at a time is in memory.

        Yields
        ------
        Translation or StructureError
            One for each structure.
        """
        for _, result in self.translate_labelled(("structure", structure) for structure in structures):
            yield result

    def translate_labelled(self, rows: Iterable[Row]) -> Iterator[NamedResult]:
        """Translate a stream of named structures. Errors in the stream are passed on in their place.

        Parameters
        ----------
        rows : iterable of (name, Structure, Atoms or StructureError)
            Structures with their names for messages, such as file names.

        Yields
        ------
        (name, Translation or StructureError)
            One for each row, in order.
        """
        cores = torch.get_num_threads()
        ahead: deque[tuple[Batch, Future[list[TranslationResult]]]] = deque()
        # A batch is too small for threads within one operation. A thread for each batch is efficient.
        with ThreadPoolExecutor(cores, initializer=one_thread) as threads:
            try:
                for batch in in_batches(rows):
                    workers = self._processes()
                    if workers == 1:
                        waiting = threads.submit(self.translate_batch, batch)
                    else:
                        waiting = start_processes(workers).submit(translate_elsewhere, self.folder, self.version, batch)
                    self._n_translated += len(batch)
                    ahead.append((batch, waiting))
                    if len(ahead) > max(cores, workers):
                        yield from self._results(*ahead.popleft())
                while ahead:
                    yield from self._results(*ahead.popleft())
            finally:
                for _, waiting in ahead:
                    waiting.cancel()

    def translate_batch(self, batch: Batch) -> list[TranslationResult]:
        """Check the structures of a batch and translate the physical ones, all at once in this thread."""
        checked = [checked_row(*row) for row in batch]
        try:
            translations = iter(self._translate([item for item in checked if isinstance(item, Structure)]))
        # One structure alone can be the reason. The others are translated without it.
        except Exception as error:
            if len(batch) > 1:
                return [result for row in batch for result in self.translate_batch([row])]
            name = batch[0][0]
            return [StructureError(f"{name}: cannot be translated ({one_line(error)}); leave it out", "not translated")]
        return [
            item if isinstance(item, StructureError) else as_given(next(translations), given)
            for item, (_, given) in zip(checked, batch, strict=True)
        ]

    def _processes(self) -> int:
        """Return the number of processes for translation.

        It is one until so many structures are translated that starting others pays.
        """
        if self._alone or self.model.device != "cpu" or self._n_translated < WORTH_PROCESSES:
            return 1
        return min(cpu_count(), MOST_PROCESSES)

    def _results(self, batch: Batch, waiting: Future[list[TranslationResult]]) -> Iterator[NamedResult]:
        """Return the results of a batch with the names of its rows."""
        try:
            results = waiting.result()
        except BrokenProcessPool:
            # A worker was killed, most likely for lack of memory. This process continues alone.
            self._alone = True
            results = self.translate_batch(batch)
        return zip((name for name, _ in batch), results, strict=True)

    def _translate(self, structures: list[Structure]) -> list[Translation]:
        if not structures:
            return []
        crystals = to_crystals(structures)
        outcome = self.model.predict(crystals)
        prediction = outcome.prediction
        moved = mean_per_crystal(prediction.shift.cpu().norm(dim=-1), crystals).tolist()
        energies = prediction.energy.tolist()
        uncertainty = outcome.uncertainty.tolist()
        structure = outcome.structure_uncertainty
        volume, shape, shift = [[None] * len(structures)] * 3 if structure is None else structure.T.tolist()
        distance = outcome.distance.tolist()
        principal = torch.linalg.eigvalsh(prediction.strain).abs().amax(dim=-1).tolist()
        growth = torch.expm1(prediction.strain.diagonal(dim1=1, dim2=2).sum(-1)).tolist()
        lattices = outcome.translated.lattices.cpu().numpy()
        positions = np.split(outcome.translated.frac.cpu().numpy(), np.cumsum([len(s) for s in structures])[:-1])
        results = []
        for index, before in enumerate(structures):
            species = before.species
            kept: dict[str, Any] = {"charge": before._charge, "site_properties": carried_properties(before)}
            after = Structure(lattices[index], species, positions[index], **kept)
            too_close = len(after.get_neighbor_list(TOO_CLOSE, exclude_self=True)[0]) > 0
            if (cells := np.floor(before.frac_coords)).any():
                after = Structure(after.lattice, species, positions[index] + cells, **kept)
            results.append(
                Translation(
                    structure=after,
                    formation_energy_per_atom=energies[index],
                    formation_energy_uncertainty=uncertainty[index][0],
                    formation_energy_uncertainty_90=uncertainty[index][1],
                    mean_displacement=moved[index],
                    volume_change=growth[index],
                    max_principal_strain=principal[index],
                    volume_uncertainty_90=volume[index],
                    shape_uncertainty_90=shape[index],
                    displacement_uncertainty_90=shift[index],
                    atoms_too_close=too_close,
                    unknown_elements=self.model.unknown_elements(species),
                    domain_distance=distance[index],
                    out_of_domain=bool(outcome.outside[index]),
                    domain_reason=outcome.outside[index],
                    model_name=self.name,
                    model_version=self.version,
                )
            )
        return results


def checked_row(name: str, item: Given | StructureError) -> Structure | StructureError:
    """Return a structure, or the error about it."""
    if isinstance(item, StructureError):
        return item
    try:
        item = structure_of(item)
    except StructureError as error:
        return StructureError(f"{name}: {error}", error.cause)
    if not isinstance(item, Structure):
        raise TypeError(
            f"{name}: a {type(item).__name__} is neither a pymatgen Structure nor ASE Atoms; give one of them"
        )
    try:
        check_structure(item, name)
    except StructureError as error:
        return error
    return item


def as_given(translation: Translation, given: Any) -> Translation:
    """Return a translation with atoms of ASE if such were given."""
    if not isinstance(given, Atoms):
        return translation
    return AtomsTranslation(**dict(translation) | {"structure": atoms_like(translation.structure, given)})


def in_batches(rows: Iterable[Row]) -> Iterator[Batch]:
    """Yield rows in batches of some `ATOMS_PER_BATCH` atoms.

    The number of atoms bounds the edges: an atom has less than 20.
    """
    batch: Batch = []
    atoms = 0
    for name, item in rows:
        batch.append((name, item))
        atoms += len(item) or 1 if isinstance(item, Structure | Atoms) else 1
        if atoms >= ATOMS_PER_BATCH:
            yield batch
            batch, atoms = [], 0
    yield batch


def translate_elsewhere(folder: ModelFolder, version: str, batch: Batch) -> list[TranslationResult]:
    """Translate a batch in another process, on the CPU. The process keeps its model in memory."""
    with one_thread():
        return kept_translator(folder, version, "cpu").translate_batch(batch)


@lru_cache(maxsize=1)
def kept_translator(folder: ModelFolder, version: str, device: str | None = None) -> Translator:
    """Load a model on a device unless it is the last one that this process loaded.

    Raises
    ------
    ModelError
        A file is damaged, or the model has another version.
    """
    translator = Translator(folder, device)
    if translator.version != version:
        raise ModelError(f"{folder.path}: the weights changed while they were in use; start again")
    return translator
