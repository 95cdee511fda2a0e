"""How well predicted formation energies hold against those of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Composition

from cryslator_flows.analysis.formation_energies import formation_energies, relaxed_energies
from cryslator_flows.counting.text_outputs import ENGINES

if TYPE_CHECKING:
    from cryslator_flows.documents.relaxations import RelaxationComparison

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
        By candidate, by the engine, in eV/atom.
    uncertainties : dict
        By candidate, half widths of the predicted 68 % and 90 % intervals, in eV/atom.
    mean_absolute_error : float
        In eV/atom.
    mean_error : float
        Predicted minus engine, in eV/atom.
    held : int
        Candidates whose 90 % interval holds the engine's energy.
    left_out : int
        Relaxed candidates that alone decide about the energy of an element, so that a fit says nothing about them.
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
    def engine_label(self) -> str:
        """The engine, and that it is a DFT code if it is one."""
        return describe_engine(self.engine)


def describe_engine(engine: str) -> str:
    """Name of an engine, marked if it is a DFT code: an interatomic potential's energies are not DFT."""
    return f"{engine} (DFT)" if engine in DFT_CODES else engine


def measured_engines(comparisons: list[RelaxationComparison]) -> list[str]:
    """The engines of the relaxations, test doubles apart."""
    costs = [item.cost for comparison in comparisons for item in comparison.relaxations if item.cost]
    return sorted({cost.engine for cost in costs if not cost.synthetic})


def lacking_elements(comparisons: list[RelaxationComparison], element_energies: dict[str, float]) -> list[str]:
    """Elements of the relaxed candidates whose energies are not given, where others are; empty where none are given."""
    occurring = {str(element) for item in comparisons for element in Composition(item.reduced_formula)}
    return sorted(occurring - set(element_energies)) if element_energies else []


def compare_energies(
    comparisons: list[RelaxationComparison],
    uncertainties: dict[str, tuple[float, float]],
    element_energies: dict[str, float],
) -> Agreement | None:
    """Hold predicted formation energies against those of the engine.

    Parameters
    ----------
    comparisons : list of RelaxationComparison
        The relaxed candidates.
    uncertainties : dict
        By candidate, half widths of the predicted 68 % and 90 % intervals, in eV/atom; for comparisons that do not
        say themselves.
    element_energies : dict
        Energies of the elements by the engine, in eV/atom.

    Returns
    -------
    Agreement or None
        None where the engine's formation energies cannot be told, see `formation_energies`, or where several engines
        relaxed the candidates.
    """
    # What was stated before a candidate was relaxed counts: rounds of active learning translate again afterwards.
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
