"""Formation energies from the energies of an engine and of the elements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Composition

from cryslator_flows.analysis.ends import converged_ends, lowest_ends, why_no_end

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from cryslator_flows.documents.references import ElementReference
    from cryslator_flows.documents.relaxations import RelaxationComparison

# Candidates that a fit of elements' energies must have beyond the number of fitted energies.
LEAST_BEYOND_FIT = 3
# A candidate that alone decides about an element's energy has a leverage of 1.
LEVERAGE_NOISE = 1e-6


@dataclass(frozen=True)
class FormationEnergies:
    """Formation energies of relaxed candidates by their engine.

    Parameters
    ----------
    energies : dict
        By candidate, in eV/atom.
    fitted : bool
        True if the elements' energies were fitted to the predictions, without the candidate itself.
    """

    energies: dict[str, float]
    fitted: bool


def element_energies(references: Iterable[ElementReference]) -> dict[str, float]:
    """Return the energy of each element whose relaxation has converged, in eV/atom."""
    ends = {item.symbol: converged_ends([item.relaxation]) for item in references}
    return {
        symbol: end.energy_per_atom
        for symbol, found in ends.items()
        for end in found
        if end.energy_per_atom is not None
    }


def elements_without_energy(references: Iterable[ElementReference]) -> dict[str, str]:
    """Return the reason for each element whose relaxation gives no energy."""
    reasons = {item.symbol: why_no_end(item.relaxation) for item in references}
    return {symbol: reason for symbol, reason in reasons.items() if reason is not None}


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


def is_corrected(comparisons: list[RelaxationComparison]) -> bool:
    """Return True if the Materials Project's corrections are known for the lowest ends of all relaxed candidates."""
    ends = lowest_ends(comparisons).values()
    return bool(ends) and all(end.correction_per_atom is not None for end in ends)


def relaxed_energies(comparisons: list[RelaxationComparison]) -> dict[str, float]:
    """Return the energy of the lowest converged end of each candidate by its engine, in eV/atom.

    The energies are corrected if all corrections are known, see `is_corrected`; the elements need none.
    """
    corrected = is_corrected(comparisons)
    return {
        candidate: end.energy_per_atom + ((end.correction_per_atom or 0.0) if corrected else 0.0)
        for candidate, end in lowest_ends(comparisons).items()
        if end.energy_per_atom is not None
    }


def formation_energies(
    comparisons: list[RelaxationComparison], element_energies: dict[str, float]
) -> FormationEnergies | None:
    """Compute formation energies of the relaxed candidates by the engine that relaxed them.

    With the energies of the elements by the same engine, a formation energy is the difference; a candidate with another
    element has none. Without energies of the elements, these are fitted to the predictions by least squares. Each
    candidate is compared with a fit to the other candidates. Such a fit takes up every error that is linear in the
    composition. So it tests the spread of the predictions, not an offset that all have in common.

    Parameters
    ----------
    comparisons : list of RelaxationComparison
        The relaxed candidates, all by one engine.
    element_energies : dict
        Symbol to energy of the element by the engine, in eV/atom; used if a candidate has no other elements.

    Returns
    -------
    FormationEnergies or None
        None without a relaxed candidate, or with too few to fit. A fit leaves out a candidate that alone decides about
        the energy of an element.
    """
    relaxed = relaxed_energies(comparisons)
    chosen = [item for item in comparisons if item.candidate_id in relaxed]
    if not chosen:
        return None
    compositions = [Composition(item.reduced_formula) for item in chosen]
    symbols = sorted({element.symbol for composition in compositions for element in composition})
    shares = np.array([[composition.get_atomic_fraction(name) for name in symbols] for composition in compositions])
    total = np.array([relaxed[item.candidate_id] for item in chosen])
    names = [item.candidate_id for item in chosen]
    differences = {
        name: formation_energy_per_atom(composition, relaxed[name], element_energies)
        for name, composition in zip(names, compositions, strict=True)
    }
    if known := {name: energy for name, energy in differences.items() if energy is not None}:
        return FormationEnergies(known, fitted=False)
    predicted = np.array([item.formation_energy_per_atom for item in chosen])
    left_out = _left_out_residuals(shares, total - predicted)
    if left_out is None:
        return None
    kept = np.isfinite(left_out)
    energies = (predicted + left_out)[kept]
    return FormationEnergies(dict(zip(np.array(names)[kept].tolist(), energies.tolist(), strict=True)), fitted=True)


def _left_out_residuals(shares: NDArray[np.floating], energies: NDArray[np.floating]) -> NDArray[np.floating] | None:
    """Return the residual of each row by the fit to the other rows; NaN where these do not determine it."""
    vectors, values, _ = np.linalg.svd(shares, full_matrices=False)
    basis = vectors[:, values > values[0] * max(shares.shape) * np.finfo(float).eps]
    if len(shares) < basis.shape[1] + LEAST_BEYOND_FIT:
        return None
    # The residual without a row is the residual with it over one minus its leverage: one fit instead of one per row.
    free = 1 - (basis**2).sum(axis=1)
    residuals = energies - basis @ (basis.T @ energies)
    return np.where(free > LEVERAGE_NOISE, residuals / np.maximum(free, LEVERAGE_NOISE), np.nan)
