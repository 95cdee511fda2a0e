"""Pairs from relaxed crystals alone: the cell of one with the elements of another, and the other."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import spglib
from pymatgen.core import Composition, Element
from pymatgen.core.structure_matcher import StructureMatcher

from cryslator_flows.crystals.check import check_structure
from cryslator_flows.crystals.files import JSON_LINES, read_structures
from cryslator_flows.crystals.substitution import substitute
from cryslator_flows.errors import DataError, StructureError
from cryslator_flows.pairs.raw import Dropped, RawPair
from cryslator_flows.pairs.store import read_store
from cryslator_flows.translator.records import RelaxedRecord, read_lines, read_records
from cryslator_flows.yaml_files import read_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator
    from pathlib import Path

    from pymatgen.core import Structure

SYMPREC = 0.01
COLUMNS = {"formation_energy_per_atom", "split"}
NO_TEMPLATE = "no isostructural crystal of another formula"


@dataclass(frozen=True)
class RelaxedCrystal:
    """A relaxed crystal.

    Parameters
    ----------
    name : str
        Its identifier.
    structure : Structure
        The crystal.
    columns : dict
        What is known of it: ``formation_energy_per_atom`` and ``energy_per_atom`` in eV/atom, ``split``.
    """

    name: str
    structure: Structure
    columns: dict[str, Any] = field(default_factory=dict)


def read_isostructural(
    path: Path, max_per_target: int = 4, seed: int = 0, report: Callable[[str], None] = lambda _: None
) -> Iterator[RawPair | Dropped]:
    """Pairs from all relaxed crystals of a source.

    Parameters
    ----------
    path : Path
        A structure file or folder of them, ``.jsonl[.gz]`` lines of `Structure.as_dict()` or of `RelaxedRecord`, or a
        file that describes a store, see `StoreSource`, of whose relaxations the ends are taken.
    max_per_target, seed : int
        See `isostructural_pairs`.
    report : callable
        Called with what is going on.

    Yields
    ------
    RawPair or Dropped
        See `isostructural_pairs`; also what cannot be read.

    Raises
    ------
    CryslatorError
        There is nothing to read.
    """
    crystals: list[RelaxedCrystal] = []
    for item in _read_crystals(path):
        if isinstance(item, Dropped):
            yield item
        else:
            crystals.append(item)
            report(f"{len(crystals)} crystals read")
    yield from isostructural_pairs(crystals, max_per_target, seed, report)


def isostructural_pairs(
    crystals: Iterable[RelaxedCrystal],
    max_per_target: int = 4,
    seed: int = 0,
    report: Callable[[str], None] = lambda _: None,
) -> Iterator[RawPair | Dropped]:
    """Pair each relaxed crystal with isostructural ones whose elements are swapped for its own.

    Two crystals are isostructural if they have the same anonymous formula, number of atoms, space group and sizes of
    orbits, and pymatgen's StructureMatcher maps one on the other whatever the elements; where several substitutions do,
    it takes the one with the least change of electronegativity. The unrelaxed crystal is the cell of the template with
    its elements swapped, not rescaled. Both the pairs and the substitutions are found with the relaxed crystal known:
    templates that are no longer like it are left out, a selection to state beside any number.

    Parameters
    ----------
    crystals : iterable of RelaxedCrystal
        The relaxed crystals.
    max_per_target : int
        How many templates each is paired with: those whose elements are nearest by Mendeleev number (D. G. Pettifor,
        Solid State Commun. 51, 31 (1984)), averaged over the atoms.
    seed : int
        Decides between equally near templates.
    report : callable
        Called with what is going on.

    Yields
    ------
    RawPair or Dropped
        The pairs of each crystal, the nearest template first, or why it has none.
    """
    groups: dict[Hashable, list[RelaxedCrystal]] = {}
    for number, crystal in enumerate(crystals, 1):
        try:
            check_structure(crystal.structure)
            groups.setdefault(_kind_of(crystal.structure), []).append(crystal)
        except StructureError as error:
            yield Dropped(crystal.name, f"relaxed crystal: {error.cause}")
        report(f"{number} space groups found")
    for number, group in enumerate(groups.values(), 1):
        report(f"{number} of {len(groups)} kinds of crystals")
        yield from _pairs_in(group, max_per_target, seed)


def _pairs_in(group: list[RelaxedCrystal], max_per_target: int, seed: int) -> Iterator[RawPair | Dropped]:
    matcher = StructureMatcher(primitive_cell=False)
    unlike: set[frozenset[int]] = set()
    elements = [_ranked_elements(crystal.structure.composition) for crystal in group]
    formulas = [crystal.structure.reduced_formula for crystal in group]
    for target, crystal in enumerate(group):
        others = [other for other in range(len(group)) if formulas[other] != formulas[target]]
        distances = {other: _distance(elements[target], elements[other]) for other in others}
        ties = {other: _draw(seed, crystal.name, group[other].name) for other in others}
        found = 0
        for other in sorted(others, key=lambda other: (distances[other], ties[other])):
            if found == max_per_target:
                break
            if frozenset((target, other)) in unlike:
                continue
            template = group[other]
            mapping = _mapping(matcher, template.structure, crystal.structure)
            if mapping is None:
                unlike.add(frozenset((target, other)))
                continue
            found += 1
            columns = {"template": template.name, "template_formula": formulas[other], "substitution": mapping}
            unrelaxed = substitute(template.structure, mapping)
            name = f"{template.name} -> {crystal.name}"
            yield RawPair(name, crystal.name, unrelaxed, crystal.structure, {**crystal.columns, **columns})
        if not found:
            yield Dropped(crystal.name, NO_TEMPLATE)


def _kind_of(structure: Structure) -> Hashable:
    """What isostructural crystals have in common."""
    cell = structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        symmetry = spglib.get_symmetry_dataset(cell, symprec=SYMPREC)
    if symmetry is None:
        raise StructureError("no space group is found; mend the structure", "no space group")
    orbits = Counter(zip(structure.atomic_numbers, symmetry.equivalent_atoms.tolist(), strict=True))
    sizes: dict[int, list[int]] = {}
    for (element, _), size in orbits.items():
        sizes.setdefault(element, []).append(size)
    signature = tuple(sorted(tuple(sorted(of_element)) for of_element in sizes.values()))
    return structure.composition.anonymized_formula, symmetry.number, len(structure), signature


def _ranked_elements(composition: Composition) -> list[tuple[float, float]]:
    """Share and Mendeleev number of each element, in the order of share and of Mendeleev number."""
    shares = composition.fractional_composition.get_el_amt_dict().items()
    return sorted((round(share, 6), float(Element(symbol).mendeleev_no or 0)) for symbol, share in shares)


def _distance(first: list[tuple[float, float]], second: list[tuple[float, float]]) -> float:
    return sum(share * abs(one - other) for (share, one), (_, other) in zip(first, second, strict=True))


def _draw(seed: int, *names: str) -> str:
    return hashlib.sha256("\n".join((str(seed), *names)).encode()).hexdigest()


def _mapping(matcher: StructureMatcher, template: Structure, target: Structure) -> dict[str, str] | None:
    """New elements of the template that make it like the target; None if there are none."""
    plain = [structure.copy().remove_oxidation_states() for structure in (template, target)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = matcher.get_best_electronegativity_anonymous_mapping(*plain)
    return None if found is None else {old.symbol: new.symbol for old, new in found.items()}


def _read_crystals(path: Path) -> Iterator[RelaxedCrystal | Dropped]:
    if path.name.endswith(JSON_LINES) and _holds_records(path):
        for number, record in enumerate(read_records(path, RelaxedRecord), 1):
            extra = record.model_extra or {}
            columns = {"energy_per_atom": extra.get("energy_per_atom"), **record.model_dump(include=COLUMNS)}
            if "split" not in record.model_fields_set:
                del columns["split"]
            known = {key: value for key, value in columns.items() if value is not None}
            yield RelaxedCrystal(str(extra.get("id", f"{path.name}, record {number}")), record.structure, known)
    elif path.suffix in (".yaml", ".yml", ".json") and _describes_a_store(path):
        for item in read_store(path):
            yield item if isinstance(item, Dropped) else RelaxedCrystal(item.target, item.relaxed, item.columns)
    else:
        for row in read_structures(path):
            name = row.source.removeprefix(f"{path}/")
            yield (
                Dropped(name, "not readable as a crystal")
                if row.structure is None
                else RelaxedCrystal(name, row.structure)
            )


def _holds_records(path: Path) -> bool:
    _, first = next(read_lines(path), (0, None))
    return isinstance(first, dict) and "lattice_parameters" in first


def _describes_a_store(path: Path) -> bool:
    try:
        content = read_yaml(path)
    except DataError:
        return False
    return isinstance(content, dict) and "store" in content
