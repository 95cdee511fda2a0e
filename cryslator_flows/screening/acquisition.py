"""Choice of the candidates that rounds of active learning or an adaptation relax."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from monty.json import MSONable

from cryslator_flows.screening.cuts import number_among_equals
from cryslator_flows.training.splits import place_of

if TYPE_CHECKING:
    from cryslator_flows.crystals.packing import TranslatedCandidates


@dataclass
class Acquisition(MSONable):
    """Choice of promising or uncertain candidates, by the lowest confidence bounds of the formation energy.

    The bound is `formation energy - exploration * uncertainty`; the uncertainty holds 68 % of the validation energies.
    D. D. Cox and S. John, "A statistical method for global optimization", IEEE Int. Conf. Syst. Man Cybern.,
    1241 (1992). The cuts of the selection do not count: the model learns from candidates that are uncertain or out of
    domain. Candidates whose translated atoms nearly coincide are left out.

    Parameters
    ----------
    size : int
        Candidates in a batch.
    exploration : float
        Weight of the uncertainty; 0 chooses the candidates of lowest predicted formation energy.
    per_composition : int or None
        Maximum number of candidates of one reduced formula in a batch.
    excluded : list of str
        Candidates to leave out, since earlier rounds relaxed them.

    Examples
    --------
    >>> Acquisition(size=8, exploration=1.0, per_composition=2).excluding(["3f2a"]).excluded
    ['3f2a']
    """

    size: int
    exploration: float = 1.0
    per_composition: int | None = None
    excluded: list[str] = field(default_factory=list)

    def excluding(self, candidate_ids: list[str]) -> Acquisition:
        """Return the same acquisition with more candidates excluded."""
        return replace(self, excluded=[*self.excluded, *candidate_ids])

    def choose(self, candidates: TranslatedCandidates) -> TranslatedCandidates:
        """Choose a batch.

        The choice from the choices of several parts equals the choice from all candidates.

        Parameters
        ----------
        candidates : TranslatedCandidates
            Candidates to choose from.

        Returns
        -------
        TranslatedCandidates
            Lowest bound first; fewer than `size` if there are not enough.
        """
        columns = candidates.arrays()
        bounds = columns["formation_energy_per_atom"] - self.exploration * columns["formation_energy_uncertainty"]
        free = ~columns["atoms_too_close"] & ~np.isin(columns["candidate_id"], np.array(self.excluded, dtype=np.str_))
        kept = np.flatnonzero(free)
        kept = kept[np.lexsort((columns["candidate_id"][kept], bounds[kept]))]
        if self.per_composition is not None:
            kept = kept[number_among_equals(columns["formula"][kept]) < self.per_composition]
        return candidates.take(kept[: self.size])


@dataclass
class RandomSample(MSONable):
    """Choice of random candidates, the same for the same candidates and seed.

    Candidates whose translated atoms nearly coincide are left out, since no cuts select them.

    Parameters
    ----------
    size : int
        Candidates in the sample.
    seed : int
        Seed of the choice.

    Examples
    --------
    >>> RandomSample(size=200).seed
    0
    """

    size: int
    seed: int = 0

    def choose(self, candidates: TranslatedCandidates) -> TranslatedCandidates:
        """Choose a sample.

        The choice from the choices of several parts equals the choice from all candidates.

        Parameters
        ----------
        candidates : TranslatedCandidates
            Candidates to choose from.

        Returns
        -------
        TranslatedCandidates
            In random order; all candidates if there are not enough.
        """
        columns = candidates.arrays()
        free = np.flatnonzero(~columns["atoms_too_close"])
        places = [place_of(name, self.seed) for name in columns["candidate_id"][free].tolist()]
        return candidates.take(free[np.argsort(places, kind="stable")][: self.size])
