"""Agreement of predicted formation energies with formation energies of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pymatgen.core import Composition
from scipy.stats import binomtest

from cryslator_flows.analysis.ends import measured_engines
from cryslator_flows.analysis.formation_energies import formation_energies, relaxed_energies
from cryslator_flows.counting.text_outputs import ENGINES

if TYPE_CHECKING:
    from cryslator_flows.documents.relaxations import RelaxationComparison

# Share of energies that the 90 % intervals should hold, and the p-value below which they do not.
NOMINAL = 0.9
SIGNIFICANT = 0.05
DFT_CODES = ("VASP", *(item.engine for item in ENGINES))


@dataclass(frozen=True)
class Agreement:
    """Formation energies by the engine beside the predicted ones.

    Parameters
    ----------
    engine : str
        Name of the engine.
    fitted : bool
        See `FormationEnergies`.
    energies : dict
        Formation energy by the engine for each candidate, in eV/atom.
    uncertainties : dict
        Half widths of the predicted 68 % and 90 % intervals for each candidate, in eV/atom.
    mean_absolute_error : float
        Mean absolute error of predictions, in eV/atom.
    mean_error : float
        Predicted minus engine, in eV/atom.
    held : int
        Candidates whose 90 % interval holds the engine's energy.
    left_out : int
        Relaxed candidates without a formation energy: they alone decide about the energy of an element in a fit, or
        an element of theirs has no energy.
    """

    engine: str
    fitted: bool
    energies: dict[str, float]
    uncertainties: dict[str, tuple[float, float]]
    mean_absolute_error: float
    mean_error: float
    held: int
    left_out: int

    @property
    def p_value(self) -> float:
        """Probability of at least as unlikely a number of held energies, if the intervals held 90 % of all."""
        return float(binomtest(self.held, len(self.energies), NOMINAL).pvalue)

    @property
    def verdict(self) -> Literal["too narrow", "too wide", "consistent"]:
        """Judgement of the 90 % intervals by a two-sided binomial test."""
        if self.p_value >= SIGNIFICANT:
            return "consistent"
        return "too narrow" if self.held < NOMINAL * len(self.energies) else "too wide"

    @property
    def judgement(self) -> str:
        """The judgement in words, with the numbers behind it."""
        held = f"{self.held} of {len(self.energies)} of the 90 % intervals hold the energy by {self.engine}"
        test = f"binomial test against 90 %: p = {self.p_value:.2g}"
        if self.verdict == "consistent":
            return f"The intervals are consistent with 90 % here: {held} ({test}, not below {SIGNIFICANT})"
        return f"The intervals are {self.verdict} here: {held} ({test}, below {SIGNIFICANT})"

    @property
    def engine_label(self) -> str:
        """Name of the engine, marked if it is a DFT code."""
        return describe_engine(self.engine)


def describe_engine(engine: str) -> str:
    """Return the name of an engine, marked if it is a DFT code: energies of an interatomic potential are not DFT."""
    return f"{engine} (DFT)" if engine in DFT_CODES else engine


def lacking_elements(comparisons: list[RelaxationComparison], element_energies: dict[str, float]) -> list[str]:
    """List the elements of relaxed candidates without a given energy; empty if no energy is given."""
    occurring = {str(element) for item in comparisons for element in Composition(item.reduced_formula)}
    return sorted(occurring - set(element_energies)) if element_energies else []


def compare_energies(
    comparisons: list[RelaxationComparison],
    uncertainties: dict[str, tuple[float, float]],
    element_energies: dict[str, float],
) -> Agreement | None:
    """Compare predicted formation energies with formation energies of the engine.

    Parameters
    ----------
    comparisons : list of RelaxationComparison
        The relaxed candidates.
    uncertainties : dict
        Half widths of the predicted 68 % and 90 % intervals for each candidate, in eV/atom. They are used for
        comparisons without intervals.
    element_energies : dict
        Energies of the elements by the engine, in eV/atom.

    Returns
    -------
    Agreement or None
        None if the engine's formation energies are unknown, see `formation_energies`, or if several engines relaxed
        the candidates.
    """
    # The prediction before the relaxation counts: rounds of active learning translate again afterwards.
    uncertainties = uncertainties | {
        item.candidate_id: (item.formation_energy_uncertainty, item.formation_energy_uncertainty_90)
        for item in comparisons
        if item.formation_energy_uncertainty is not None and item.formation_energy_uncertainty_90 is not None
    }
    engines = measured_engines(comparisons)
    found = formation_energies(comparisons, element_energies) if len(engines) == 1 else None
    predicted = {item.candidate_id: item.formation_energy_per_atom for item in comparisons}
    names = [name for name in found.energies if name in uncertainties] if found else []
    if found is None or not names:
        return None
    errors = np.array([predicted[name] - found.energies[name] for name in names])
    return Agreement(
        engine=engines[0],
        fitted=found.fitted,
        energies={name: found.energies[name] for name in names},
        uncertainties={name: uncertainties[name] for name in names},
        mean_absolute_error=float(np.abs(errors).mean()),
        mean_error=float(errors.mean()),
        held=int((np.abs(errors) <= np.array([uncertainties[name][1] for name in names])).sum()),
        left_out=len(relaxed_energies(comparisons)) - len(names),
    )
