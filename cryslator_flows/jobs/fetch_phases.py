"""Job that fetches known phases from the Materials Project."""

from __future__ import annotations

from dataclasses import dataclass

from jobflow import Maker, job

from cryslator_flows.documents.references import FetchedPhases
from cryslator_flows.screening.fetched_phases import fetch_phases


@dataclass
class FetchPhasesMaker(Maker):
    """Fetch the phases that compete with candidates that VASP relaxes, if a key of the Materials Project is set.

    Parameters
    ----------
    name : str
        The job name.

    Examples
    --------
    >>> FetchPhasesMaker().make([["Ca", "O"]]).name
    'fetch phases'
    """

    name: str = "fetch phases"

    @job(output_schema=FetchedPhases)
    def make(self, systems: list[list[str]]) -> FetchedPhases:
        """Fetch phases; never fails, see `fetch_phases`.

        Parameters
        ----------
        systems : list of list of str
            Symbols of the elements of each chemical system.
        """
        return fetch_phases(map(frozenset, systems))
