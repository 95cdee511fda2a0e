"""Stream substituted candidates, each equivalent structure once."""

from __future__ import annotations

import json
import sqlite3
from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, TypeVar

from pymatgen.core.structure_matcher import StructureMatcher
from pymatgen.core.structure_prediction.volume_predictor import DLSVolumePredictor

from cryslator_flows.crystals.candidates import CandidateRow, make_candidate, substituted_formula
from cryslator_flows.crystals.packing import PackedCandidates
from cryslator_flows.crystals.substitution import (
    ExplicitMaps,
    PredictedSubstitutions,
    RolePools,
    SpeciesPools,
    Substitution,
    is_charge_balanced,
    substitute,
)
from cryslator_flows.errors import StructureError
from cryslator_flows.schemas import Candidate, EnumerationCounts, Template

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


SubstitutionSpace = ExplicitMaps | SpeciesPools | RolePools | PredictedSubstitutions
Item = TypeVar("Item")


class DuplicateFilter:
    """Recognise candidates that StructureMatcher finds equivalent to an earlier one.

    Candidates of one formula share a bucket. Whether two of them match depends only on their templates and on which
    template elements became the same element, not on the elements themselves, so StructureMatcher (which scales
    volumes away) is asked once for each such relation, however large the pools of elements are. What was seen lies in
    a temporary SQLite database that SQLite moves to the disk when it grows, so that memory does not.
    """

    def __init__(self) -> None:
        self._matcher = StructureMatcher()
        self._seen = sqlite3.connect("", isolation_level=None)
        self._seen.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-32000;"
            "CREATE TABLE seen (system TEXT, formula TEXT, template INTEGER, mapping TEXT, probability REAL);"
            "CREATE INDEX formulas ON seen (formula);"
        )
        self._verdicts: dict[tuple[int, int, frozenset[tuple[str, str]]], bool] = {}
        self._templates: list[Template] = []

    def add_template(self, template: Template) -> int:
        """Register a template and return its index."""
        self._templates.append(template)
        return len(self._templates) - 1

    def is_new(self, template: int, substitution: Substitution, formula: str) -> bool:
        """Whether no earlier candidate is equivalent; if so, it is remembered.

        Parameters
        ----------
        template : int
            Index from `add_template`.
        substitution : Substitution
            Its new elements.
        formula : str
            Reduced formula of the candidate.
        """
        mapping = substitution.mapping
        bucket = self._seen.execute("SELECT template, mapping FROM seen WHERE formula = ?", (formula,)).fetchall()
        if any(self._match(template, mapping, other, json.loads(text)) for other, text in bucket):
            return False
        system = "-".join(sorted(set(mapping.values())))
        row = (system, formula, template, json.dumps(mapping), substitution.probability)
        self._seen.execute("INSERT INTO seen VALUES (?, ?, ?, ?, ?)", row)
        return True

    def systems(self) -> Iterator[tuple[str, list[CandidateRow]]]:
        """All that was new, by chemical system."""
        rows = self._seen.execute(
            "SELECT system, template, mapping, probability FROM seen ORDER BY system, formula, rowid"
        )
        for system, group in groupby(rows, key=itemgetter(0)):
            yield (
                system,
                [
                    CandidateRow(self._templates[template], Substitution(json.loads(text), probability))
                    for _, template, text, probability in group
                ],
            )

    def one_size(self) -> bool:
        """Whether all chemical systems have the same number of elements, so that none is within another."""
        sizes = "SELECT COUNT(DISTINCT LENGTH(system) - LENGTH(REPLACE(system, '-', ''))) FROM seen"
        return bool(self._seen.execute(sizes).fetchone()[0] <= 1)

    def _match(self, first: int, mapping: dict[str, str], second: int, other: dict[str, str]) -> bool:
        relation = frozenset((old, was) for old, new in mapping.items() for was, now in other.items() if new == now)
        key = (first, second, relation)
        if key not in self._verdicts:
            structures = (
                substitute(self._templates[first].structure, mapping),
                substitute(self._templates[second].structure, other),
            )
            self._verdicts[key] = bool(self._matcher.fit(*structures))
        return self._verdicts[key]


class Enumeration:
    """Candidates of a campaign as a stream.

    Iterate once to get the candidates; `counts` says at any time what became of the substitutions so far.

    Parameters
    ----------
    templates : iterable of Template or StructureError
        Templates, streamed; errors among them are counted as rejected templates.
    spaces : list
        Substitution spaces, applied to every template in turn.
    charge_balanced : bool
        Drop candidates without charge-balanced oxidation states.
    rescale_volume : bool
        Scale candidates to a predicted volume, see `rescale`.

    Examples
    --------
    >>> from cryslator_flows.crystals.templates import AflowTemplates
    >>> templates = AflowTemplates(elements=["O"], anonymous_formulas=["ABC3"]).load()
    >>> space = RolePools(kind="roles", cations=[["Mn"], ["Ca", "Sr"]])
    >>> enumeration = Enumeration(templates, [space])
    >>> sorted({candidate.reduced_formula for candidate in enumeration})
    ['CaMnO3', 'SrMnO3']
    """

    def __init__(
        self,
        templates: Iterable[Template | StructureError],
        spaces: list[SubstitutionSpace],
        charge_balanced: bool = True,
        rescale_volume: bool = False,
    ) -> None:
        self.templates = templates
        self.spaces = spaces
        self.charge_balanced = charge_balanced
        self.rescale_volume = rescale_volume
        self.counts = EnumerationCounts()

    def __iter__(self) -> Iterator[Candidate]:
        predictor = DLSVolumePredictor() if self.rescale_volume else None
        return (make_candidate(row, predictor) for row in self.rows())

    def rows(self) -> Iterator[CandidateRow]:
        """The same candidates, without making their structures."""
        return (CandidateRow(template, substitution) for template, substitution in self._new(DuplicateFilter()))

    def chunks(self, size: int) -> Iterator[PackedCandidates]:
        """The same candidates packed in chunks, by chemical system, so that those which compete come together.

        The first chunk comes when all candidates are enumerated; until then they wait on the disk.

        Parameters
        ----------
        size : int
            Candidates in a chunk; chemical systems are not divided, so that it may be up to twice as many, unless one
            alone has more.

        Yields
        ------
        PackedCandidates
            A chunk; the same ones whenever the campaign is the same.
        """
        seen = DuplicateFilter()
        for _ in self._new(seen):
            pass
        one_size = seen.one_size()
        chunk: list[CandidateRow] = []
        for _, rows in seen.systems():
            if len(rows) > size:
                for part in in_chunks(rows, size):
                    yield PackedCandidates.pack(part, self.rescale_volume)
                continue
            chunk += rows
            if len(chunk) >= size:
                yield PackedCandidates.pack(chunk, self.rescale_volume, one_size)
                chunk = []
        if chunk:
            yield PackedCandidates.pack(chunk, self.rescale_volume, one_size)

    def _new(self, seen: DuplicateFilter) -> Iterator[tuple[Template, Substitution]]:
        counts = self.counts
        names: set[str] = set()
        for template in self.templates:
            if isinstance(template, StructureError):
                counts.rejected_templates.append(str(template))
                continue
            if template.template_id in names:
                raise StructureError(f"template {template.template_id}: identifier used twice; rename one of the two")
            names.add(template.template_id)
            counts.templates += 1
            index = seen.add_template(template)
            composition = template.structure.composition.element_composition
            for substitution in (item for space in self.spaces for item in space.substitutions(template.structure)):
                counts.enumerated += 1
                formula = substituted_formula(composition, substitution.mapping)
                if self.charge_balanced and not is_charge_balanced(formula):
                    counts.not_charge_balanced += 1
                elif not seen.is_new(index, substitution, formula):
                    counts.duplicates += 1
                else:
                    counts.unique += 1
                    yield template, substitution


def in_chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Group a stream into lists of `size`, the last one shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
