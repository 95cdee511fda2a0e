"""Print the tables of what potentials.py measured.

Example: python workflows/test-set/tables.py runs/test-set/mp_pairs_val-CHGNet-translated.jsonl

The first table compares the translator with the potential. The second shows the distance from the relaxed structure by
the translator's 90 % half widths. A distance is sqrt((2 A * strain)^2 + displacement^2), with the strain of volume and
shape.
"""

from __future__ import annotations

import argparse
import json
from math import hypot, sqrt
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from cryslator_flows.documents.candidates import BOND
from cryslator_flows.system.console import markdown_table

PARTS = 6
Row = dict[str, Any]


def distance(found: Row) -> float:
    """Return the distance of a structure from the relaxed one, in angstrom."""
    strain = hypot(found["shape"], found["volume"] / sqrt(3))
    return hypot(BOND * strain, found["displacement"])


def compared(rows: list[Row]) -> str:
    """Return errors and cost of both methods on the crystals that the potential relaxed."""
    table = []
    for method in ("translated", "potential"):
        found = [row[method] for row in rows]
        energies = [
            abs(row[method]["formation_energy_per_atom"] - row["formation_energy_per_atom"])
            for row in rows
            if row["potential"]["formation_energy_per_atom"] is not None
        ]
        table.append([
            method,
            f"{mean(energies):.3f}" if energies else "",
            f"{mean(item['volume'] for item in found):.2%}",
            f"{median(item['displacement'] for item in found):.3f}",
            f"{mean(item['strict'] for item in found):.1%}",
            f"{mean(item['seconds'] for item in found):.3g}",
            f"{mean(item['steps'] for item in found):.1f}" if method == "potential" else "",
        ])  # fmt: skip
    header = ["", "MAE (eV/atom)", "volume error", "displacement, median (A)", "strict", "seconds", "ionic steps"]
    return markdown_table(header, table)


def by_width(rows: list[Row]) -> str:
    """Return the distances of both methods by the half width of the translated structure."""
    widths = [hypot(BOND * row["translated"]["widths"][1], row["translated"]["widths"][2]) for row in rows]
    table = []
    for part in np.array_split(np.argsort(widths, kind="stable"), min(PARTS, len(rows))):
        some = [rows[index] for index in part]
        apart = [[distance(row[method]) for row in some] for method in ("translated", "potential")]
        logs = [np.log((after + 1e-3) / (before + 1e-3)) for before, after in zip(*apart, strict=True)]
        table.append([
            f"{widths[part[0]]:.3f} to {widths[part[-1]]:.3f}",
            str(len(part)),
            *(f"{mean(values):.3f}" for values in apart),
            f"{np.exp(mean(logs)):.2f}",
            *(f"{mean(row[method]['strict'] for row in some):.0%}" for method in ("translated", "potential")),
        ])  # fmt: skip
    header = ["90 % half width (A)", "crystals", "translated (A)", "potential (A)", "ratio, geometric mean",
              "strict, translated", "strict, potential"]  # fmt: skip
    return markdown_table(header, table)


def main() -> None:
    """Print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="file that potentials.py wrote")
    rows = [json.loads(line) for line in parser.parse_args().rows.read_text().splitlines()]
    relaxed = [row for row in rows if row["potential"]["error"] is None]
    print(f"{len(relaxed)} of {len(rows)} crystals were relaxed.\n\n{compared(relaxed)}")
    if all(row["translated"]["widths"][0] is not None for row in relaxed):
        print(f"\n{by_width(relaxed)}")


if __name__ == "__main__":
    main()
