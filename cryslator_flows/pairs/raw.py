"""Items that a source of training pairs yields, before sites, axes and images are aligned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
