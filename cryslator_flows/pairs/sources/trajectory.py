"""Pairs from one relaxation with known ionic steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydash import get
from pymatgen.core import Structure

from cryslator_flows.crystals.outside import structure_from_dict
from cryslator_flows.pairs.raw import RawPair

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NO_RELAXATION = "no relaxation"
FIXED_CELL = "the cell was not free to relax"
FIXED_SHAPE = "the shape of the cell was not free to relax"
FIXED_VOLUME = "the volume of the cell was not free to relax"
FIXED_ATOMS = "atoms were not free to relax"
IONIC_STEP = ("structure", "mol_or_struct")


def held_by_isif(isif: int | None) -> str | None:
    """Return the part that VASP's ISIF keeps from relaxing; None if atoms, shape and volume all relax."""
    if isif == 3:
        return None
    held = {4: FIXED_VOLUME, 5: FIXED_ATOMS, 6: FIXED_ATOMS, 7: FIXED_ATOMS, 8: FIXED_SHAPE}
    return FIXED_CELL if isif is None else held.get(isif, FIXED_CELL)


def has_fixed_atoms(structure: Structure) -> bool:
    """Return True if selective dynamics holds a coordinate of an atom."""
    return not np.all(structure.site_properties.get("selective_dynamics", True))


def trajectory_pairs(
    name: str,
    unrelaxed: Structure,
    relaxed: Structure,
    steps: Sequence[Structure],
    intermediates: int,
    columns: dict[str, Any],
) -> Iterator[RawPair]:
    """Yield the pair of a relaxation, then ionic steps as further unrelaxed crystals of the same target.

    Parameters
    ----------
    name : str
        Name of the relaxation, the identifier of its target.
    unrelaxed, relaxed : Structure
        Its first and last structure.
    steps : sequence of Structure
        The crystals of all ionic steps.
    intermediates : int
        Number of evenly spaced steps to take, without the first and last step.
    columns : dict
        Further columns of the records. Intermediates also have ``ionic_step``, counted from 1.

    Yields
    ------
    RawPair
        The pair of the unrelaxed crystal comes first.
    """
    yield RawPair(name, name, unrelaxed, relaxed, columns)
    for number in evenly_spaced(len(steps), intermediates):
        yield RawPair(
            f"{name}, ionic step {number + 1}", name, steps[number], relaxed, {**columns, "ionic_step": number + 1}
        )


def evenly_spaced(length: int, count: int) -> list[int]:
    """Return at most `count` evenly spaced indices of a sequence, without the first and the last.

    >>> evenly_spaced(11, 4)
    [2, 4, 6, 8]
    >>> evenly_spaced(4, 10)
    [1, 2]
    """
    places = np.round(np.linspace(0, length - 1, count + 2)[1:-1]).astype(int)
    return sorted({int(place) for place in places if 0 < place < length - 1})


def ionic_structures(document: Any) -> list[Structure]:
    """Return the crystals of the ionic steps in a task document, in the order they ran.

    Parameters
    ----------
    document : dict or BaseModel
        A document of VASP (emmet), ASE or a force field (atomate2). Steps without a structure are left out.
    """
    calculations = [*reversed(get(document, "calcs_reversed") or []), document]
    rows = [step for calculation in calculations for step in get(calculation, "output.ionic_steps") or []]
    structures = (structure_at(row, IONIC_STEP) for row in rows)
    return [structure for structure in structures if structure is not None]


def structure_at(document: Any, places: tuple[str, ...]) -> Structure | None:
    """Return the first structure among some places of a document; None without a structure."""
    for place in places:
        value = get(document, place)
        try:
            return value if isinstance(value, Structure) else structure_from_dict(value)
        except (ValueError, KeyError, TypeError):
            continue
    return None
