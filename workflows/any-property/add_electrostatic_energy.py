"""Add the electrostatic energy of the relaxed crystal to files of pairs, as an example of a property to train on.

python workflows/any-property/add_electrostatic_energy.py IN.jsonl.gz OUT.jsonl.gz

Ewald energy per atom by pymatgen, point charges at the average oxidation states that pymatgen guesses from the
formula; pairs of formulas without a guess get none and are left out of the training on it.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core import Structure
from rich.progress import track

from cryslator_flows.training.records import PairRecord, read_records

COLUMN = "electrostatic_energy_per_atom"


def electrostatic_energy(structure: Structure) -> float | None:
    """Ewald energy of a crystal in eV/atom; None without balanced oxidation states."""
    guesses = structure.composition.oxi_state_guesses()
    if not guesses:
        return None
    structure.add_oxidation_state_by_element(guesses[0])
    return float(EwaldSummation(structure).total_energy) / len(structure)


def main(source: Path, target: Path) -> None:
    """Copy the pairs with the new column; pairs of one target share the value."""
    known: dict[str, float | None] = {}
    changes = []
    records = [*read_records(source, PairRecord)]
    with gzip.open(target, "wt") as lines:
        for record in track(records, description=source.name, disable=not sys.stderr.isatty()):
            if record.target not in known:
                known[record.target] = energy = electrostatic_energy(record.structure("relaxed"))
                before = electrostatic_energy(record.structure("unrelaxed"))
                if energy is not None and before is not None:
                    changes.append(abs(before - energy))
            lines.write(json.dumps({**record.model_dump(), COLUMN: known[record.target]}) + "\n")
    print(f"{target}: {len(changes)} of {len(known)} targets have a value")
    if changes:
        print(f"Mean difference between unrelaxed and relaxed crystal: {sum(changes) / len(changes):.2f} eV/atom")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
