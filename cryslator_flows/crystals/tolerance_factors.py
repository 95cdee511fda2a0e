"""Tolerance factors of perovskites, from oxidation states and Shannon radii in pymatgen."""

from __future__ import annotations

import re
from functools import cache
from itertools import chain, combinations
from math import floor, log, sqrt
from typing import NamedTuple

import numpy as np
from pymatgen.core import Composition, Element

COORDINATIONS = {
    "I": 1, "II": 2, "III": 3, "IV": 4, "V": 5, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "X": 10, "XI": 11, "XII": 12,
    "XIV": 14,
}  # fmt: skip
# Of ions with several radii the high-spin one, which most oxides and halides have.
SPINS = ("", "High Spin", "Low Spin")


class ToleranceFactors(NamedTuple):
    """Tolerance factors of one perovskite.

    Parameters
    ----------
    goldschmidt : float
        (r_A + r_X) / (sqrt(2) (r_B + r_X)), V. M. Goldschmidt, Naturwissenschaften 14, 477 (1926); 1 for an ideal
        perovskite.
    tau : float
        r_X / r_B - n_A (n_A - (r_A / r_B) / ln(r_A / r_B)), C. J. Bartel and others, Sci. Adv. 5, eaav0693 (2019); a
        perovskite is expected below 4.18.
    """

    goldschmidt: float
    tau: float


def is_perovskite_formula(amounts: dict[str, int]) -> bool:
    """Return True for three atoms of one element to two of others, as in ABX3 and the double perovskite A2BB'X6.

    Some of the others make half of them, as on the site A, and the rest is on B. In a garnet, A3B2C3X12, none do.

    Parameters
    ----------
    amounts : dict
        Symbol to number of atoms in the formula.
    """
    *cations, anion = sorted(amounts.values())
    if 2 * anion != 3 * sum(cations):
        return False
    parts = chain.from_iterable(combinations(cations, size) for size in range(1, len(cations)))
    return any(2 * sum(part) == sum(cations) for part in parts)


def tolerance_factors(amounts: dict[str, int]) -> ToleranceFactors | None:
    """Compute the tolerance factors of a perovskite.

    The oxidation states are pymatgen's most probable ones. The larger half of the cations is A, with 12 neighbours,
    the smaller half is B, with 6; several on a site are averaged. An element of mixed valence is two ions.

    Parameters
    ----------
    amounts : dict
        Symbol to number of atoms in a formula for which `is_perovskite_formula` is True.

    Returns
    -------
    ToleranceFactors or None
        None without oxidation states, with another anion than the three atoms, without radii, or if A is not larger
        than B.

    Examples
    --------
    >>> factors = tolerance_factors({"Ca": 1, "Ti": 1, "O": 3})
    >>> round(factors.goldschmidt, 3), round(factors.tau, 1)
    (0.966, 3.9)
    """
    guesses = Composition(amounts).oxi_state_guesses()
    anion = max(amounts, key=lambda symbol: amounts[symbol])
    states = guesses[0] if guesses else {}
    if not states or states[anion] % 1 or any((state < 0) != (symbol == anion) for symbol, state in states.items()):
        return None
    cations = [
        ion for symbol, amount in amounts.items() if symbol != anion for ion in _ions(symbol, states[symbol], amount)
    ]
    radius_x = shannon_radius(anion, int(states[anion]), 6)
    cations.sort(key=lambda ion: -(shannon_radius(*ion, 6) or 0.0))
    half = len(cations) // 2
    large = [shannon_radius(*ion, 12) for ion in cations[:half]]
    small = [shannon_radius(*ion, 6) for ion in cations[half:]]
    if radius_x is None or None in large or None in small:
        return None
    radius_a, radius_b = float(np.mean(large)), float(np.mean(small))  # type: ignore[arg-type]
    if radius_a <= radius_b:
        return None
    charge = float(np.mean([state for _, state in cations[:half]]))
    ratio = radius_a / radius_b
    return ToleranceFactors(
        goldschmidt=(radius_a + radius_x) / (sqrt(2) * (radius_b + radius_x)),
        tau=radius_x / radius_b - charge * (charge - ratio / log(ratio)),
    )


def _ions(symbol: str, state: float, amount: int) -> list[tuple[str, int]]:
    """Return the ions of an element, with the two integer charges around its mean oxidation state."""
    low = floor(state)
    n_high = round((state - low) * amount)
    return [(symbol, low + 1)] * n_high + [(symbol, low)] * (amount - n_high)


@cache
def shannon_radius(symbol: str, charge: int, coordination: int) -> float | None:
    """Return the ionic radius of R. D. Shannon, Acta Cryst. A 32, 751 (1976), in angstrom; None for an unknown ion.

    Parameters
    ----------
    symbol : str
        The element.
    charge : int
        Its oxidation state.
    coordination : int
        Number of neighbours. If it is not in the table, the nearest one in the table counts.
    """
    table = Element(symbol).data.get("Shannon radii", {})
    radii = table.get(str(charge), {}) if isinstance(table, dict) else {}
    found = {}
    for name, by_spin in radii.items():
        number = COORDINATIONS[re.sub("PY|SQ", "", name)]
        spin = next(spin for spin in SPINS if spin in by_spin)
        # The usual polyhedron before the square and the pyramid of as many neighbours.
        found[abs(number - coordination), number, name] = float(by_spin[spin]["ionic_radius"])
    return found[min(found)] if found else None
