"""What a source of training pairs yields, before sites, axes and images are aligned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True)
class RawPair:
    """An unrelaxed crystal and what became of it, as a source holds them.

    Parameters
    ----------
    name : str
        What the pair is called where it comes from: a file, a folder, an identifier.
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
    """Something that makes no pair.

    Parameters
    ----------
    name : str
        What it is called where it comes from.
    reason : str
        Why, in words that are equal for equal reasons: they are counted.
    detail : str
        What this one's error says.
    """

    name: str
    reason: str
    detail: str = ""
