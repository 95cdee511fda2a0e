"""Items that a source of training pairs yields, before sites, axes and images are aligned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cryslator_flows.training.records import PairRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymatgen.core import Structure


@dataclass(frozen=True)
class RawPair:
    """An unrelaxed crystal and its relaxed crystal, as in their source.

    Parameters
    ----------
    name : str
        Name of the pair in its source: a file, a folder, an identifier.
    target : str
        Identifier of the relaxed crystal; pairs of one target share it.
    unrelaxed, relaxed : Structure
        The crystals. Sites may be in another order, atoms in another image, axes permuted or turned.
    columns : dict
        Further columns of the record: ``formation_energy_per_atom`` and ``energy_per_atom`` in eV/atom, ``template``,
        ``template_formula``, ``substitution``, ``split``.
    """

    name: str
    target: str
    unrelaxed: Structure
    relaxed: Structure
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dropped:
    """An item of a source that makes no pair.

    Parameters
    ----------
    name : str
        Its name in its source.
    reason : str
        The reason, in equal words for equal reasons, since reasons are counted.
    detail : str
        The error of this item.
    """

    name: str
    reason: str
    detail: str = ""


def wrong_field(name: str, error: ValidationError) -> Dropped:
    """Return an item dropped because of the first wrong field of its record."""
    where = ".".join(part for part in error.errors()[0]["loc"] if isinstance(part, str)) or "record"
    return Dropped(name, f"{where} is missing or wrong")


def checked_pair(name: str, row: Mapping[str, Any]) -> PairRecord | Dropped:
    """Return the record of a pair; dropped if a field is wrong, such as an energy that is no number.

    Parameters
    ----------
    name : str
        Name of the pair in its source.
    row : mapping
        Fields of `PairRecord`.
    """
    try:
        return PairRecord.model_validate(row)
    except ValidationError as error:
        return wrong_field(name, error)
