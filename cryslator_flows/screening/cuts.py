"""Cuts and hulls that select translated candidates for relaxation: plain functions behind the select job."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from cryslator_flows.config import StrictModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from cryslator_flows.crystals.columns import Arrays
    from cryslator_flows.crystals.packing import TranslatedCandidates

# The hull takes energies as equal that differ by less, in eV/atom.
HULL_NOISE = 1e-8


class Cuts(StrictModel):
    """Cuts that select translated candidates, the most stable first.

    Candidates whose translated atoms nearly coincide are always dropped. The hull leaves out the candidates that the
    cuts on uncertainty and domain exclude.

    Examples
    --------
    >>> Cuts(max_energy_above_hull=0.05, top_k=100).top_k
    100
    """

    max_formation_energy: float | None = Field(
        None, description="Drop candidates above this predicted formation energy, in eV/atom"
    )
    max_energy_above_hull: float | None = Field(
        None, ge=0, description="Drop candidates further above the hull of campaign and references, in eV/atom"
    )
    max_uncertainty: float | None = Field(
        None, gt=0, description="Drop candidates whose formation energy has a larger uncertainty, in eV/atom"
    )
    in_domain_only: bool = Field(False, description="Drop candidates unlike the model's training data")
    per_composition: int | None = Field(None, ge=1, description="Keep at most this many of one reduced formula")
    top_k: int | None = Field(None, ge=1, description="Keep at most this many")
    references: dict[str, float] = Field(
        default_factory=dict, description="Known phases for the hull: formula to formation energy in eV/atom"
    )

    def shortlist(self, candidates: TranslatedCandidates) -> TranslatedCandidates:
        """Drop the candidates that `select` drops for any further candidates.

        The selection from several shortlists equals the selection from all candidates: with more candidates the hull
        never rises and a rank never improves. The best k are certain before the hull of all candidates is known only if
        the others cannot be part of it, see `PackedCandidates.whole_systems`.

        Parameters
        ----------
        candidates : TranslatedCandidates
            A part of the candidates.

        Returns
        -------
        TranslatedCandidates
            Candidates that may be selected, most stable first.
        """
        settled = self.max_energy_above_hull is None or candidates.whole_systems
        return self._keep(candidates, self.top_k if settled else None)

    def select(self, candidates: TranslatedCandidates) -> TranslatedCandidates:
        """Apply all cuts.

        Parameters
        ----------
        candidates : TranslatedCandidates
            All candidates, or all shortlists of them.

        Returns
        -------
        TranslatedCandidates
            Kept candidates, by predicted formation energy, then by identifier.
        """
        return self._keep(candidates, self.top_k)

    def trusted(self, columns: Arrays) -> NDArray[np.bool_]:
        """Mark the candidates that the cuts on uncertainty and domain keep; the hull consists of them.

        Parameters
        ----------
        columns : dict of arrays
            Columns of translated candidates.

        Returns
        -------
        array of bool
            One for each candidate; False if atoms nearly coincide.
        """
        good = ~columns["atoms_too_close"]
        if self.in_domain_only:
            good &= ~columns["out_of_domain"]
        if self.max_uncertainty is not None:
            good &= columns["formation_energy_uncertainty"] <= self.max_uncertainty
        return good

    def _keep(self, candidates: TranslatedCandidates, top_k: int | None) -> TranslatedCandidates:
        columns = candidates.arrays()
        energies, formulas = columns["formation_energy_per_atom"], columns["formula"]
        kept = np.flatnonzero(self.trusted(columns))
        if self.max_energy_above_hull is not None:
            above = energies_above_hull(formulas[kept].tolist(), energies[kept], self.references)
            kept = kept[above <= self.max_energy_above_hull + HULL_NOISE]
        if self.max_formation_energy is not None:
            kept = kept[energies[kept] <= self.max_formation_energy]
        kept = kept[np.lexsort((columns["candidate_id"][kept], energies[kept]))]
        if self.per_composition is not None:
            kept = kept[number_among_equals(formulas[kept]) < self.per_composition]
        return candidates.take(kept[:top_k])


def number_among_equals(values: NDArray[np.str_]) -> NDArray[np.integer]:
    """Count the equal values before each value."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    positions = np.arange(len(values))
    starts = np.maximum.accumulate(np.where(np.r_[True, ordered[1:] != ordered[:-1]][: len(values)], positions, 0))
    numbers = np.empty(len(values), dtype=int)
    numbers[order] = positions - starts
    return numbers


def energies_above_hull(
    formulas: Sequence[str], energies: NDArray[np.floating] | Sequence[float], references: dict[str, float]
) -> NDArray[np.floating]:
    """Compute the energy of each crystal above the convex hull of all crystals and known phases.

    Parameters
    ----------
    formulas : sequence of str
        Reduced formula of each crystal.
    energies : sequence of float
        Its formation energy, in eV/atom.
    references : dict
        Formula to formation energy of known phases, in eV/atom on the scale of the model's training data.

    Returns
    -------
    array of float
        eV/atom, in the order of `formulas`; 0 for crystals on the hull. The elements are at zero by definition.
    """
    lowest: dict[str, float] = {}
    for formula, energy in zip(formulas, energies, strict=True):
        lowest[formula] = min(energy, lowest.get(formula, np.inf))
    hull = hull_energies(lowest, hull_entries(lowest, references))
    return np.array([max(0.0, energy - hull[formula]) for formula, energy in zip(formulas, energies, strict=True)])


def hull_energies(formulas: Iterable[str], entries: dict[frozenset[str], list[PDEntry]]) -> dict[str, float]:
    """Compute the energy of the convex hull at some formulas, in eV/atom.

    Parameters
    ----------
    formulas : iterable of str
        The formulas.
    entries : dict
        From `hull_entries`.
    """
    by_system: dict[frozenset[str], dict[str, Composition]] = defaultdict(dict)
    for formula in formulas:
        composition = Composition(formula)
        by_system[_system(composition)][formula] = composition
    hull = {}
    for system, members in by_system.items():
        diagram = phase_diagram(entries, system)
        for formula, composition in members.items():
            hull[formula] = float(diagram.get_hull_energy_per_atom(composition))
    return hull


def hull_entries(lowest: dict[str, float], references: dict[str, float]) -> dict[frozenset[str], list[PDEntry]]:
    """Collect the entries of the convex hulls of a campaign, without the elements.

    Parameters
    ----------
    lowest : dict
        Formula to the lowest formation energy of its crystals, in eV/atom.
    references : dict
        Formula to formation energy of known phases, in eV/atom.

    Returns
    -------
    dict
        Entries by the symbols of their elements, known phases first.
    """
    entries: dict[frozenset[str], list[PDEntry]] = defaultdict(list)
    for formula, energy in [*references.items(), *lowest.items()]:
        composition = Composition(formula)
        entries[_system(composition)].append(PDEntry(composition, energy * composition.num_atoms))
    return entries


def _system(composition: Composition) -> frozenset[str]:
    return frozenset(element.symbol for element in composition.elements)


def phase_diagram(entries: dict[frozenset[str], list[PDEntry]], system: frozenset[str]) -> PhaseDiagram:
    """Build the phase diagram of one chemical system, elements at zero.

    Parameters
    ----------
    entries : dict
        From `hull_entries`.
    system : frozenset of str
        Symbols of its elements.
    """
    symbols = sorted(system)
    inside = [PDEntry(Composition({Element(symbol): 1}), 0.0) for symbol in symbols]
    for size in range(1, len(symbols) + 1):
        for subset in combinations(symbols, size):
            inside += entries.get(frozenset(subset), [])
    return PhaseDiagram(inside)


def is_control(candidate_id: str, share: float) -> bool:
    """Check by the identifier alone that a candidate belongs to the control share.

    Parameters
    ----------
    candidate_id : str
        Hexadecimal identifier, as good as random.
    share : float
        Expected share of controls, 0 to 1.
    """
    return int(candidate_id, 16) < share * 16 ** len(candidate_id)
