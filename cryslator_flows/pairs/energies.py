"""Formation energies of pairs, from energies of an engine and of the elements."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pymatgen.core import Composition

if TYPE_CHECKING:
    from cryslator_flows.training.records import PairRecord


def formation_energy_per_atom(
    composition: Composition, energy_per_atom: float | None, element_energies: dict[str, float]
) -> float | None:
    """Compute the formation energy in eV/atom: the energy minus the elements' energies, all by one engine and setting.

    Parameters
    ----------
    composition : Composition
        Composition of the crystal.
    energy_per_atom : float or None
        Its energy, in eV/atom.
    element_energies : dict
        Symbol to energy of the element, in eV/atom.

    Returns
    -------
    float or None
        None if the energy, or the energy of an element, is unknown.
    """
    shares = composition.fractional_composition.get_el_amt_dict()
    if energy_per_atom is None or not set(shares) <= set(element_energies):
        return None
    return energy_per_atom - sum(share * element_energies[symbol] for symbol, share in shares.items())


def add_formation_energy(record: PairRecord, element_energies: dict[str, float]) -> None:
    """Add the formation energy to a pair with an ``energy_per_atom``, if the energies of all elements are known."""
    energy_per_atom = (record.model_extra or {}).get("energy_per_atom")
    energy = formation_energy_per_atom(Composition(Counter(record.species)), energy_per_atom, element_energies)
    if energy is not None:
        record.formation_energy_per_atom = energy
