"""Which translated candidates are worth a relaxation: plain functions behind the select job."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations
from typing import TYPE_CHECKING

from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryslator_flows.schemas import Candidate, Translation

Row = tuple["Candidate", "Translation"]


def energies_above_hull(rows: list[Row], references: dict[str, float]) -> list[float]:
    """Energy of each candidate above the convex hull of the campaign and of known phases.

    Parameters
    ----------
    rows : list of (Candidate, Translation)
        Translated candidates.
    references : dict
        Formula to formation energy of known phases, in eV/atom on the scale of the model's training data.

    Returns
    -------
    list of float
        eV/atom, in the order of `rows`; 0 for candidates on the hull. The elements are at zero by definition.
    """
    entries: dict[frozenset[str], list[PDEntry]] = defaultdict(list)
    for formula, energy in references.items():
        _add_entry(entries, Composition(formula), energy)
    for candidate, translation in rows:
        _add_entry(entries, candidate.structure.composition, translation.formation_energy_per_atom)
    diagrams: dict[str, PhaseDiagram] = {}
    above = []
    for candidate, translation in rows:
        composition = candidate.structure.composition
        if candidate.chemsys not in diagrams:
            diagrams[candidate.chemsys] = _diagram(entries, candidate.chemsys.split("-"))
        entry = PDEntry(composition, translation.formation_energy_per_atom * composition.num_atoms)
        above.append(max(0.0, float(diagrams[candidate.chemsys].get_e_above_hull(entry, allow_negative=True))))
    return above


def _add_entry(entries: dict[frozenset[str], list[PDEntry]], composition: Composition, energy: float) -> None:
    key = frozenset(element.symbol for element in composition.elements)
    entries[key].append(PDEntry(composition, energy * composition.num_atoms))


def _diagram(entries: dict[frozenset[str], list[PDEntry]], symbols: list[str]) -> PhaseDiagram:
    """Phase diagram of one chemical system, elements at zero."""
    inside = [PDEntry(Composition({Element(symbol): 1}), 0.0) for symbol in symbols]
    for size in range(1, len(symbols) + 1):
        for subset in combinations(symbols, size):
            inside += entries.get(frozenset(subset), [])
    return PhaseDiagram(inside)


def cap_per_composition(rows: Iterable[Row], cap: int | None) -> list[Row]:
    """Keep the first `cap` rows of every reduced formula; all of them if `cap` is None."""
    taken: Counter[str] = Counter()
    kept = []
    for row in rows:
        formula = row[0].reduced_formula
        if cap is None or taken[formula] < cap:
            taken[formula] += 1
            kept.append(row)
    return kept


def is_control(candidate_id: str, share: float) -> bool:
    """Whether a candidate belongs to the control share, decided by its identifier alone.

    Parameters
    ----------
    candidate_id : str
        Hexadecimal identifier, as good as random.
    share : float
        Expected share of controls, 0 to 1.
    """
    return int(candidate_id, 16) < share * 16 ** len(candidate_id)
