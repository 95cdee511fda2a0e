"""Pairs from the relaxations that a campaign compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymatgen.core import Composition

from cryslator_flows.analysis.ends import (
    CONVERGENCE_UNKNOWN,
    FAILED,
    NOT_CONVERGED,
    TEST_DOUBLE,
    converged_ends,
    why_no_end,
)
from cryslator_flows.analysis.formation_energies import formation_energy_per_atom
from cryslator_flows.documents.candidates import Candidate
from cryslator_flows.pairs.align import align
from cryslator_flows.pairs.raw import Dropped, RawPair

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cryslator_flows.documents.relaxations import Relaxation, RelaxationComparison


def comparison_pairs(
    comparisons: Iterable[RelaxationComparison],
    element_energies: dict[str, float],
) -> Iterator[RawPair | Dropped]:
    """Pair each unrelaxed structure with the lowest relaxed structure from any start that can be aligned with it.

    Parameters
    ----------
    comparisons : iterable of RelaxationComparison
        The relaxed candidates, all by one engine with one setting.
    element_energies : dict
        Energies of the elements by this engine, in eV/atom; without one of them the formation energy is left out.

    Yields
    ------
    RawPair or Dropped
        One for each comparison. A relaxation that failed, did not converge or is by a test double of an engine makes no
        pair.
    """
    for comparison in comparisons:
        unrelaxed = comparison.unrelaxed_structure
        if unrelaxed is None:
            yield Dropped(comparison.candidate_id, "no unrelaxed structure")
            continue
        candidate = Candidate(
            **comparison.model_dump(include={"candidate_id", "template_id", "substitution", "reduced_formula"}),
            structure=unrelaxed,
            chemsys=unrelaxed.chemical_system,
        )
        yield relaxed_pair(candidate, comparison.relaxations, element_energies)


def relaxed_pair(
    candidate: Candidate,
    relaxations: list[Relaxation],
    element_energies: dict[str, float],
) -> RawPair | Dropped:
    """Pair the unrelaxed structure of a candidate with the lowest relaxed structure that can be aligned with it.

    Parameters
    ----------
    candidate : Candidate
        The candidate.
    relaxations : list of Relaxation
        Its relaxations.
    element_energies : dict
        Energies of the elements by the same engine, in eV/atom.
    """
    name, unrelaxed = candidate.candidate_id, candidate.structure
    ends = [(item, item.structure) for item in converged_ends(relaxations) if item.structure is not None]
    if not ends:
        # The reason of the start that got farthest.
        reasons = {FAILED if item.structure is None else why_no_end(item) for item in relaxations}
        order = (NOT_CONVERGED, CONVERGENCE_UNKNOWN, TEST_DOUBLE)
        return Dropped(name, next((reason for reason in order if reason in reasons), FAILED))
    composition = unrelaxed.composition
    columns: dict[str, Any] = {"template": candidate.template_id, "substitution": candidate.substitution}
    if (formula := template_formula(composition, candidate.substitution)) is not None:
        columns["template_formula"] = formula
    failures: list[Dropped] = []
    for item, structure in ends:
        known = {"energy_per_atom": item.energy_per_atom}
        energy = formation_energy_per_atom(composition, item.energy_per_atom, element_energies)
        if energy is not None:
            known["formation_energy_per_atom"] = energy
        pair = RawPair(name, name, unrelaxed, structure, {**columns, **known})
        aligned = align(pair)
        if not isinstance(aligned, Dropped):
            return pair
        failures.append(aligned)
    return failures[0]


def template_formula(composition: Composition, substitution: dict[str, str]) -> str | None:
    """Return the reduced formula of the template from which a substitution made a crystal.

    Parameters
    ----------
    composition : Composition
        Composition of the substituted crystal.
    substitution : dict
        Template element to new element.

    Returns
    -------
    str or None
        None if two elements of the template became one, since they cannot be separated any more.
    """
    before = {new: old for old, new in substitution.items()}
    amounts = composition.get_el_amt_dict()
    if len(before) < len(substitution) or not set(amounts) <= set(before):
        return None
    return str(Composition({before[symbol]: amount for symbol, amount in amounts.items()}).reduced_formula)
