"""Compare volume, coordinates, band gap, Fermi level and density of states of the starts with the relaxed structure.

Example: python workflows/dft-savings/properties.py --runs runs/dft-savings/properties

Reads structures.json.gz, which measure.py writes, calculates with the settings of campaign.yaml, and writes
properties.jsonl.gz, PROPERTIES.md and properties.png beside it. It goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import gzip
import json
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

# Also sets the number of threads, before numpy is imported.
from measure import HERE, STRUCTURES, run_flow  # isort: skip

from monty.json import MontyEncoder
from monty.serialization import loadfn
from rich.progress import Progress

from cryslator_flows.api import Campaign
from cryslator_flows.documents.properties import PropertyComparison
from cryslator_flows.engines.gpaw_properties import GpawStaticMaker
from cryslator_flows.engines.pinning import pin_kpoints
from cryslator_flows.flows.property_comparison import PropertyComparisonFlowMaker
from cryslator_flows.report.property_tables import plot_properties, properties_markdown


def compare(row: dict[str, Any], settings: dict[str, Any], folder: Path) -> PropertyComparison:
    """Return static calculations of one candidate on the mesh of its unrelaxed cell, and their comparison."""
    static = pin_kpoints(GpawStaticMaker(**settings), row["unrelaxed"])
    structures = {name: row[name] for name in ("unrelaxed", "translated", "relaxed")}
    flow = PropertyComparisonFlowMaker(static_maker=static).make(row["candidate_id"], row["formula"], structures)
    return run_flow(flow, folder / row["candidate_id"], PropertyComparison)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaign", type=Path, default=HERE / "campaign.yaml")
    parser.add_argument("--structures", type=Path, default=HERE / STRUCTURES)
    parser.add_argument("--runs", type=Path, default=Path("runs/dft-savings/properties"), help="folder of the runs")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    relaxation = Campaign.from_file(arguments.campaign).relaxation
    rows = loadfn(arguments.structures)
    target = arguments.structures.with_name("properties.jsonl.gz")
    done: dict[str, PropertyComparison] = {}
    if target.exists():
        with gzip.open(target, "rt") as lines:
            done = {one.candidate_id: one for one in map(PropertyComparison.model_validate_json, lines)}
    with ProcessPoolExecutor(arguments.processes) as pool, Progress() as progress:
        bar = progress.add_task("candidates", total=len(rows), completed=len(done))
        folder = arguments.runs.absolute()
        waiting = [
            pool.submit(compare, row, relaxation.kwargs, folder) for row in rows if row["candidate_id"] not in done
        ]
        for finished in as_completed(waiting):
            comparison = finished.result()
            done[comparison.candidate_id] = comparison
            progress.update(bar, advance=1)
    comparisons = [done[name] for name in sorted(done)]
    with gzip.open(target, "wt") as lines:
        lines.writelines(json.dumps(one, cls=MontyEncoder) + "\n" for one in comparisons)
    page = f"""# Starts and their electrons, compared with the relaxed structure

Made by `python workflows/dft-savings/properties.py`, with the settings of the measurement, see
[PROTOCOL.md](PROTOCOL.md).

{properties_markdown(comparisons)}
![Errors of the unrelaxed and of the translated structures](properties.png)
"""
    target.with_name("PROPERTIES.md").write_text(page)
    plot_properties(target.with_name("properties.png"), comparisons)


if __name__ == "__main__":
    main()
