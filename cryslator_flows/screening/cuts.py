"""Cuts that select translated candidates for relaxation: plain functions behind the select job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from cryslator_flows.config import StrictModel
from cryslator_flows.screening.hulls import Competition, energies_above_hull

if TYPE_CHECKING:
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
        None,
        ge=0,
        description="Drop candidates further above the hull of all candidates, known phases and references, in eV/atom",
    )
    max_uncertainty: float | None = Field(
        None, gt=0, description="Drop candidates whose formation energy has a larger uncertainty, in eV/atom"
    )
    in_domain_only: bool = Field(False, description="Drop candidates unlike the model's training data")
    per_composition: int | None = Field(None, ge=1, description="Keep at most this many of one reduced formula")
    top_k: int | None = Field(None, ge=1, description="Keep at most this many")
    known_phases: bool = Field(
        True, description="Count the known compounds of the Materials Project among the phases of the hull"
    )
    references: dict[str, float] = Field(
        default_factory=dict,
        description="Further phases for the hull, or other energies of known ones: formula to formation energy in "
        "eV/atom",
    )

    def competition(self) -> Competition:
        """Return the phases that candidates may decompose into."""
        return Competition(self.references, self.known_phases)

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
            above = energies_above_hull(formulas[kept].tolist(), energies[kept], self.competition())
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
