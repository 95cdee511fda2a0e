"""Search for candidates by formula, elements, chemical system or name."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

from pymatgen.core import Composition, Element

from cryslator_flows.screening.known_phases import symbols_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from cryslator_flows.report.page.whole_page import PageContent


class FoundRow(NamedTuple):
    """A candidate that a search can find; energies in eV/atom."""

    energy: float
    candidate_id: str
    formula: str
    template_id: str
    uncertainty: float
    relaxed: str


def searchable(content: PageContent) -> list[FoundRow]:
    """Return the candidates in the table of a page.

    Parameters
    ----------
    content : PageContent
        The content of the page.
    """
    relaxed = {} if content.relaxed is None else {str(key): row for key, row in content.relaxed.iterrows()}
    return [
        FoundRow(
            row.energy,
            row.candidate_id,
            row.formula,
            row.template_id,
            row.uncertainty,
            ": ".join(["relaxed", *_energy(relaxed[row.candidate_id])]) if row.candidate_id in relaxed else "",
        )
        for row in content.candidates.rows
    ]


def _energy(row: pd.Series) -> list[str]:
    """Return the energy of a relaxed candidate from a hull in words; empty if none is known."""
    hulls = {"energy_above_known_hull": "known hull", "energy_above_hull": "hull of the relaxed candidates"}
    known = [f"{row[column]:+.3f} eV/atom from the {hull}" for column, hull in hulls.items() if isfinite(row[column])]
    return known[:1]


@dataclass(frozen=True)
class CandidateQuery:
    """A search for candidates.

    Parameters
    ----------
    text : str
        A formula in any order (``LiFeO2``), elements that a candidate contains (``Li Fe``), a chemical system
        (``Li-Fe-O``), a part of the name of a template, or the beginning of an identifier. Not empty.

    Examples
    --------
    >>> row = FoundRow(-2.0, "a9d3", "LiFeO2", "rocksalt", 0.05, "")
    >>> [CandidateQuery(text).matches(row) for text in ("FeLiO2", "O Fe", "Fe-Li-O", "Fe-O", "ROCK", "Mn")]
    [True, True, True, False, True, False]
    """

    text: str

    def find(self, rows: list[FoundRow]) -> list[FoundRow]:
        """Return the rows that match; relaxed candidates come first, then those of lowest energy."""
        matches = self._test()
        return sorted((row for row in rows if matches(row)), key=lambda row: (not row.relaxed, row))

    def matches(self, row: FoundRow) -> bool:
        """Return True if a row matches."""
        return self._test()(row)

    def _test(self) -> Callable[[FoundRow], bool]:
        text = self.text.strip()
        for words, fits in ((text.split("-"), frozenset.__eq__), (text.replace(",", " ").split(), frozenset.__le__)):
            if all(map(Element.is_valid_symbol, words)) and (len(words) > 1 or fits == frozenset.__le__):
                wanted = frozenset(words)
                return lambda row: fits(wanted, symbols_of(row.formula))
        if (formula := _formula(text)) is not None:
            return lambda row: row.formula == formula
        lower = text.lower()
        return lambda row: lower in row.template_id.lower() or row.candidate_id.startswith(lower)


def _formula(text: str) -> str | None:
    """Return a formula in the form of the tables; None for any other text."""
    # Composition makes dummy species of some capitals.
    if not all(map(Element.is_valid_symbol, symbols_of(text))):
        return None
    try:
        return Composition(text).reduced_formula
    except ValueError:
        return None
