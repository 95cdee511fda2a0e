"""Relaxed crystals from files, lines and stores, and their descriptions for the search of isostructural ones."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moyopy import Cell, MoyoDataset, niggli_reduce
from pydantic import ValidationError
from pymatgen.core import Composition, Element

from cryslator_flows.config import read_yaml
from cryslator_flows.crystals.check import check_structure
from cryslator_flows.crystals.files import read_structure
from cryslator_flows.crystals.outside import UNREADABLE, structure_from_dict
from cryslator_flows.crystals.source_files import JSON_LINES, read_lines
from cryslator_flows.errors import DataError, StructureError
from cryslator_flows.pairs.raw import Dropped, wrong_field
from cryslator_flows.pairs.sources.task_store import read_store
from cryslator_flows.training.records import RelaxedRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pymatgen.core import Structure

SYMPREC = 0.01
COLUMNS = {"formation_energy_per_atom", "split"}
OTHER_FUNCTIONAL = "relaxed with another functional than the pairs"


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
        Known properties: ``formation_energy_per_atom`` and ``energy_per_atom`` in eV/atom, ``split``.
    """

    name: str
    structure: Structure
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Unread:
    """A crystal in its source, to be read in another process.

    Parameters
    ----------
    name : str
        Name of the crystal, if it has no identifier.
    content : Path or bytes
        A structure file, or a line of `Structure.as_dict()` or of `RelaxedRecord`.
    """

    name: str
    content: Path | bytes

    def read(self) -> RelaxedCrystal | Dropped:
        """Read the crystal; a mistake in it is a reason to drop it."""
        try:
            if isinstance(self.content, Path):
                return RelaxedCrystal(self.name, read_structure(self.content))
            row = json.loads(self.content)
            if isinstance(row, dict) and "lattice_parameters" in row:
                return _from_record(self.name, row)
            return RelaxedCrystal(self.name, structure_from_dict(row))
        except (json.JSONDecodeError, UnicodeDecodeError):
            return Dropped(self.name, "not JSON")
        except ValidationError as error:
            return wrong_field(self.name, error)
        except StructureError as error:
            return Dropped(self.name, error.cause)
        # Foreign lines and files can raise any error.
        except Exception:
            return Dropped(self.name, UNREADABLE)


def _from_record(name: str, row: dict[str, Any]) -> RelaxedCrystal | Dropped:
    record = RelaxedRecord.model_validate(row)
    extra = record.model_extra or {}
    name = str(extra.get("id", name))
    if record.geometry != "PBE":
        return Dropped(name, OTHER_FUNCTIONAL)
    columns = {"energy_per_atom": extra.get("energy_per_atom"), **record.model_dump(include=COLUMNS)}
    if "split" not in record.model_fields_set:
        del columns["split"]
    return RelaxedCrystal(name, record.structure, {key: value for key, value in columns.items() if value is not None})


def read_relaxed(path: Path | str, files: Iterable[Path]) -> Iterator[Unread | RelaxedCrystal | Dropped]:
    """Yield the relaxed crystals of a source.

    Parameters
    ----------
    path : Path or str
        A structure file, a folder of structure files, or ``.jsonl[.gz]`` lines of `Structure.as_dict()` or of
        `RelaxedRecord`. Or a file that describes a store, see `StoreSource`: the ends of its relaxations are taken.
    files : iterable of Path
        The files of the source.

    Yields
    ------
    Unread, RelaxedCrystal or Dropped
        One for each file, line or document.

    Raises
    ------
    CryslatorError
        The source is empty.
    """
    path = Path(path)
    if describes_a_store(path):
        for item in read_store(path):
            yield item if isinstance(item, Dropped) else RelaxedCrystal(item.target, item.relaxed, item.columns)
        return
    for file in files:
        name = str(file.relative_to(path)) if path.is_dir() else file.name
        if JSON_LINES.fullmatch(file.name):
            yield from _read_lines(file, name)
        else:
            yield Unread(name, file)


def describes_a_store(path: Path) -> bool:
    """Return True if a file is a `StoreSource`."""
    if path.suffix not in (".yaml", ".yml", ".json") or not path.is_file():
        return False
    try:
        content = read_yaml(path)
    except DataError:
        return False
    return isinstance(content, dict) and "store" in content


def _read_lines(file: Path, name: str) -> Iterator[Unread | Dropped]:
    try:
        for number, line in read_lines(file):
            yield Unread(f"{name}, line {number}", line)
    except StructureError as error:
        yield Dropped(name, f"the rest of the file cannot be read: {error}")


def describe_crystals(items: Iterable[Unread | RelaxedCrystal | Dropped]) -> Iterator[dict[str, Any]]:
    """Read, check and describe crystals.

    Parameters
    ----------
    items : iterable of Unread, RelaxedCrystal or Dropped
        Crystals from `read_relaxed`.

    Yields
    ------
    dict
        ``name`` and ``reason`` of a dropped crystal. Of others ``name``, ``source`` (its file or line), ``columns``,
        ``species``, ``lattice``, ``frac`` and the reduced ``formula``. Further ``kind`` (equal for isostructural
        crystals), ``orbits`` (see `find_orbits`), ``elements`` (see `ranked_elements`) and ``reduced`` (the Niggli
        cell).
    """
    for item in items:
        crystal = item.read() if isinstance(item, Unread) else item
        if isinstance(crystal, Dropped):
            yield {"name": crystal.name, "reason": crystal.reason}
            continue
        structure = crystal.structure
        try:
            check_structure(structure)
            species = [Element.from_Z(number).symbol for number in structure.atomic_numbers]
            space_group, orbits = find_orbits(structure, species)
            reduced, _ = niggli_reduce(structure.lattice.matrix.tolist())
        except StructureError as error:
            yield {"name": crystal.name, "reason": f"relaxed crystal: {error.cause}"}
        # moyopy fails on some cells with its own errors.
        except Exception as error:
            yield {"name": crystal.name, "reason": f"relaxed crystal: no reduced cell ({type(error).__name__})"}
        else:
            composition = Composition(Counter(species))
            yield {
                "name": crystal.name,
                "source": item.name,
                "columns": crystal.columns,
                "species": species,
                "lattice": structure.lattice.matrix.tolist(),
                "frac": structure.frac_coords.tolist(),
                "formula": composition.reduced_formula,
                "kind": [composition.anonymized_formula, space_group, len(species), sorted(orbits.values())],
                "orbits": orbits,
                "elements": ranked_elements(composition),
                "reduced": reduced,
            }


def find_orbits(structure: Structure, species: list[str]) -> tuple[int, dict[str, list[int]]]:
    """Return the number of the space group, and the sizes of the orbits of each element in order.

    Raises
    ------
    StructureError
        No space group is found.
    """
    kinds = {symbol: number for number, symbol in enumerate(dict.fromkeys(species))}
    # Its warning is expected here: coordinates in files are rounded.
    logging.getLogger("moyo").setLevel(logging.ERROR)
    try:
        cell = Cell(
            structure.lattice.matrix.tolist(), structure.frac_coords.tolist(), [kinds[symbol] for symbol in species]
        )
        symmetry = MoyoDataset(cell, symprec=SYMPREC)
    except ValueError as error:
        raise StructureError("no space group is found; fix the structure", "no space group") from error
    sizes: dict[str, list[int]] = {}
    for (symbol, _), size in Counter(zip(species, symmetry.orbits, strict=True)).items():
        sizes.setdefault(symbol, []).append(size)
    return symmetry.number, {symbol: sorted(of_element) for symbol, of_element in sizes.items()}


def ranked_elements(composition: Composition) -> list[tuple[float, float]]:
    """Return share and Mendeleev number of each element, in the order of share and of Mendeleev number."""
    shares = composition.fractional_composition.get_el_amt_dict().items()
    return sorted((round(share, 6), float(Element(symbol).mendeleev_no or 0)) for symbol, share in shares)
