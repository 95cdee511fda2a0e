"""Write the templates of the pool and the energies of the elements by the engine; see README.md beside this file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from ase.build import bulk
from ase.data import atomic_numbers, reference_states
from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from cryslator_flows.crystals.substitution import substitute, template_elements

HERE = Path(__file__).parent
MOST_ATOMS = 10
ANIONS = ("O", "S")
ANION = "S"
FORMULA_TYPES = ("ABC3", "AB2C4")
# alpha-S in AFLOW's library; the metals are in ASE's table of reference states.
SULFUR = "A_oF128_70_4h"


def templates() -> list[dict[str, Any]]:
    """AFLOW's ternary oxides and sulfides of small cells as sulfides, named by their prototype."""
    rows = []
    for entry in AFLOW_PROTOTYPE_LIBRARY:
        structure: Structure = entry["snl"].structure
        names = template_elements(structure)
        anonymous = structure.composition.anonymized_formula
        if len(structure) > MOST_ATOMS or names[-1] not in ANIONS or anonymous not in FORMULA_TYPES:
            continue
        prototype = f"{structure.composition.reduced_formula}:{entry['tags']['aflow']}"
        sulfide = substitute(structure, {name: name for name in names[:-1]} | {names[-1]: ANION})
        rows.append({"id": prototype, **sulfide.as_dict()})
    return rows


def element_structure(symbol: str) -> Structure:
    """Return the crystal of an element that its energy is taken from, before it is relaxed."""
    if symbol == ANION:
        (found,) = (entry for entry in AFLOW_PROTOTYPE_LIBRARY if entry["tags"]["aflow"] == SULFUR)
        return found["snl"].structure.get_primitive_structure()
    assert reference_states[atomic_numbers[symbol]] is not None
    return AseAtomsAdaptor.get_structure(bulk(symbol))


def element_energies(symbols: list[str]) -> dict[str, float]:
    """Energy of each element relaxed by CHGNet, in eV/atom."""
    from chgnet.model import StructOptimizer

    optimizer = StructOptimizer(optimizer_class="BFGS", use_device="cpu")
    energies = {}
    for symbol in symbols:
        structure = element_structure(symbol)
        found = optimizer.relax(structure, fmax=0.05, steps=500, verbose=False)
        energies[symbol] = round(float(found["trajectory"].energies[-1]) / len(structure), 5)
        print(symbol, len(structure), energies[symbol], len(found["trajectory"].energies))
    return energies


def main() -> None:
    """Write ``templates.jsonl`` and ``elements.json``."""
    rows = templates()
    (HERE / "templates.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(len(rows), "templates")
    campaign = yaml.safe_load((HERE / "pool.yaml").read_text())
    pools = campaign["substitutions"][0]["cations"]
    symbols = sorted({symbol for pool in pools for symbol in pool} | {ANION})
    (HERE / "elements.json").write_text(json.dumps(element_energies(symbols), indent=2) + "\n")


if __name__ == "__main__":
    main()
