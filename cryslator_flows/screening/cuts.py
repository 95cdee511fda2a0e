"""Cuts that select translated candidates for relaxation: plain functions behind the select job."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from cryslator_flows.config import StrictModel
from cryslator_flows.crystals.packing import PREDICTED, TranslatedCandidates
from cryslator_flows.crystals.windows import Window
from cryslator_flows.screening.hulls import Competition, energies_above_hull

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from cryslator_flows.crystals.columns import Arrays

# The hull takes energies as equal that differ by less, in eV/atom.
HULL_NOISE = 1e-8
HULL_DECIMALS = 7
# Reasons of the cuts that come before the windows of predicted properties.
BEFORE_PROPERTIES = ("atoms nearly coincide", "out of domain", "uncertain", "above the hull", "formation energy")
TIED = "others of the formula within the uncertainty"


class PropertyWindow(Window):
    """Window of a property that another model predicts for the relaxed crystal, in the unit of that model.

    Examples
    --------
    >>> PropertyWindow(model="my-band-gaps", min=1.0, max=2.5).holds(1.5)
    True
    """

    model: str = Field(
        description="Model whose target is the property: its name, or its folder relative to the campaign file"
    )
    unit: str | None = Field(
        None, description="Unit of the window and of the model; the model's if left out, another one is refused"
    )

    def title(self, name: str) -> str:
        """Return the name of the property with its unit.

        >>> PropertyWindow(model="my-band-gaps", unit="eV", min=1.0).title("band_gap")
        'band_gap (eV)'
        """
        return f"{name} ({self.unit})" if self.unit else name

    def __str__(self) -> str:
        return f"{super().__str__()} {self.unit}" if self.unit else super().__str__()


class Cuts(StrictModel):
    """Cuts that select translated candidates, the most stable first.

    The most stable candidate has the lowest energy above the hull if a cut uses it, else the lowest formation energy.
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
    properties: dict[str, PropertyWindow] = Field(
        default_factory=dict,
        description="Drop candidates whose predicted property is outside a window; by the target of the model. They "
        "still compete in the hull",
    )
    per_composition: int | None = Field(
        None,
        ge=1,
        description="Keep at most this many of one reduced formula; the funnel counts those that are left out within "
        "the uncertainty of a kept one",
    )
    top_k: int | None = Field(
        None,
        ge=1,
        description="Keep at most this many, of lowest energy above the hull with `max_energy_above_hull`, else of "
        "lowest formation energy",
    )
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

    def shortlist(self, candidates: TranslatedCandidates, left_out: Counter[str] | None = None) -> TranslatedCandidates:
        """Drop the candidates that `select` drops for any further candidates.

        The selection from several shortlists equals the selection from all candidates: with more candidates the hull
        never rises. The best k are certain before the hull of all candidates is known only if the others cannot be
        part of it, see `PackedCandidates.whole_systems`.

        Parameters
        ----------
        candidates : TranslatedCandidates
            A part of the candidates.
        left_out : Counter or None
            Takes the number of dropped candidates by reason.

        Returns
        -------
        TranslatedCandidates
            Candidates that may be selected, most stable first.
        """
        if self.properties and self.max_energy_above_hull is not None:
            # Candidates that only the later cuts drop are part of the hull of all.
            return self._keep(candidates, None, left_out, is_last=False)
        settled = self.max_energy_above_hull is None or candidates.whole_systems
        return self._keep(candidates, self.top_k if settled else None, left_out)

    def select(self, candidates: TranslatedCandidates, left_out: Counter[str] | None = None) -> TranslatedCandidates:
        """Apply all cuts.

        Parameters
        ----------
        candidates : TranslatedCandidates
            All candidates, or all shortlists of them.
        left_out : Counter or None
            Takes the number of dropped candidates by reason.

        Returns
        -------
        TranslatedCandidates
            Kept candidates, by energy above the hull if a cut uses it, then by formation energy and identifier.
        """
        return self._keep(candidates, self.top_k, left_out)

    def emptied_window(self, parts: Iterable[TranslatedCandidates]) -> str | None:
        """Describe the window of a predicted property that keeps none of the candidates before it.

        Parameters
        ----------
        parts : iterable of TranslatedCandidates
            All candidates, in any parts.

        Returns
        -------
        str or None
            Key, number of candidates, their range and the fix; None if each window keeps some, or has none to judge.
        """
        before = self.model_copy(update={"properties": {}, "per_composition": None, "top_k": None})
        columns = before.select(TranslatedCandidates.join([before.shortlist(part) for part in parts])).arrays()
        kept: NDArray[np.integer] = np.arange(len(columns["formula"]))
        for name, window in self.properties.items():
            values = columns[f"{PREDICTED}{window.title(name)}"][kept]
            kept = kept[window.hold(values)]
            if len(values) and not len(kept):
                found = window.model_copy(update={"min": values.min(), "max": values.max()})
                return (
                    f"selection.properties.{name}: none of {len(values)} candidates is {window}; their predicted "
                    f"values are {found}; change the window, and start in another folder with --output"
                )
        return None

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
        good: NDArray[np.bool_] = np.all([*self._trust(columns).values()], axis=0)
        return good

    def _trust(self, columns: Arrays) -> dict[str, NDArray[np.bool_]]:
        """Mark what each cut on a translation keeps, by the reason against the others."""
        kept = {"atoms nearly coincide": ~columns["atoms_too_close"]}
        if self.in_domain_only:
            kept["out of domain"] = ~columns["out_of_domain"]
        if self.max_uncertainty is not None:
            kept["uncertain"] = columns["formation_energy_uncertainty"] <= self.max_uncertainty
        return kept

    def _keep(
        self,
        candidates: TranslatedCandidates,
        top_k: int | None,
        left_out: Counter[str] | None,
        is_last: bool = True,
    ) -> TranslatedCandidates:
        columns = candidates.arrays()
        energies, formulas = columns["formation_energy_per_atom"], columns["formula"]
        counts: Counter[str] = Counter()
        kept: NDArray[np.integer] = np.arange(len(energies))

        def cut(reason: str, keep: NDArray[np.bool_]) -> NDArray[np.integer]:
            counts[reason] += int((~keep).sum())
            return kept[keep]

        for reason, keep in self._trust(columns).items():
            kept = cut(reason, keep[kept])
        ranks = energies
        if self.max_energy_above_hull is not None:
            above = energies_above_hull(formulas[kept].tolist(), energies[kept], self.competition())
            ranks = np.full(len(energies), np.inf)
            ranks[kept] = above.round(HULL_DECIMALS)
            kept = cut("above the hull", above <= self.max_energy_above_hull + HULL_NOISE)
        if self.max_formation_energy is not None:
            kept = cut("formation energy", energies[kept] <= self.max_formation_energy)
        for name, window in self.properties.items() if is_last else ():
            kept = cut(f"{PREDICTED}{name} {window}", window.hold(columns[f"{PREDICTED}{window.title(name)}"][kept]))
        kept = kept[np.lexsort((columns["candidate_id"][kept], energies[kept], ranks[kept]))]
        if self.per_composition is not None and is_last:
            numbers = number_among_equals(formulas[kept])
            last = {formulas[row]: energies[row] for row in kept[numbers < self.per_composition]}
            behind = energies[kept] - np.array([last[formula] for formula in formulas[kept]])
            tied = (numbers >= self.per_composition) & (behind <= columns["formation_energy_uncertainty"][kept])
            counts[TIED] += int(tied.sum())
            counts["others of the formula"] -= int(tied.sum())
            kept = cut("others of the formula", numbers < self.per_composition)
        if top_k is not None:
            kept = cut(f"others than the best {top_k}", np.arange(len(kept)) < top_k)
        if left_out is not None:
            left_out.update(counts)
        return candidates.take(kept)


def number_among_equals(values: NDArray[np.str_]) -> NDArray[np.integer]:
    """Count the equal values before each value."""
    import pandas as pd

    return pd.Series(values).groupby(values).cumcount().to_numpy()
