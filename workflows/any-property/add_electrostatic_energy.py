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
from rich.progress import track

from cryslator_flows.translator.records import PairRecord, read_records

COLUMN = "electrostatic_energy_per_atom"


def electrostatic_energy(record: PairRecord) -> float | None:
    """Ewald energy of the relaxed crystal in eV/atom; None without balanced oxidation states."""
    structure = record.structure("relaxed")
    guesses = structure.composition.oxi_state_guesses()
    if not guesses:
        return None
    structure.add_oxidation_state_by_element(guesses[0])
    return float(EwaldSummation(structure).total_energy) / len(structure)


def main(source: Path, target: Path) -> None:
    """Copy the pairs with the new column; pairs of one target share the value."""
    known: dict[str, float | None] = {}
    records = [*read_records(source, PairRecord)]
    with gzip.open(target, "wt") as lines:
        for record in track(records, description=source.name, disable=not sys.stderr.isatty()):
            if record.target not in known:
                known[record.target] = electrostatic_energy(record)
            lines.write(json.dumps({**record.model_dump(), COLUMN: known[record.target]}) + "\n")
    found = sum(value is not None for value in known.values())
    print(f"{target}: {found} of {len(known)} targets have a value")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
