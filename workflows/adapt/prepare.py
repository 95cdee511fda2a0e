"""Write the templates of the three spaces from the library of structure types; see README.md beside this file."""

from __future__ import annotations

import json
from pathlib import Path

from cryslator_flows.crystals.prototypes import prototypes

HERE = Path(__file__).parent
# Identifiers in the Materials Project.
TEMPLATES = {
    "sulfides": ["mp-9615", "mp-1207212", "mp-676540", "mp-1025314", "mp-676586", "mp-753195"],
    "halides": ["mp-15318", "mp-1206808"],
    "heuslers": ["mp-864734", "mp-30818"],
}


def main() -> None:
    """Write a file of templates for each space."""
    library = {item.material_id: item for item in prototypes()}
    for space, names in TEMPLATES.items():
        found = [library[name] for name in names]
        rows = [{"id": f"{item.formula}:{item.material_id}", **item.structure.as_dict(verbosity=0)} for item in found]
        (HERE / f"{space}-templates.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
