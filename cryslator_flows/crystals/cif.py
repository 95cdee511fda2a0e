"""CIF files: pymatgen's reader, and checks without which it returns another crystal than the file describes."""

from __future__ import annotations

import math
import re
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.core import Composition, Element
from pymatgen.io.cif import CifBlock, CifParser, str2float
from pymatgen.symmetry.groups import SpaceGroup

from cryslator_flows.crystals.check import MAX_ATOMS, check_count
from cryslator_flows.crystals.outside import UNREADABLE, check_occupancy
from cryslator_flows.errors import StructureError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymatgen.core import Structure

# A space group has at most 192 operations, or some thousand with all centrings and time reversal.
MAX_OPERATIONS = 1536
# The reader compares every image of every site with all atoms.
MAX_IMAGES = 50_000
# Largest deviation of the ratio of two elements from the stated one, where an amount is not a whole number.
ROUNDED = 0.01
OPERATIONS = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz")
MAGNETIC_OPERATIONS = ("_space_group_symop_magn_operation.xyz", "_space_group_symop_magn_centering.xyz")
LONGEST_FORMULA = 1000
# Characters in a block: a hundred times as many as 500 atoms take.
LONGEST_BLOCK = 8 * 2**20
KEYS = (
    *(f"_cell_{part}" for part in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")),
    "_atom_site_label",
    *(f"_atom_site_fract_{axis}" for axis in "xyz"),
)
SPACE_GROUP = re.compile(
    r"_(symmetry|space_group)_(space_group_)?(name_h[-_]m|name_hall|int_tables|it_number)", flags=re.IGNORECASE
)
TYPE_SYMBOL = re.compile(r"([A-Za-z]+)[\d.+-]*")
TWO_ORIGINS = {48, 50, 59, 68, 70, 85, 86, 88, 125, 126, 129, 130, 133, 134, 137, 138, 141, 142, 201, 203, 222, 224}
TWO_ORIGINS |= {227, 228}
NO_SYMMETRY = {"", "?", ".", "1", "p1", "p_1"}
# Words of the reader where it guessed. The stated formula shows if the guess was right.
GUESSES = ("implicit hydrogens", "parsed as", "No magnetic symmetry", "Missing elements")


def read_cif(text: str) -> Iterator[tuple[str, Structure | StructureError]]:
    """Read the crystals of a CIF file.

    Parameters
    ----------
    text : str
        The content of the file.

    Yields
    ------
    (str, Structure or StructureError)
        Name and crystal of each data block with atoms, or the error if the crystal differs from the stated one or
        cannot be read.

    Raises
    ------
    StructureError
        No block has atoms.
    """
    # The patterns here and in the reader take quadratic time on empty lines.
    text = re.sub(r"\n[^\S\n]*(?=\n)", "", f"\n{text}")
    # Read blocks one by one: the reader overwrites blocks of one name, and checks all against the first formula.
    blocks = re.split(r"^[^\S\n]*data_", text, flags=re.MULTILINE | re.IGNORECASE)[1:]
    blocks = [
        block
        for block in blocks
        if re.search(r"^[^\S\n]*_atom_site_(label|type_symbol|fract_x)\b", block, flags=re.MULTILINE)
        and "powder_pattern" not in block.partition("\n")[0]
    ]
    if not blocks:
        raise StructureError(
            f"{UNREADABLE} (no data block with atoms); write them as a loop of _atom_site_label", UNREADABLE
        )
    for block in blocks:
        name = block.split(maxsplit=1)[0]
        try:
            if len(block) > LONGEST_BLOCK:
                raise StructureError(
                    f"over {LONGEST_BLOCK >> 20} MB in one data block; give a block for each structure", "too large"
                )
            for key in KEYS:
                if not re.search(rf"^[^\S\n]*{key}\b", block, flags=re.MULTILINE | re.IGNORECASE):
                    raise StructureError(f"no {key}; add it, or convert the file to POSCAR", UNREADABLE)
            yield name, _read_block(f"data_{block}")
        except StructureError as error:
            yield name, error
        # The reader raises errors of any kind on broken files.
        except Exception as error:
            reason = one_line(error).removeprefix("No structure parsed for section 1 in CIF. ")
            yield name, StructureError(f"{UNREADABLE} ({reason}); fix the file or convert it to POSCAR", UNREADABLE)


def _read_block(text: str) -> Structure:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parser = CifParser.from_str(text, check_cif=False)
        (data,) = parser.as_dict().values()
        guesses = _check_atoms(data)
        _check_size(parser, data)
        (structure,) = parser.parse_structures(primitive=False, on_error="raise")
    # mypy does not see attributes of `CifParser`, which a class method sets.
    said = dict.fromkeys([*parser.warnings, *(str(item.message) for item in caught)])  # type: ignore[attr-defined]
    if any("Defaulting to P1" in words for words in said):
        for key, value in data.items():
            if SPACE_GROUP.match(key) and re.sub(r"[\s']", "", str(value)).lower() not in NO_SYMMETRY:
                raise StructureError(
                    f"{key} {value!r} is a setting that pymatgen does not know; add the operations as "
                    "_symmetry_equiv_pos_as_xyz",
                    "unknown space group",
                )
    stated, units = _stated_composition(data), _stated_units(data)
    if stated is not None:
        _compare(structure, stated)
        if units is not None:
            _compare_size(structure, stated, units)
    if stated is None or units is None:
        _check_origin(data)
    if stated is not None:
        return structure
    guesses += [" ".join(words.split()) for words in said if any(word in words for word in GUESSES)]
    if guesses:
        raise StructureError(
            f"{guesses[0]}, and no _chemical_formula_sum to compare with; fix the file or state the formula",
            "guessed atoms",
        )
    return structure


def _check_atoms(data: dict[str, Any]) -> list[str]:
    """Check the loop of atoms, and return the guesses about it."""
    guesses = []
    labels = data.get("_atom_site_label")
    if not isinstance(labels, list) or not isinstance(data.get("_atom_site_fract_x"), list):
        raise StructureError(
            "no loop with _atom_site_label and _atom_site_fract_x, _y and _z; write the atoms as one", UNREADABLE
        )
    check_count(len(labels))
    for axis in "xyz":
        # The reader takes a dot for 0.
        for label, value in zip(labels, data[f"_atom_site_fract_{axis}"], strict=False):
            if value in (".", "?"):
                raise StructureError(f"{label}: _atom_site_fract_{axis} is {value!r}; give its position", "no position")
    for index, occupancy in enumerate(data.get("_atom_site_occupancy", [])):
        where = str(labels[index]) if index < len(labels) else f"site {index}"
        value = re.sub(r"\(\d*\)?$", "", occupancy)
        known = None if occupancy == "?" else check_occupancy(value, where)
        if known is not None and known > 1:
            raise StructureError(f"{where}: occupancy {occupancy} is over 1; fix it", "wrong occupancy")
        if not known:
            guesses.append(f"{where} has occupancy {occupancy}")
    typed = "_atom_site_type_symbol" in data
    for symbol in data["_atom_site_type_symbol"] if typed else labels:
        # After its digits a label may have any characters.
        found = TYPE_SYMBOL.fullmatch(symbol) if typed else TYPE_SYMBOL.match(symbol)
        if found is None or not Element.is_valid_symbol(found[1].title()):
            guesses.append(f"{symbol!r} is not an element symbol")
    return guesses


def _check_size(parser: CifParser, data: dict[str, Any]) -> None:
    """Check the number of operations and atoms before the reader, whose time is quadratic in both."""
    plain, magnetic = (
        [len(data[key]) for key in keys if isinstance(data.get(key), list)]
        for keys in (OPERATIONS, MAGNETIC_OPERATIONS)
    )
    count = max([1, *plain, math.prod(magnetic)])
    if count > MAX_OPERATIONS:
        raise StructureError(
            f"{count} symmetry operations, at most {MAX_OPERATIONS}; list the operations of the space group",
            "too many symmetry operations",
        )
    sites = np.array([[str2float(value) for value in data[f"_atom_site_fract_{axis}"]] for axis in "xyz"]).T
    magnetic_file = parser.feature_flags["magcif"]  # type: ignore[attr-defined]
    operations = [] if magnetic_file else parser.get_symops(CifBlock(data, [], ""))
    if len(sites) * max(len(operations), count) > MAX_IMAGES:
        raise StructureError(
            f"{len(sites)} sites with {max(len(operations), count)} operations; give the asymmetric unit alone",
            f"over {MAX_ATOMS} atoms",
        )
    if operations:
        images = np.concatenate([operation.operate_multi(sites) for operation in operations])
        # Two grids: an atom at the edge of a box in one grid is inside a box of the other grid.
        grids = [np.floor(1000 * (images - np.floor(images)) + shift).astype(int) % 1000 for shift in (0.25, 0.75)]
        check_count(min(len(np.unique(grid, axis=0)) for grid in grids))


def _stated_composition(data: dict[str, Any]) -> Composition | None:
    for key in ("_chemical_formula_sum", "_chemical_formula_structural"):
        words = str(data.get(key, "")).strip()
        if len(words) > LONGEST_FORMULA:
            continue
        with suppress(ValueError):
            # A charge comes last.
            if found := Composition(re.sub(r"\s\d*[+-]$", "", words)):
                return found
    return None


def _compare(structure: Structure, stated: Composition) -> None:
    """Raise an error if the ratios of the elements differ from the formula of the file."""
    there, wanted = (_by_element(item) for item in (structure.composition, stated))
    whole = all(abs(amount - round(amount)) < 1e-6 for item in (there, wanted) for amount in item.values())
    ratios = [there.get(number, 0) / amount for number, amount in wanted.items()]
    if set(there) != set(wanted) or max(ratios) > min(ratios) * (1 + (1e-6 if whole else ROUNDED)):
        raise StructureError(
            f"the atoms are {structure.composition.formula}, the stated formula is {stated.formula}; "
            "complete the atoms or fix the formula",
            "other atoms than the stated formula",
        )


def _stated_units(data: dict[str, Any]) -> int | None:
    value = str(data.get("_cell_formula_units_Z", ""))
    return int(value) if value.isdecimal() and 0 < len(value) < 6 and int(value) else None


def _compare_size(structure: Structure, stated: Composition, units: int) -> None:
    """Raise an error if the number of atoms differs from the formula times the number of formula units in the cell."""
    wanted = [units * stated.num_atoms]
    # pymatgen writes the formula of the whole cell, and the number of reduced formulas in it as Z.
    if round(stated.get_reduced_composition_and_factor()[1]) == units:
        wanted.append(stated.num_atoms)
    atoms = structure.composition.num_atoms
    if all(abs(atoms - number) > ROUNDED * number for number in wanted):
        raise StructureError(
            f"{atoms:g} atoms in the cell, but {wanted[0]:g} by the stated formula {stated.formula} and "
            f"_cell_formula_units_Z {units}; complete the atoms or the symmetry operations, or fix that number",
            "other atoms than the stated formula",
        )


def _check_origin(data: dict[str, Any]) -> None:
    """Raise an error if the origin of the space group is ambiguous."""
    if any(key in data for key in (*OPERATIONS, *MAGNETIC_OPERATIONS)):
        return
    for key, value in data.items():
        if SPACE_GROUP.match(key) and _group_number(str(value)) in TWO_ORIGINS:
            raise StructureError(
                f"{key} {value!r}, a space group with two origins, and no operations that say which; add them as "
                "_symmetry_equiv_pos_as_xyz, or _chemical_formula_sum and _cell_formula_units_Z to compare with",
                "unknown space group",
            )


def _group_number(name: str) -> int | None:
    if name.isdecimal():
        return int(name)
    with suppress(ValueError):
        return int(SpaceGroup(re.sub(r"[\s']", "", name)).int_number)
    return None


def _by_element(composition: Composition) -> dict[int, float]:
    """Return amounts by atomic number, with isotopes and oxidation states added."""
    amounts: dict[int, float] = {}
    for specie, amount in composition.items():
        amounts[specie.Z] = amounts.get(specie.Z, 0.0) + amount
    return amounts
