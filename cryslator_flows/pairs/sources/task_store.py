"""Pairs from the task documents of any maggma store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from pydash import get

from cryslator_flows.analysis.ends import TEST_DOUBLE, why_not_converged
from cryslator_flows.config import StrictModel, read_strict
from cryslator_flows.counting import count_steps
from cryslator_flows.errors import CountingError, DataError
from cryslator_flows.pairs.raw import Dropped
from cryslator_flows.pairs.sources.trajectory import (
    FIXED_ATOMS,
    FIXED_CELL,
    NO_RELAXATION,
    has_fixed_atoms,
    held_by_isif,
    ionic_structures,
    structure_at,
    trajectory_pairs,
)
from cryslator_flows.system.store_specs import absolute_paths, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryslator_flows.pairs.raw import RawPair

NO_DOCUMENT = "no task document of a relaxation"
NO_STRUCTURE = "no structure before, or none after relaxation"
# Keys of the first structure in documents of VASP (emmet, newer and older), ASE and force fields (atomate2).
# Custodian's copy of the input comes first, since a restart continues from a later structure.
FIRST = ("orig_inputs.structure", "orig_inputs.poscar.structure", "input.structure", "input.mol_or_struct")
LAST = ("structure", "output.structure", "output.mol_or_struct")


class StoreSource(StrictModel):
    """A file that names a store and the documents to read from it."""

    store: dict[str, Any] = Field(description="Store as in a jobflow.yaml: 'type' and its arguments")
    criteria: dict[str, Any] = Field(default_factory=dict, description="MongoDB query for the documents")


def read_store(path: Path | str, intermediates: int = 0) -> Iterator[RawPair | Dropped]:
    """Pair the first with the last structure of every relaxation with a task document in a store.

    Documents may be emmet's for VASP or atomate2's for ASE and force fields, alone or as ``output`` in a JobStore. Two
    successive relaxations of one crystal with separate documents are two pairs.

    Parameters
    ----------
    path : Path or str
        A YAML or JSON file with the keys of `StoreSource`; its paths are relative to its folder.
    intermediates : int
        Number of evenly spaced ionic steps in documents that are further unrelaxed crystals of the target.

    Yields
    ------
    RawPair or Dropped
        One for each document, and its intermediates.

    Raises
    ------
    DataError
        The file has a mistake, or no document matches.
    StoreError
        The store cannot be opened.
    """
    path = Path(path)
    source = read_strict(path, StoreSource)
    store = open_store(absolute_paths(source.store, path.parent), f"{path}, store")
    try:
        found = False
        for document in store.query(source.criteria):
            found = True
            yield from _read_document(document, intermediates)
        if not found:
            raise DataError(f"{path}, criteria: no document matches; widen the query")
    finally:
        store.close()


def _read_document(row: dict[str, Any], intermediates: int) -> Iterator[RawPair | Dropped]:
    name = str(next(filter(None, (row.get(key) for key in ("task_id", "uuid", "_id"))), "?"))
    inner = row.get("output")
    document = inner if isinstance(inner, dict) and "input" in inner else row
    try:
        cost = count_steps(document)
    except CountingError as error:
        yield Dropped(name, NO_DOCUMENT, str(error))
        return
    if cost.synthetic:
        yield Dropped(name, TEST_DOUBLE)
    elif (reason := _not_relaxed(document) or why_not_converged(cost)) is not None:
        yield Dropped(name, reason)
    else:
        unrelaxed, relaxed = structure_at(document, FIRST), structure_at(document, LAST)
        energy = get(document, "output.energy_per_atom")
        if unrelaxed is None or relaxed is None:
            yield Dropped(name, NO_STRUCTURE)
            return
        if has_fixed_atoms(unrelaxed):
            yield Dropped(name, FIXED_ATOMS)
            return
        if energy is None and (total := get(document, "output.energy")) is not None:
            energy = total / len(relaxed)
        steps = ionic_structures(document) if intermediates else []
        columns = {} if energy is None else {"energy_per_atom": energy}
        yield from trajectory_pairs(name, unrelaxed, relaxed, steps, intermediates, columns)


def _not_relaxed(document: dict[str, Any]) -> str | None:
    """Return the reason why a calculation does not relax a whole crystal; missing settings count as a relaxation."""
    if get(document, "ase_calculator_name") is not None:
        steps = get(document, "input.steps")
        if steps is not None and steps <= 1:
            return NO_RELAXATION
        return None if get(document, "input.relax_cell", True) else FIXED_CELL
    tags = {**(get(document, "input.incar") or {}), **(get(document, "input.parameters") or {})}
    if not tags.get("NSW", 1) or tags.get("IBRION", 2) not in (1, 2, 3):
        return NO_RELAXATION
    return held_by_isif(tags.get("ISIF", 3))
