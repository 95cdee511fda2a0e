"""Measure what each start of the candidates in campaign.yaml costs with DFT, and write a row for each run.

Example: python workflows/dft-savings/measure.py --runs runs/dft-savings --processes 2

A stopped measurement goes on where it stopped: a candidate with rows in the results is not run again, nor is a
relaxation that ended. A relaxation that was cut off is run again from its beginning, and counts once.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

os.environ["OMP_NUM_THREADS"] = "1"

import spglib
from jobflow import Flow, JobStore
from monty.serialization import dumpfn, loadfn
from pydantic import BaseModel
from pymatgen.core import Structure
from rich.progress import Progress

from cryslator_flows.api import Campaign
from cryslator_flows.counting import count_steps
from cryslator_flows.crystals.enumeration import Enumeration
from cryslator_flows.crystals.symmetry import SYMPREC
from cryslator_flows.documents.candidates import Candidate, Translation
from cryslator_flows.documents.relaxations import Relaxation, RelaxationComparison
from cryslator_flows.engines.gpaw import LOG
from cryslator_flows.errors import CountingError
from cryslator_flows.running.local.job_loop import LocalRun
from cryslator_flows.system.sqlite_store import SQLiteStore
from cryslator_flows.system.whole_files import write_whole
from cryslator_flows.translator.translator import Translator

HERE = Path(__file__).parent
STRUCTURES = "structures.json.gz"
Document = TypeVar("Document", bound=BaseModel)


def enumerate_candidates(campaign: Campaign) -> list[Candidate]:
    """Candidates in the order they are measured, smallest cells first."""
    enumeration = Enumeration(
        (template for source in campaign.templates for template in source.load()),
        campaign.substitutions,
        charge_balanced=campaign.enumeration.charge_balanced,
        rescale_volume=campaign.enumeration.rescale_volume,
    )
    return sorted(enumeration, key=lambda item: (len(item.structure), item.candidate_id))


def translated_candidates(campaign: Campaign) -> list[tuple[Candidate, Translation, float]]:
    """Candidates with their translations and the time each took in s."""
    translator = Translator.from_pretrained(campaign.model)
    rows = []
    for candidate in enumerate_candidates(campaign):
        started = time.perf_counter()
        translation = translator.translate(candidate.structure)
        rows.append((candidate, translation, time.perf_counter() - started))
    return rows


def run_flow(flow: Flow, folder: Path, output: type[Document]) -> Document:
    """Run a flow in a folder of its own, or what is left of it; returns the output of that kind."""
    path = str(folder / "store.sqlite")
    store = JobStore(SQLiteStore(path, "outputs"), additional_stores={"data": SQLiteStore(path, "data")})
    journal = SQLiteStore(path, "journal", indexed=("entry",), key="entry")
    store.connect()
    journal.connect()
    LocalRun(store, journal, folder / "jobs", lambda *_: None).run(flow)
    document = store.query_one({"output.@class": output.__name__}, load=True)
    return output.model_validate(document["output"])


def space_group(structure: Structure) -> str:
    """International symbol at the tolerance that DFT codes work with."""
    numbers = [species.Z for species in structure.species]
    return str(
        spglib.get_symmetry_dataset((structure.lattice.matrix, structure.frac_coords, numbers), SYMPREC).international
    )


def row(comparison: RelaxationComparison, item: Relaxation, folder: Path) -> dict[str, Any]:
    """One line of the results: a relaxation that failed is counted from the log that it left."""
    cost = item.cost
    if cost is None:
        try:
            cost = count_steps(folder / "jobs" / f"{item.job_uuids[0]}-1" / LOG)
        except CountingError:
            cost = None
    ending = comparison.ending(item.start)
    return {
        "candidate_id": comparison.candidate_id,
        "formula": comparison.reduced_formula,
        "template_id": Path(comparison.template_id).name,
        "start": item.start,
        "engine": "GPAW",
        "electronic_steps": cost.electronic_steps if cost else None,
        "ionic_steps": cost.ionic_steps if cost else None,
        "n_kpoints": cost.n_kpoints if cost else None,
        "converged": bool(item.cost and item.cost.converged),
        "same_minimum": None if ending is None else ending.outcome == "same minimum",
        "outcome": ending.outcome if ending else None,
        "energy_per_atom": item.energy_per_atom,
        "energy_difference": ending.energy_difference if ending else None,
        "volume_per_atom": item.structure.volume / len(item.structure) if item.structure else None,
        "space_group": space_group(item.structure) if item.structure else None,
        "wall_time": cost.wall_time if cost else None,
        "error": item.error,
    }


def measure(campaign: Campaign, candidate: Candidate, translation: Translation, folder: Path) -> list[dict[str, Any]]:
    """All runs of one candidate."""
    finished = folder / "rows.json"
    if not finished.exists():
        maker = campaign.to_maker().select_maker.relax_maker.comparison_maker
        flow = maker.make(candidate, translation, campaign.relaxation.starts, campaign.name)
        comparison = run_flow(flow, folder, RelaxationComparison)
        dumpfn(comparison, folder / "comparison.json")
        write_whole(finished, json.dumps([row(comparison, item, folder) for item in comparison.relaxations]))
    rows: list[dict[str, Any]] = json.loads(finished.read_text())
    return rows


def write_structures(path: Path, runs: Path) -> None:
    """Keep the unrelaxed, the translated and the relaxed structure of each candidate in `runs`, for properties.py.

    The relaxed structure is the end from the unrelaxed start; a candidate without one is left out.
    """
    known = {line["candidate_id"]: line for line in loadfn(path)} if path.exists() else {}
    for file in sorted(runs.glob("*/comparison.json")):
        comparison: RelaxationComparison = loadfn(file)
        relaxation = comparison.relaxation("unrelaxed")
        if relaxation and relaxation.structure and relaxation.cost and relaxation.cost.converged:
            known[comparison.candidate_id] = {
                "candidate_id": comparison.candidate_id,
                "formula": comparison.reduced_formula,
                "unrelaxed": loadfn(file.with_name("candidate.json")).structure,
                "translated": loadfn(file.with_name("translation.json")).structure,
                "relaxed": relaxation.structure,
            }
    dumpfn([known[name] for name in sorted(known)], path)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaign", type=Path, default=HERE / "campaign.yaml")
    parser.add_argument("--runs", type=Path, default=Path("runs/dft-savings"), help="folder of the runs")
    parser.add_argument("--results", type=Path, help="file of the rows; RUNS/results.jsonl if left out")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    campaign = Campaign.from_file(arguments.campaign)
    candidates = translated_candidates(campaign)
    runs = arguments.runs.absolute()
    results = arguments.results or runs / "results.jsonl"
    rows: dict[str, list[dict[str, Any]]] = {}
    for line in results.read_text().splitlines() if results.exists() else []:
        rows.setdefault(json.loads(line)["candidate_id"], []).append(json.loads(line))
    with ProcessPoolExecutor(arguments.processes) as pool, Progress() as progress:
        bar = progress.add_task("candidates", total=len(candidates))
        waiting = {}
        for candidate, translation, seconds in candidates:
            if candidate.candidate_id in rows:
                progress.update(bar, advance=1)
                continue
            folder = runs / f"{candidate.reduced_formula}-{candidate.candidate_id}"
            folder.mkdir(parents=True, exist_ok=True)
            dumpfn(candidate, folder / "candidate.json")
            dumpfn(translation, folder / "translation.json")
            waiting[pool.submit(measure, campaign, candidate, translation, folder)] = candidate, seconds
        for done in as_completed(waiting):
            candidate, seconds = waiting[done]
            rows[candidate.candidate_id] = [{**line, "translation_seconds": seconds} for line in done.result()]
            ordered = [line for one, *_ in candidates for line in rows.get(one.candidate_id, [])]
            write_whole(results, "".join(json.dumps(line) + "\n" for line in ordered))
            progress.update(bar, advance=1)
    write_structures(results.with_name(STRUCTURES), runs)


if __name__ == "__main__":
    main()
