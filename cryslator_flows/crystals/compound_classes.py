"""Classes of compounds by their anion."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

CLASSES: dict[str, frozenset[str]] = {
    "oxides": frozenset({"O"}),
    "halides": frozenset({"F", "Cl", "Br", "I"}),
    "chalcogenides": frozenset({"S", "Se", "Te"}),
    "pnictides": frozenset({"N", "P", "As", "Sb", "Bi"}),
    "others": frozenset({"C", "H", "He", "Ne", "Ar", "Kr", "Xe"}),
    "intermetallics": frozenset(),
}


def compound_class(species: Iterable[str]) -> str:
    """Return the class of a compound by its anion: the first of `CLASSES` with one of its elements.

    Carbides, hydrides and crystals of noble gases are ``others``. All other compounds are ``intermetallics``.

    Examples
    --------
    >>> compound_class(["Li", "Fe", "P", "O"])
    'oxides'
    >>> compound_class(["Cu", "Mn", "Al"])
    'intermetallics'
    """
    there = set(species)
    return next((name for name, elements in CLASSES.items() if elements & there), "intermetallics")
