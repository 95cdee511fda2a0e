"""Name the structure types of the library by pymatgen's prototype matcher.

Example: python workflows/prototypes/name_types.py cryslator_flows/crystals/prototype_names.json

The names are minerals or Strukturbericht symbols of the AFLOW library (M. J. Mehl et al., Comput. Mater. Sci. 136,
S1-S828, 2017) as shipped with pymatgen. A type keeps its space group number where the matcher finds no name or two.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections import defaultdict
from pathlib import Path

import pandas as pd
from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY, PrototypeDatabaseMatcher
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from rich.progress import track

from cryslator_flows.crystals.prototypes import prototypes


def main() -> None:
    """Write a JSON object of identifier to name."""
    warnings.simplefilter("ignore")
    by_kind = defaultdict(list)
    for entry in AFLOW_PROTOTYPE_LIBRARY:
        structure = entry["snl"].structure
        number = SpacegroupAnalyzer(structure, 0.01).get_space_group_number()
        by_kind[structure.composition.anonymized_formula, number].append(entry)
    matchers = {kind: PrototypeDatabaseMatcher(pd.DataFrame(entries)) for kind, entries in by_kind.items()}
    names = {}
    for item in track(prototypes(), "Naming"):
        structure = item.structure
        matcher = matchers.get((structure.composition.anonymized_formula, item.row["space_group"]))
        found = (matcher.get_prototypes(structure) or []) if matcher is not None else []
        if len(found) == 1:
            tags = found[0]["tags"]
            named = [tags[key] for key in ("mineral", "strukturbericht") if tags.get(key) not in (None, "None", "")]
            if named:
                names[item.material_id] = named[0].replace("$", "").replace("\\", "")
    Path(sys.argv[1]).write_text(json.dumps(names, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
