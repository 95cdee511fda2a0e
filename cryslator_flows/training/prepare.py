"""Conversion of a recipe and its files of pairs to one tensor file, for which `fit` needs only torch and numpy."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pymatgen.core import Element
from scipy.optimize import lsq_linear

from cryslator_flows.errors import DataError
from cryslator_flows.training.checkpoint import write_arrays
from cryslator_flows.training.records import PairRecord, RelaxedRecord, check_record, read_lines
from cryslator_flows.training.splits import HeldOut, read_training
from cryslator_flows.training.tensors import Pairs, relaxed_inputs, to_arrays
from cryslator_flows.translator.equivalents import RELAXED_SHIFT, RELAXED_STRAIN, find_symmetry
from cryslator_flows.translator.geometry import shift_between, strain_between
from cryslator_flows.translator.network import MAX_ATOMIC_NUMBER
from cryslator_flows.translator.orbits import Symmetry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from cryslator_flows.training.recipe import Recipe


TensorRow = tuple[Any, ...]

# Larger values exceed single precision with weights of size one.
LARGEST_TARGET = 1e4
# Of an element, in cubic angstrom.
SMALLEST_VOLUME = 1.0
# Key of the digest of all inputs of a tensor file.
MADE_FROM = "made_from"


def to_pairs(rows: Iterable[TensorRow], precision: type[np.floating[Any]] = np.float32) -> Pairs:
    """Stack rows of (numbers, lattice, frac, lattice, frac, energy, settled) into flat tensors."""
    columns = list(zip(*rows, strict=True)) or [()] * 7
    numbers, first_lattice, first_frac, second_lattice, second_frac, energy, settled = columns

    def stack(parts: Iterable[NDArray[np.float64]], *shape: int) -> torch.Tensor:
        return torch.from_numpy(np.asarray([*parts], dtype=precision).reshape(-1, *shape))

    def join(parts: Iterable[NDArray[np.float64]]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([np.zeros((0, 3)), *parts]).astype(precision))

    n_atoms = torch.tensor([len(part) for part in numbers], dtype=torch.long)
    energies = torch.tensor(np.asarray(energy, dtype=precision))
    return Pairs(
        n_atoms=n_atoms,
        numbers=torch.from_numpy(np.concatenate([np.zeros(0), *numbers]).astype(np.int64)),
        unrelaxed_lattices=stack(first_lattice, 3, 3),
        unrelaxed_frac=join(first_frac),
        relaxed_lattices=stack(second_lattice, 3, 3),
        relaxed_frac=join(second_frac),
        energy=energies,
        settled=torch.tensor(settled, dtype=torch.bool),
        symmetry=Symmetry.none(n_atoms, energies.dtype),
    )


def with_symmetry(pairs: Pairs) -> Pairs:
    """Return pairs with the symmetry of the unrelaxed crystal, where the relaxed one has it too."""
    if not len(pairs):
        return pairs
    unrelaxed, relaxed = (crystals.in_precision(torch.float64) for crystals in (pairs.unrelaxed, pairs.relaxed))
    found = find_symmetry(unrelaxed)
    orbits, owner = found.orbits, found.owner
    strain, shift = strain_between(found.lattices, relaxed.lattices), shift_between(found, relaxed)
    off = (shift - orbits.keep_sites(shift[orbits.shown])).norm(dim=-1)
    broken = (strain - orbits.keep_cells(strain)).abs().amax(dim=(1, 2)) > RELAXED_STRAIN
    broken |= torch.zeros(len(pairs), dtype=torch.double).scatter_reduce_(0, owner, off, "amax") > RELAXED_SHIFT
    alone, there = Symmetry.none(pairs.n_atoms, torch.float64), vars(found.symmetry)

    def kept(name: str) -> torch.Tensor:
        here = broken if name == "cells" else broken[owner]
        return torch.where(here.view(-1, *[1] * (there[name].dim() - 1)), getattr(alone, name), there[name])

    symmetry = Symmetry(**{name: kept(name) for name in there}).to(pairs.unrelaxed_lattices.dtype)
    return replace(pairs, symmetry=symmetry)


def target_value(record: PairRecord | RelaxedRecord, target: str) -> float:
    """Return the value of the target field of a record; NaN where missing.

    Raises
    ------
    DataError
        The field is not a number.
    """
    value = getattr(record, target, None)
    if value is None:
        return np.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST_TARGET:
        name = record.target if isinstance(record, PairRecord) else record.reduced_formula
        raise DataError(
            f"{target} of {name}: {value!r} is not a number up to {LARGEST_TARGET:g}; fix the records, give them in "
            "another unit, or choose another target in the recipe"
        )
    return float(value)


def target_indices(records: list[PairRecord]) -> torch.Tensor:
    """Return the number of the target of each pair, in order of appearance, [pairs]."""
    numbers: dict[str, int] = {}
    rows = [numbers.setdefault(record.target, len(numbers)) for record in records]
    return torch.tensor(rows, dtype=torch.long)


def first_rows(targets: torch.Tensor) -> torch.Tensor:
    """Return the row of the first pair of each target, in order of appearance."""
    return torch.from_numpy(np.unique(targets.numpy(), return_index=True)[1])


def pair_row(record: PairRecord, target: str) -> TensorRow:
    """Return the row of a pair for `to_pairs`."""
    numbers = np.array([Element(symbol).Z for symbol in record.species])
    geometry: list[Any] = [np.array(part) for part in (
        record.unrelaxed.lattice, record.unrelaxed.frac, record.relaxed.lattice, record.relaxed.frac,
    )]  # fmt: skip
    return numbers, *geometry, target_value(record, target), True


def relaxed_row(record: RelaxedRecord, target: str) -> TensorRow:
    """Return the row of a relaxed crystal for `to_pairs`, paired with itself."""
    structure = record.structure
    geometry = structure.lattice.matrix, structure.frac_coords
    numbers = np.array(structure.atomic_numbers)
    return numbers, *geometry, *geometry, target_value(record, target), record.geometry == "PBE"


def element_property(element: Element, name: str) -> float | None:
    """Return a property of an element by pymatgen's name, None where pymatgen has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value: float | None = getattr(element, name)
    return value


def element_radius(element: Element) -> float:
    """Return the mean ionic radius if pymatgen has one, else the atomic radius, in angstrom."""
    names = "average_ionic_radius", "atomic_radius", "atomic_radius_calculated"
    radii = (element_property(element, name) for name in names)
    return next((float(radius) for radius in radii if radius), 1.5)


def element_table() -> NDArray[np.float32]:
    """Return standardised properties of the elements from pymatgen, [119, 7]. Row 0 is unused.

    The columns are electronegativity, mean ionic radius, atomic radius, group, row, Mendeleev number and molar volume.
    An unknown property counts as the mean.
    """
    rows = []
    for number in range(1, MAX_ATOMIC_NUMBER + 1):
        element = Element.from_Z(number)
        names = "X", "atomic_radius", "group", "row", "mendeleev_no", "molar_volume"
        known, atomic, *others = (element_property(element, name) for name in names)
        rows.append([known, element_radius(element), atomic or np.nan, *others[:3], others[3] or np.nan])
    table = np.asarray(rows, dtype=np.float64)
    table = (table - np.nanmean(table, axis=0)) / np.nanstd(table, axis=0)
    return np.vstack([np.zeros(table.shape[1]), np.nan_to_num(table)]).astype(np.float32)


def fit_element_volumes(pairs: Pairs) -> NDArray[np.float32]:
    """Return the volumes v_Z >= 1 A^3 that minimise the sum of (sum_Z n_Z v_Z / V - 1)^2 over relaxed crystals, [119].

    Few pairs leave volumes open. An element without volume would leave crystals of it without a scale of length.

    Parameters
    ----------
    pairs : Pairs
        Pairs with the relaxed cells for the fit.

    Returns
    -------
    array
        Volumes in cubic angstrom. An element that never occurs has the median of the others.
    """
    counts = np.zeros((len(pairs), MAX_ATOMIC_NUMBER + 1))
    owner = pairs.relaxed.owner.numpy()
    np.add.at(counts, (owner, pairs.numbers.numpy()), 1)
    counts /= pairs.relaxed.volumes.numpy()[:, None]
    seen = counts.any(axis=0)
    volumes = np.zeros(counts.shape[1])
    volumes[seen] = lsq_linear(counts[:, seen], np.ones(len(pairs)), bounds=(SMALLEST_VOLUME, np.inf)).x
    volumes[~seen] = np.median(volumes[seen])
    return volumes.astype(np.float32)


def training_pairs(records: list[PairRecord], target: str, source: str) -> Pairs:
    """Return tensors of the pairs for training or for model selection.

    Raises
    ------
    DataError
        The pairs have no number under the target.
    """
    pairs = with_symmetry(to_pairs(pair_row(record, target) for record in records))
    if pairs.energy.isnan().all():
        raise DataError(f"{source}: no pair has a number under {target!r}, the target of the recipe")
    return pairs


def settings_array(settings: dict[str, Any]) -> NDArray[np.uint8]:
    """Return settings as an array, in the form that `fit` reads."""
    return np.frombuffer(json.dumps(settings).encode(), dtype=np.uint8)


def prepare(recipe: Recipe, path: Path) -> None:
    """Write the tensor file that `fit` reads: pairs, element tables and settings.

    A file that was made from the same recipe, files and code stays as it is.

    Parameters
    ----------
    recipe : Recipe
        The recipe.
    path : Path
        The ``.npz`` file to write.

    Raises
    ------
    DataError
        A file of the recipe cannot be read, has a wrong record, or has a training line that leaks a validation or
        test pair.
    """
    source = _digest_of(recipe)
    if source is not None and source == _made_from(path):
        return
    parts, left_out = read_training(recipe)
    pairs, val = (
        training_pairs(records, recipe.target, ", ".join(map(str, files)) or str(recipe.pairs))
        for records, files in ((parts.train, recipe.train), (parts.val, recipe.val))
    )
    groups = {"train": target_indices(parts.train), "val": target_indices(parts.val)}
    targets = pairs.take(first_rows(groups["train"]))
    held = HeldOut(parts.val, parts.test, recipe.split_by)
    relaxed = [] if recipe.relaxed is None else _training_crystals(recipe.relaxed, held)
    radii = [1.0] + [element_radius(Element.from_Z(number)) for number in range(1, MAX_ATOMIC_NUMBER + 1)]
    alone = with_symmetry(to_pairs(relaxed_row(record, recipe.target) for record in relaxed))
    if recipe.relaxed is None and recipe.reference is not None:
        # The paper's encoder and regressor learn from the relaxed crystals of its pairs.
        alone = relaxed_inputs(targets)
    settings = {"network": asdict(recipe.network), "fit": asdict(recipe.fit)}
    if recipe.reference is not None:
        settings["reference"] = {"network": asdict(recipe.reference.network), "fit": asdict(recipe.reference.fit)}
    arrays: dict[str, Any] = {
        **to_arrays(pairs, "train"),
        **to_arrays(val, "val"),
        **{f"targets/{name}": rows.numpy() for name, rows in groups.items()},
        **to_arrays(alone, "relaxed"),
        "elements/table": element_table(),
        "elements/radii": np.asarray(radii, dtype=np.float32),
        "elements/volumes": fit_element_volumes(targets),
        "settings": settings_array(settings),
        "left_out": np.asarray(left_out),
        MADE_FROM: np.frombuffer((source or "").encode(), dtype=np.uint8),
    }
    write_arrays(path, arrays)


def _training_crystals(path: Path, held: HeldOut) -> Iterable[RelaxedRecord]:
    """Yield relaxed crystals of the training part.

    A crystal with the formula of a validation or test pair is an error.
    """
    for number, row in read_lines(path):
        record = check_record(path, number, row, RelaxedRecord)
        if record.split == "train":
            if part := held.formulas.get(record.reduced_formula):
                raise DataError(
                    f"{path}, line {number}: formula {record.reduced_formula} is one of the {part} pairs; remove the "
                    "crystal, or give it another `split` than train"
                )
            yield record


def _digest_of(recipe: Recipe) -> str | None:
    """Return the digest of all inputs of `prepare`; None if a file cannot be read."""
    fields = {"shares", "split_by", "target", "network", "fit", "reference"}
    code = sorted(
        file for room in ("training", "translator") for file in Path(__file__).parents[1].glob(f"{room}/*.py")
    )
    parts = recipe.train, recipe.val, recipe.test, [recipe.pairs], [recipe.relaxed], code
    try:
        files = [
            None if file is None else hashlib.sha256(file.read_bytes()).hexdigest() for part in parts for file in part
        ]
    except OSError:
        return None
    versions = [version(package) for package in ("moyopy", "numpy", "pymatgen")]
    what = [[len(part) for part in parts], files, versions, recipe.model_dump(mode="json", include=fields)]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _made_from(path: Path) -> str | None:
    """Return the digest of the inputs of a tensor file; None if the file has none."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return bytes(archive[MADE_FROM]).decode()
    except Exception:  # damaged bytes raise nearly anything
        return None
