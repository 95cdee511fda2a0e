"""CHGNet's formation energies against known compounds: ``python -m tests.benchmarks.known_scale``.

The elements are its own. Crystals are drawn at random from the prototypes; Mn and S are left out, which take minutes.
"""

import os
import random
import tempfile
import warnings
from pathlib import Path

import numpy as np
from pymatgen.core import Composition

from cryslator_flows.analysis.formation_energies import formation_energy_per_atom
from cryslator_flows.crystals.ground_states import ground_state
from cryslator_flows.crystals.prototypes import prototypes
from cryslator_flows.engines.by_name import chgnet_maker
from cryslator_flows.jobs.potential_relax import relax_all
from cryslator_flows.screening.known_phases import known_phases

NUMBER = 40
MOST_ATOMS = 8


def main():
    chosen = [
        item
        for item in prototypes()
        if len(item.species) <= MOST_ATOMS
        and not item.elements & {"Mn", "S"}
        and item.formula in known_phases([item.elements])
    ]
    random.Random(0).shuffle(chosen)
    chosen = chosen[:NUMBER]
    folder = Path(tempfile.mkdtemp()) / "job"
    folder.mkdir()
    os.chdir(folder)
    symbols = sorted({symbol for item in chosen for symbol in item.elements})
    elements = {
        item.name: item.energy_per_atom
        for item in relax_all(chgnet_maker(), ((symbol, ground_state(symbol)) for symbol in symbols))
        if item.converged and item.energy_per_atom is not None
    }
    errors, oxygen = [], []
    for item in relax_all(chgnet_maker(), ((row.formula, row.structure) for row in chosen)):
        composition = Composition(item.formula)
        energy = formation_energy_per_atom(composition, item.energy_per_atom if item.converged else None, elements)
        known = known_phases([frozenset(element.symbol for element in composition)])[item.name]
        print(item.name, energy, known, flush=True)
        if energy is not None:
            errors.append(energy - known)
            oxygen.append("O" in composition)
    for name, some in (("all", np.array(errors)), ("with oxygen", np.array(errors)[oxygen])):
        print(
            f"{name}: {len(some)} compounds, mean absolute {np.abs(some).mean():.3f}, median absolute "
            f"{np.median(np.abs(some)):.3f}, mean {some.mean():+.3f} eV/atom"
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
