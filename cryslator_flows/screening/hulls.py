"""Convex hulls of formation energies: of candidates among themselves, and of the phases that compete with them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from cryslator_flows.screening.known_phases import known_phases, symbols_of, systems_within

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray


class Competition:
    """Phases that candidates may decompose into: known compounds of the Materials Project and references of one's own.

    Parameters
    ----------
    references : Mapping
        Formula to formation energy in eV/atom. A formula that is known takes this energy instead.
    known : bool
        True to count the known compounds of the Materials Project, see `cryslator_flows.screening.known_phases`.

    Examples
    --------
    >>> Competition({"NaCl": -2.0}).within([frozenset({"Na", "Cl"})])["NaCl"]
    -2.0
    """

    def __init__(self, references: Mapping[str, float], known: bool = True) -> None:
        self._known = known
        self._own: dict[frozenset[str], dict[str, float]] = defaultdict(dict)
        for formula, energy in references.items():
            composition = Composition(formula)
            reduced, system = composition.reduced_formula, symbols_of(formula)
            self._own[system][reduced] = min(energy, self._own[system].get(reduced, np.inf))
        self._hull: dict[str, float] = {}

    def within(self, systems: Iterable[frozenset[str]]) -> dict[str, float]:
        """Return the competing phases of some chemical systems, and of the systems within them.

        Parameters
        ----------
        systems : iterable of frozenset of str
            Symbols of the elements of each system.

        Returns
        -------
        dict
            Reduced formula to formation energy, in eV/atom.
        """
        parts = systems_within(systems)
        known = known_phases(parts) if self._known else {}
        return known | {formula: energy for part in parts for formula, energy in self._own.get(part, {}).items()}

    def energies_above(
        self, formulas: Sequence[str], energies: Sequence[float] | NDArray[np.floating]
    ) -> NDArray[np.floating]:
        """Compute the energy of each crystal above the hull of the competing phases alone.

        Parameters
        ----------
        formulas : sequence of str
            Reduced formula of each crystal.
        energies : sequence of float
            Its formation energy, in eV/atom.

        Returns
        -------
        array of float
            eV/atom, negative below the hull. NaN where no compound is known in the chemical system or within it, since
            a hull of elements says little.
        """
        new: dict[frozenset[str], list[str]] = defaultdict(list)
        for formula in set(formulas) - self._hull.keys():
            new[symbols_of(formula)].append(formula)
        for system, members in new.items():
            competitors = self.within([system])
            # The elements are no compounds.
            if any(len(symbols_of(formula)) > 1 for formula in competitors):
                self._hull |= hull_energies(members, competitors, {})
            else:
                self._hull |= dict.fromkeys(members, np.nan)
        return np.asarray(energies, dtype=float) - np.array([self._hull[formula] for formula in formulas])


def energies_above_hull(
    formulas: Sequence[str], energies: NDArray[np.floating] | Sequence[float], competition: Competition
) -> NDArray[np.floating]:
    """Compute the energy of each crystal above the convex hull of all crystals and the phases that compete with them.

    Parameters
    ----------
    formulas : sequence of str
        Reduced formula of each crystal.
    energies : sequence of float
        Its formation energy, in eV/atom.
    competition : Competition
        Phases that compete, on the scale of the model's training data.

    Returns
    -------
    array of float
        eV/atom, in the order of `formulas`; 0 for crystals on the hull. The elements are at zero by definition.
    """
    lowest: dict[str, float] = {}
    for formula, energy in zip(formulas, energies, strict=True):
        lowest[formula] = min(energy, lowest.get(formula, np.inf))
    hull = hull_energies(lowest, competition.within(map(symbols_of, lowest)), lowest)
    return np.array([max(0.0, energy - hull[formula]) for formula, energy in zip(formulas, energies, strict=True)])


def hull_energies(
    formulas: Iterable[str], competitors: Mapping[str, float], lowest: Mapping[str, float]
) -> dict[str, float]:
    """Compute the energy of the convex hull at some formulas, in eV/atom; parameters as in `hull_entries`."""
    by_system: dict[frozenset[str], list[str]] = defaultdict(list)
    for formula in formulas:
        by_system[symbols_of(formula)].append(formula)
    entries = hull_entries(competitors, lowest)
    hull = {}
    for system, members in by_system.items():
        diagram = phase_diagram(entries, system)
        for formula in members:
            hull[formula] = float(diagram.get_hull_energy_per_atom(Composition(formula)))
    return hull


def hull_entries(competitors: Mapping[str, float], lowest: Mapping[str, float]) -> dict[frozenset[str], list[PDEntry]]:
    """Collect the entries of convex hulls, without the elements.

    Parameters
    ----------
    competitors : Mapping
        Formula to formation energy of competing phases, in eV/atom, see `Competition.within`.
    lowest : Mapping
        Formula to the lowest formation energy of the candidates in the hull, in eV/atom.

    Returns
    -------
    dict
        Entries by the symbols of their elements, competing phases first.
    """
    entries: dict[frozenset[str], list[PDEntry]] = defaultdict(list)
    for formula, energy in [*competitors.items(), *lowest.items()]:
        composition = Composition(formula)
        entries[symbols_of(formula)].append(PDEntry(composition, energy * composition.num_atoms))
    return entries


def phase_diagram(entries: dict[frozenset[str], list[PDEntry]], system: frozenset[str]) -> PhaseDiagram:
    """Build the phase diagram of one chemical system, elements at zero.

    Parameters
    ----------
    entries : dict
        From `hull_entries`.
    system : frozenset of str
        Symbols of its elements.
    """
    inside = [PDEntry(Composition({Element(symbol): 1}), 0.0) for symbol in sorted(system)]
    for part in systems_within([system]):
        inside += entries.get(part, [])
    return PhaseDiagram(inside)
