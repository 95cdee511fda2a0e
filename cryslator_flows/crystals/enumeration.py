"""Stream of substituted candidates without equivalent structures."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from monty.itertools import chunks
from pymatgen.core.structure_matcher import StructureMatcher
from pymatgen.core.structure_prediction.volume_predictor import DLSVolumePredictor

from cryslator_flows.crystals.candidate_rows import CandidateRow, make_candidate, substituted_formula
from cryslator_flows.crystals.formula_filters import FormulaFilters
from cryslator_flows.crystals.moments import carry_moments, moments_of
from cryslator_flows.crystals.orderings import OrderingSettings, find_orderings, whole_amounts
from cryslator_flows.crystals.packing import PackedCandidates
from cryslator_flows.crystals.substitution import (
    AsGiven,
    ExplicitMaps,
    PartialSubstitution,
    PredictedSubstitutions,
    RolePools,
    SpeciesPools,
    Substitution,
    charges_of,
    is_charge_balanced,
    site_elements,
    substitute,
)
from cryslator_flows.documents.candidates import Candidate, EnumerationCounts, Template
from cryslator_flows.errors import NotInstalledError, StructureError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pymatgen.core import Structure


# Spaces that replace whole elements.
_OneToOne = ExplicitMaps | SpeciesPools | RolePools | PredictedSubstitutions | AsGiven
SubstitutionSpace = _OneToOne | PartialSubstitution
# The space of the orderings of a partial substitution, whose elements are replaced already.
ORDERED = AsGiven(kind="as-given")


@dataclass(frozen=True)
class _Kind:
    """Candidate without its elements.

    Parameters
    ----------
    template : int
        Index of the template.
    old : tuple of str
        Elements of the template.
    places : tuple of int
        Position of the new element of each in `old` among all new elements in alphabetical order.
    cell : Structure
        Niggli-reduced primitive cell of the template; elements that become the same one are one already.
    """

    template: int
    old: tuple[str, ...]
    places: tuple[int, ...]
    cell: Structure

    def mapping(self, elements: Sequence[str]) -> dict[str, str]:
        """Return template element to new element, given the new elements in alphabetical order."""
        return {old: elements[place] for old, place in zip(self.old, self.places, strict=True)}

    def primitive(self, elements: Sequence[str]) -> Structure:
        """Return the primitive cell of a candidate, given its elements in alphabetical order."""
        return substitute(self.cell, self.mapping(elements))


class DuplicateFilter:
    """Filter of candidates that StructureMatcher finds equivalent to an earlier one.

    Candidates of one formula and one number of atoms in the primitive cell share a bucket: StructureMatcher matches
    no others. A label of the prototype would make smaller buckets, but StructureMatcher matches across labels, such as
    the cubic and a tetragonal perovskite. A match depends only on the templates and on which template elements became
    the same element, not on the elements themselves. So StructureMatcher (which scales volumes away) is asked once for
    each such relation, and each template is reduced once. What was seen lies in a temporary SQLite database that
    SQLite moves to the disk when it grows, so that memory does not.
    """

    def __init__(self) -> None:
        self._families: list[str | None] = []
        self._matcher = StructureMatcher()
        self._seen = sqlite3.connect("", isolation_level=None)
        # The index holds all columns that `find_equivalent` reads. One endless transaction: no data outlive it.
        self._seen.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-32000;"
            "CREATE TABLE seen (number INTEGER PRIMARY KEY, system TEXT, formula TEXT, atoms INTEGER, kind INTEGER, "
            "probability REAL, family TEXT);"
            "CREATE INDEX formulas ON seen (formula, atoms, number, kind, family); BEGIN;"
        )
        self._relations: dict[tuple[int, int, frozenset[tuple[str, str]]], bool] = {}
        self._verdicts: dict[tuple[int, int], bool] = {}
        self._kinds: list[_Kind] = []
        self._numbers: dict[tuple[object, ...], int] = {}
        self._templates: list[Template] = []
        self._cells: dict[tuple[int, tuple[tuple[str, str], ...]], Structure] = {}

    def add_template(self, template: Template, family: str | None = None) -> int:
        """Register a template and return its index.

        Parameters
        ----------
        template : Template
            The template.
        family : str or None
            Name that it shares with templates that are known to be distinct, the orderings of one crystal.
        """
        self._templates.append(template)
        self._families.append(family)
        return len(self._templates) - 1

    def find_equivalent(self, template: int, substitution: Substitution, formula: str) -> str | None:
        """Return the template of an equivalent earlier candidate, or remember the candidate and return None.

        Parameters
        ----------
        template : int
            Index from `add_template`.
        substitution : Substitution
            New elements of the template.
        formula : str
            Reduced formula of the candidate.
        """
        mapping = substitution.mapping
        elements = sorted(set(mapping.values()))
        kind = self._kind(template, mapping, elements)
        atoms = len(self._kinds[kind].cell)
        family = self._families[template]
        if family is not None:
            # Only under the same substitution, which keeps elements apart, do distinct orderings stay distinct.
            family = f"{family} {sorted(mapping.items())}" if len(elements) == len(mapping) else None
        others = "SELECT kind FROM seen WHERE formula = ? AND atoms = ? AND (family IS NULL OR family IS NOT ?)"
        bucket = self._seen.execute(f"{others} ORDER BY number", (formula, atoms, family)).fetchall()
        for (other,) in bucket:
            verdict = self._verdicts.get((kind, other))
            if verdict is None:
                verdict = self._verdicts[kind, other] = self._match(self._kinds[kind], self._kinds[other], elements)
            if verdict:
                return self._templates[self._kinds[other].template].template_id
        row = ("-".join(elements), formula, atoms, kind, substitution.probability, family)
        columns = "system, formula, atoms, kind, probability, family"
        self._seen.execute(f"INSERT INTO seen ({columns}) VALUES (?, ?, ?, ?, ?, ?)", row)
        return None

    def systems(self) -> Iterator[tuple[str, list[CandidateRow]]]:
        """Yield all new candidates by chemical system."""
        rows = self._seen.execute("SELECT system, kind, probability FROM seen ORDER BY system, formula, number")
        for system, group in groupby(rows, key=itemgetter(0)):
            elements = system.split("-")
            yield (
                system,
                [
                    CandidateRow(self._templates[kind.template], Substitution(kind.mapping(elements), probability))
                    for kind, probability in ((self._kinds[number], probability) for _, number, probability in group)
                ],
            )

    def one_size(self) -> bool:
        """Return True if all chemical systems have the same number of elements, so that none contains another."""
        sizes = "SELECT COUNT(DISTINCT LENGTH(system) - LENGTH(REPLACE(system, '-', ''))) FROM seen"
        return bool(self._seen.execute(sizes).fetchone()[0] <= 1)

    def _kind(self, template: int, mapping: dict[str, str], elements: list[str]) -> int:
        places = tuple(map(elements.index, mapping.values()))
        key = (template, places, *mapping)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._kinds)
            self._kinds.append(_Kind(template, tuple(mapping), places, self._cell(template, mapping)))
        return number

    def _cell(self, template: int, mapping: dict[str, str]) -> Structure:
        """Return the reduced cell as StructureMatcher makes it; elements that become one may make it smaller."""
        first = {new: old for old, new in reversed(mapping.items())}
        merged = {old: first[new] for old, new in mapping.items()}
        key = template, tuple(sorted(merged.items()))
        if key not in self._cells:
            structure = substitute(self._templates[template].structure, merged)
            self._cells[key] = structure.get_reduced_structure("niggli").get_primitive_structure()
        return self._cells[key]

    def _match(self, kind: _Kind, other: _Kind, elements: list[str]) -> bool:
        """Return True if candidates of two kinds match for the same elements.

        `elements` are the new elements of the comparison.
        """
        mapping, was = kind.mapping(elements), other.mapping(elements)
        relation = frozenset((old, before) for old, new in mapping.items() for before, now in was.items() if new == now)
        key = (kind.template, other.template, relation)
        if key not in self._relations:
            structures = (kind.primitive(elements), other.primitive(elements))
            self._relations[key] = bool(self._matcher.fit(*structures, skip_structure_reduction=True))
        return self._relations[key]


class Enumeration:
    """Stream of the candidates of a campaign.

    Iterate once to get the candidates. The counts of the substitutions so far are in `counts`.

    Parameters
    ----------
    templates : iterable of Template or StructureError
        Stream of templates. Errors in it are counted as rejected templates.
    spaces : list
        Substitution spaces, applied to every template in turn.
    charge_balanced : bool
        Drop candidates without charge-balanced oxidation states.
    rescale_volume : bool
        Scale candidates to a predicted volume, see `rescale`.
    filters : FormulaFilters or None
        Filters of the formulas; None for none.
    orderings : OrderingSettings or None
        Cells and number of the orderings of disordered templates and of partial substitutions; None for the defaults.

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
        filters: FormulaFilters | None = None,
        orderings: OrderingSettings | None = None,
    ) -> None:
        self.orderings = orderings or OrderingSettings()
        self.templates = templates
        self.spaces = spaces
        self.charge_balanced = charge_balanced
        self.rescale_volume = rescale_volume
        self._tests = {} if filters is None else filters.tests()
        self.counts = EnumerationCounts(filtered=dict.fromkeys(self._tests, 0))

    def __iter__(self) -> Iterator[Candidate]:
        predictor = DLSVolumePredictor() if self.rescale_volume else None
        return (make_candidate(row, predictor) for row in self.rows())

    def rows(self) -> Iterator[CandidateRow]:
        """Yield the same candidates without making their structures."""
        return (CandidateRow(template, substitution) for template, substitution in self._new(DuplicateFilter()))

    def chunks(self, size: int) -> Iterator[PackedCandidates]:
        """Yield the same candidates packed in chunks, by chemical system, so that competing candidates are together.

        The first chunk is ready when all candidates are enumerated. Until then the candidates are on the disk.

        Parameters
        ----------
        size : int
            Candidates in a chunk. Chemical systems are not divided, so a chunk may have up to twice as many candidates,
            or more if one system has more.

        Yields
        ------
        PackedCandidates
            A chunk. The same campaign always gives the same chunks.
        """
        seen = DuplicateFilter()
        for _ in self._new(seen):
            pass
        one_size = seen.one_size()
        chunk: list[CandidateRow] = []
        for _, rows in seen.systems():
            if len(rows) > size:
                for part in chunks(rows, size):
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
            # Folders of one name can hold files of one name.
            name, number = template.template_id, 1
            while name in names:
                number += 1
                name = f"{template.template_id} ({number})"
            names.add(name)
            template = template.model_copy(update={"template_id": name})
            counts.templates += 1
            for kind in charges_of(template.structure):
                counts.not_carried[kind] = counts.not_carried.get(kind, 0) + 1
            for ordered, spaces, family in self._ordered(template):
                yield from self._substituted(ordered, spaces, seen, seen.add_template(ordered, family))

    def _ordered(self, template: Template) -> Iterator[tuple[Template, Sequence[_OneToOne], str | None]]:
        """Yield a template or its orderings, each with the spaces to apply and the name of its family."""
        structure, others = template.structure, []
        for space in self.spaces:
            if isinstance(space, PartialSubstitution):
                disordered = space.disordered(structure)
                if disordered is not None:
                    yield from self._orderings(template, disordered, f", {space.label}", [ORDERED])
            else:
                others.append(space)
        if others and structure.is_ordered:
            yield template, others, None
        elif others:
            yield from self._orderings(template, structure, "", others)

    def _orderings(
        self, template: Template, disordered: Structure, label: str, spaces: Sequence[_OneToOne]
    ) -> Iterator[tuple[Template, Sequence[_OneToOne], str]]:
        """Yield the orderings of a crystal as templates; an error about it is a rejected template."""
        name = f"{template.template_id}{label}"
        try:
            amounts = whole_amounts(disordered)
            formula = substituted_formula(amounts, {symbol: symbol for symbol in amounts})
            # All orderings have one formula. Those of a template may get another by substitution.
            if spaces == [ORDERED] and self._is_dropped(formula.amounts):
                self.counts.enumerated += 1
                return
            found = find_orderings(disordered, self.orderings)
        except (StructureError, NotInstalledError) as error:
            self.counts.rejected_templates.append(f"template {name}: {error}")
            return
        dropped = found.n_found - len(found.structures)
        self.counts.enumerated += dropped
        self.counts.higher_ewald += dropped
        for number, structure in enumerate(found.structures, 1):
            yield Template(template_id=f"{name}, ordering {number}", structure=structure), spaces, name

    def _is_dropped(self, amounts: dict[str, int]) -> bool:
        """Return True, and count, if its charges or a filter drop a formula."""
        if self.charge_balanced and not is_charge_balanced(amounts):
            self.counts.not_charge_balanced += 1
            return True
        for name, test in self._tests.items():
            if not test(amounts):
                self.counts.filtered[name] += 1
                return True
        return False

    def _substituted(
        self, template: Template, spaces: Sequence[_OneToOne], seen: DuplicateFilter, index: int
    ) -> Iterator[tuple[Template, Substitution]]:
        """Yield the new candidates of an ordered template, and count."""
        counts = self.counts
        is_magnetic = moments_of(template.structure) is not None
        symbols = site_elements(template.structure)
        amounts = Counter(symbols)
        for space in spaces:
            for substitution in space.substitutions(template.structure):
                counts.enumerated += 1
                formula = substituted_formula(amounts, substitution.mapping)
                if self._is_dropped(formula.amounts):
                    continue
                if (earlier := seen.find_equivalent(index, substitution, formula.text)) is not None:
                    counts.duplicates += 1
                    if isinstance(space, AsGiven) and space is not ORDERED:
                        counts.as_given_duplicates.append(f"{template.template_id}: equivalent to {earlier}")
                else:
                    counts.unique += 1
                    new = [substitution.mapping[symbol] for symbol in symbols] if is_magnetic else []
                    counts.moments_left += is_magnetic and carry_moments(template.structure, new) is None
                    yield template, substitution
