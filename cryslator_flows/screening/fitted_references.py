"""Energies of the elements for an engine, fitted to known compounds that the engine relaxes.

V. Stevanovic, S. Lany, X. Zhang and A. Zunger, "Correcting density functional theory for accurate predictions of
compound enthalpies of formation: fitted elemental-phase reference energies", Phys. Rev. B 85, 115104 (2012). Here the
formation energies are those of the Materials Project, so that energies of the engine come on the scale of the known
hull.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from monty.json import MSONable
from pymatgen.core import Composition, Structure

from cryslator_flows.crystals.prototypes import prototypes
from cryslator_flows.screening.known_phases import known_materials, known_phases, symbols_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cryslator_flows.crystals.prototypes import Prototype

# Compounds of each element of the candidates in the fit, of each other element, and the largest cells among them.
PER_ELEMENT = 6
PER_PARTNER = 2
MOST_ATOMS = 12
# A compound that a fit meets exactly says nothing about its error.
HIGHEST_LEVERAGE = 0.99


def reference_compounds(elements: Collection[str]) -> dict[str, Structure]:
    """Choose known compounds whose energies determine those of some elements.

    Each element gets `PER_ELEMENT` compounds, as far as the library has them. Compounds with few other elements come
    first; each other element gets `PER_PARTNER`.

    Parameters
    ----------
    elements : collection of str
        Symbols of the elements.

    Returns
    -------
    dict
        Reduced formula to structure, of the very crystal that has the known formation energy.
    """
    wanted = frozenset(elements)
    left: dict[str, Prototype] = {}
    for item in prototypes():
        if len(item.species) <= MOST_ATOMS and item.material_id in known_materials():
            left[item.formula] = item
    number: Counter[str] = Counter(dict.fromkeys(wanted, 0))
    chosen: dict[str, Structure] = {}
    exhausted: set[str] = set()

    def lacks(symbol: str) -> bool:
        return number[symbol] < (PER_ELEMENT if symbol in wanted else PER_PARTNER)

    while open_elements := [symbol for symbol in number if lacks(symbol) and symbol not in exhausted]:
        symbol = min(open_elements, key=lambda name: (name not in wanted, number[name], name))
        having = [item for item in left.values() if symbol in item.elements]
        if not having:
            exhausted.add(symbol)
            continue
        best = min(
            having,
            key=lambda item: (
                len(item.elements - number.keys()),
                len(item.elements - wanted),
                sum(not lacks(name) for name in item.elements),
                len(item.species),
                item.formula,
            ),
        )
        chosen[best.formula] = left.pop(best.formula).structure
        number.update(best.elements)
    return chosen


class FittedReferences(MSONable):
    """Energies of the elements that turn energies of an engine into formation energies.

    Parameters
    ----------
    energies : dict
        Symbol to energy, in eV/atom.
    error : float
        Mean absolute error of the formation energies of the compounds, each left out of the fit, in eV/atom.
    n_compounds : int
        Number of compounds in the fit.
    """

    def __init__(self, energies: dict[str, float], error: float, n_compounds: int) -> None:
        self.energies, self.error, self.n_compounds = energies, error, n_compounds

    @classmethod
    def fit(cls, compounds: Mapping[str, float]) -> FittedReferences:
        """Fit the energies of the elements by least squares.

        Elements that the compounds do not determine have no energy.

        Parameters
        ----------
        compounds : Mapping
            Reduced formula of known compounds to energy by the engine, in eV/atom.
        """
        known = known_phases({symbols_of(formula) for formula in compounds})
        formulas = [formula for formula in compounds if formula in known]
        symbols = sorted({symbol for formula in formulas for symbol in symbols_of(formula)})
        if not symbols:
            return cls({}, float("nan"), 0)
        parsed = [Composition(formula) for formula in formulas]
        shares = np.array([[item.get_atomic_fraction(symbol) for symbol in symbols] for item in parsed])
        excess = np.array([compounds[formula] - known[formula] for formula in formulas])
        inverse = np.linalg.pinv(shares)
        fitted = inverse @ excess
        leverage = np.diag(shares @ inverse)
        tested = leverage < HIGHEST_LEVERAGE
        left_out = np.abs(excess - shares @ fitted)[tested] / (1 - leverage[tested])
        # The projection on what the compounds span leaves a determined element as it is.
        determined = np.isclose(np.diag(inverse @ shares), 1.0, atol=1e-6)
        energies = {symbol: float(fitted[index]) for index, symbol in enumerate(symbols) if determined[index]}
        return cls(energies, float(left_out.mean()) if left_out.size else float("nan"), len(formulas))

    def formation_energy(self, formula: str, energy_per_atom: float) -> float:
        """Return the formation energy of a crystal, in eV/atom; NaN if an element has no energy.

        Parameters
        ----------
        formula : str
            Its formula.
        energy_per_atom : float
            Its energy by the engine, in eV/atom.
        """
        composition = Composition(formula)
        elements = [(element.symbol, composition.get_atomic_fraction(element)) for element in composition]
        return energy_per_atom - sum(share * self.energies.get(symbol, np.nan) for symbol, share in elements)
