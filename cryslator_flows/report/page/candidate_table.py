"""Data of the translated candidates for the page, collected while their chunks are read."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pymatgen.symmetry.analyzer import SymmetryUndeterminedError

from cryslator_flows.crystals.packing import PREDICTED
from cryslator_flows.documents.candidates import Template

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cryslator_flows.crystals.packing import TranslatedChunk
    from cryslator_flows.screening.cuts import Cuts

MOST_ROWS = 10_000


class TableRow(NamedTuple):
    """A translated candidate in the table; energies in eV/atom, the displacement in angstrom, predicted properties."""

    energy: float
    candidate_id: str
    formula: str
    template_id: str
    substitution: str
    uncertainty: float
    domain_reason: str
    displacement: float
    volume_change: float
    trusted: bool
    properties: tuple[float, ...] = ()


@dataclass
class CandidateTable:
    """The relaxed candidates, those of lowest energy, and the data of all others for figures.

    Parameters
    ----------
    cuts : Cuts
        Cuts of the campaign.
    relaxed : set of str
        Candidates that have a row and an uncertainty at any rank.
    rows : list of TableRow
        Lowest energy first, `MOST_ROWS` at most.
    lowest : dict
        Formula to the lowest energy of the candidates in the hull, see `Cuts.trusted`, in eV/atom.
    elements : dict
        Lowest energy, sum of energies and number of energies by the substituted element, in eV/atom.
    properties : list of str
        Columns of predicted properties.
    uncertainties : dict
        Half widths of the intervals with 68 % and 90 % of the validation energies for each candidate, in eV/atom.
    """

    cuts: Cuts
    relaxed: set[str]
    rows: list[TableRow] = field(default_factory=list)
    lowest: dict[str, float] = field(default_factory=dict)
    elements: dict[str, tuple[float, float, int]] = field(default_factory=dict)
    properties: list[str] = field(default_factory=list)
    uncertainties: dict[str, tuple[float, float]] = field(default_factory=dict)
    _templates: dict[str, str] = field(default_factory=dict)

    def read(self, chunks: Iterable[TranslatedChunk]) -> Iterator[TranslatedChunk]:
        """Collect data from chunks and yield them again for other uses."""
        for chunk in chunks:
            self._templates.update(chunk.translated.template_texts())
            self.rows = heapq.nsmallest(MOST_ROWS, chain(self.rows, self._rows(chunk)), key=self._rank)
            yield chunk
        self.rows.sort()

    def space_group(self, row: TableRow) -> str:
        """Return the space group of a candidate: one-to-one substitution and translation keep its template's group."""
        new = [pair.split("->")[1] for pair in row.substitution.split()]
        return "" if len(set(new)) < len(new) else self._space_group(self._templates[row.template_id])

    @staticmethod
    @cache
    def _space_group(template: str) -> str:
        try:
            return str(Template.model_validate_json(template).structure.get_space_group_info()[0])
        except SymmetryUndeterminedError:
            return ""

    def _rank(self, row: TableRow) -> tuple[bool, TableRow]:
        return row.candidate_id not in self.relaxed, row

    def _rows(self, chunk: TranslatedChunk) -> Iterator[TableRow]:
        columns = chunk.translated.arrays()
        trusted = self.cuts.trusted(columns)
        names = list(chunk.translated.template_texts())
        self.properties = sorted(name for name in columns if name.startswith(PREDICTED))
        predicted = list(zip(*(columns[name].tolist() for name in self.properties), strict=True))
        columns = {
            name: columns[name].tolist()
            for name in (
                "candidate_id", "formula", "template", "symbols", "formation_energy_per_atom",
                "formation_energy_uncertainty", "formation_energy_uncertainty_90", "domain_reason",
                "mean_displacement", "volume_change",
            )
        }  # fmt: skip
        for index, candidate in enumerate(columns["candidate_id"]):
            energy, formula = columns["formation_energy_per_atom"][index], columns["formula"][index]
            uncertainty = columns["formation_energy_uncertainty"][index]
            symbols = columns["symbols"][index].split()
            pairs = list(zip(symbols[::2], symbols[1::2], strict=True))
            if candidate in self.relaxed:
                self.uncertainties[candidate] = uncertainty, columns["formation_energy_uncertainty_90"][index]
            if trusted[index]:
                self.lowest[formula] = min(energy, self.lowest.get(formula, np.inf))
                for new in {new for old, new in pairs if old != new}:
                    low, total, number = self.elements.get(new, (energy, 0.0, 0))
                    self.elements[new] = min(low, energy), total + energy, number + 1
            yield TableRow(
                energy,
                candidate,
                formula,
                names[columns["template"][index]],
                " ".join(f"{old}->{new}" for old, new in pairs),
                uncertainty,
                columns["domain_reason"][index],
                columns["mean_displacement"][index],
                columns["volume_change"][index],
                bool(trusted[index]),
                predicted[index] if predicted else (),
            )
