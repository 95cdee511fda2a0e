"""Phases of the Materials Project from its interface, on the scale of the engine that relaxes the candidates."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pymatgen.core import SETTINGS

from cryslator_flows.documents.references import FetchedPhases
from cryslator_flows.errors import one_line
from cryslator_flows.screening.known_phases import systems_within

if TYPE_CHECKING:
    from collections.abc import Iterable

KEYS = ("MP_API_KEY", "PMG_MAPI_KEY")
# The Materials Project's name of the energies that stand beside energies of each run type of VASP.
THERMO_TYPES = {"GGA": "GGA_GGA+U", "GGA+U": "GGA_GGA+U", "r2SCAN": "R2SCAN"}


def fetch_phases(systems: Iterable[frozenset[str]]) -> FetchedPhases:
    """Fetch the lowest formation energy of each compound in some chemical systems and within them.

    Parameters
    ----------
    systems : iterable of frozenset of str
        Symbols of the elements of each system.

    Returns
    -------
    FetchedPhases
        Without energies, but with the reason, if mp-api is not installed, no key is set, or the query fails.
    """
    key = next((found for name in KEYS if (found := os.environ.get(name) or SETTINGS.get(name))), None)
    if key is None:
        return FetchedPhases(note=f"{KEYS[0]} is not set: the shipped table of known compounds competes")
    try:
        from mp_api.client import MPRester
    except ImportError:
        return FetchedPhases(note="mp-api is not installed: pip install 'cryslator-flows[mp-api]'")
    names = sorted("-".join(sorted(part)) for part in systems_within(systems) if len(part) > 1)
    energies: dict[str, dict[str, float]] = {name: {} for name in THERMO_TYPES.values()}
    try:
        with MPRester(key) as rester:
            for thermo_type, lowest in energies.items():
                for row in rester.materials.thermo.search(
                    chemsys=names, thermo_types=[thermo_type], fields=["formula_pretty", "formation_energy_per_atom"]
                ):
                    formula = row.formula_pretty
                    lowest[formula] = min(row.formation_energy_per_atom, lowest.get(formula, float("inf")))
    # The client raises many types of errors, of the network and of the service.
    except Exception as error:
        return FetchedPhases(note=f"the Materials Project does not answer: {type(error).__name__}: {one_line(error)}")
    return FetchedPhases(energies=energies)
