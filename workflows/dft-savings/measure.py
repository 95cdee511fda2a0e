"""Measure what each start of some candidates costs with DFT, and write a row for each relaxation.

Examples, one for each protocol, and protocol 1 again with another model:

    python workflows/dft-savings/measure.py --runs runs/dft-savings --processes 2
    python workflows/dft-savings/measure.py --candidates workflows/dft-savings/candidates-2.jsonl \
        --runs runs/dft-savings-2 --results workflows/dft-savings/results-2.jsonl
    python workflows/dft-savings/measure.py --starts translated --reference workflows/dft-savings/results.jsonl \
        --runs runs/dft-savings-1-again --results workflows/dft-savings/results-1-again.jsonl

The same command resumes a stopped measurement. A candidate with rows in the results is not run again, nor is a
relaxation that ended. A relaxation that was cut off is run again from its beginning, and counts once.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

os.environ["OMP_NUM_THREADS"] = "1"

import spglib
from jobflow import Flow, JobStore
from monty.serialization import dumpfn, loadfn
from pydantic import BaseModel
from pymatgen.core import Structure
from rich.progress import Progress
from trial_corrector import TrialCorrectorCG

from cryslator_flows.analysis.same_minimum import compare_ends
from cryslator_flows.api import Campaign
from cryslator_flows.counting import count_steps
from cryslator_flows.crystals.enumeration import Enumeration
from cryslator_flows.crystals.symmetry import SYMPREC
from cryslator_flows.documents.candidates import Candidate, Translation
from cryslator_flows.documents.relaxations import STARTS, Relaxation, RelaxationComparison, RelaxationCost
from cryslator_flows.engines.gpaw import LOG
from cryslator_flows.errors import CountingError
from cryslator_flows.flows.relaxation_comparison import RelaxationComparisonFlowMaker
from cryslator_flows.running.local.job_loop import LocalRun
from cryslator_flows.system.sqlite_store import SQLiteStore
from cryslator_flows.system.whole_files import write_whole
from cryslator_flows.training.records import read_lines
from cryslator_flows.translator.translator import Translator

HERE = Path(__file__).parent
STRUCTURES = "structures.json.gz"
OPTIMIZERS = {"BFGS": "BFGS", "CG": TrialCorrectorCG}
Document = TypeVar("Document", bound=BaseModel)


@dataclass(frozen=True)
class Run:
    """The relaxations of one candidate from some starts, with one optimizer.

    Parameters
    ----------
    candidate : Candidate
        The candidate.
    starts : tuple of str
        The starts.
    optimizer : str
        A key of `OPTIMIZERS`.
    settings : dict
        Arguments of the relax maker for this candidate.
    about : dict
        Columns of the rows that the candidate was drawn with.
    """

    candidate: Candidate
    starts: tuple[Any, ...]
    optimizer: str
    settings: dict[str, Any]
    about: dict[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        """Identity of the run among the rows."""
        return self.candidate.candidate_id, self.optimizer

    def folder(self, runs: Path) -> Path:
        """Return the folder of the run."""
        folder = runs / f"{self.candidate.reduced_formula}-{self.candidate.candidate_id}"
        return folder if self.optimizer == "BFGS" else folder / self.optimizer

    def maker(self, campaign: Campaign) -> RelaxationComparisonFlowMaker:
        """Return the campaign's maker with the settings of this run."""
        maker = campaign.relaxation.comparison_maker()
        settings = {**self.settings, "optimizer_kwargs": {"optimizer": OPTIMIZERS[self.optimizer]}}
        return replace(maker, relax_maker=replace(maker.relax_maker, **settings))


def enumerate_candidates(campaign: Campaign) -> list[Candidate]:
    """Candidates in the order they are measured, smallest cells first."""
    enumeration = Enumeration(
        (template for source in campaign.templates for template in source.load()),
        campaign.substitutions,
        charge_balanced=campaign.enumeration.charge_balanced,
        rescale_volume=campaign.enumeration.rescale_volume,
    )
    return sorted(enumeration, key=lambda item: (len(item.structure), item.candidate_id))


def read_drawn(path: Path) -> list[Run]:
    """Return the runs of drawn candidates: all with BFGS in the order of the file, then the others."""
    runs = []
    for _, line in read_lines(path):
        candidate = Candidate.model_validate(line["candidate"])
        for optimizer, starts in line["runs"].items():
            settings = {"kspacing": line["kspacing"]}
            runs.append(Run(candidate, tuple(starts), optimizer, settings, {"space": line["space"]}))
    return sorted(runs, key=lambda run: run.optimizer)


def translate(runs: list[Run], model: str) -> dict[str, tuple[Translation, float]]:
    """Return the translation of each candidate and the time it took in s."""
    translator = Translator.from_pretrained(model)
    found = {}
    for candidate in {run.candidate.candidate_id: run.candidate for run in runs}.values():
        started = time.perf_counter()
        translation = translator.translate(candidate.structure)
        found[candidate.candidate_id] = translation, time.perf_counter() - started
    return found


def reference_ends(results: Path) -> dict[str, Relaxation]:
    """Return the ends from the unrelaxed start of an earlier measurement, by candidate."""
    structures = {item["candidate_id"]: item["relaxed"] for item in loadfn(structures_file(results))}
    return {
        row["candidate_id"]: Relaxation(
            start="unrelaxed",
            job_uuids=[],
            structure=structures[row["candidate_id"]],
            energy_per_atom=row["energy_per_atom"],
            cost=RelaxationCost(engine=row["engine"], converged=row["converged"]),
        )
        for _, row in read_lines(results)
        if row["start"] == "unrelaxed" and row["candidate_id"] in structures
    }


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
        "potential_steps": item.prerelaxation.ionic_steps if item.prerelaxation else None,
        "potential_converged": item.prerelaxation.converged if item.prerelaxation else None,
        "potential_seconds": item.prerelaxation.wall_time if item.prerelaxation else None,
        "error": item.error,
    }


def measure(
    campaign: Campaign, run: Run, translation: Translation, folder: Path, reference: Relaxation | None
) -> list[dict[str, Any]]:
    """Run the relaxations of one run; `reference` is the end from an unrelaxed start that is not among its starts."""
    finished = folder / "rows.json"
    if not finished.exists():
        flow = run.maker(campaign).make(run.candidate, translation, run.starts, campaign.name)
        comparison = run_flow(flow, folder, RelaxationComparison)
        dumpfn(comparison, folder / "comparison.json")
        if reference is not None:
            endings = compare_ends([reference, *comparison.relaxations], campaign.relaxation.energy_tolerance)
            comparison = comparison.model_copy(update={"endings": endings})
        write_whole(finished, json.dumps([row(comparison, item, folder) for item in comparison.relaxations]))
    rows: list[dict[str, Any]] = json.loads(finished.read_text())
    return rows


def structures_file(results: Path) -> Path:
    """Return the file of structures beside a file of results: structures-2.json.gz for results-2.jsonl."""
    return results.with_name(results.name.removesuffix(".jsonl").replace("results", "structures") + ".json.gz")


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
    if known:
        dumpfn([known[name] for name in sorted(known)], path)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaign", type=Path, default=HERE / "campaign.yaml")
    parser.add_argument("--candidates", type=Path, help="candidates that draw.py wrote; those of the campaign without")
    parser.add_argument("--starts", nargs="+", choices=STARTS, help="only these starts of the campaign's candidates")
    parser.add_argument("--reference", type=Path, help="earlier results, whose ends from the unrelaxed start count")
    parser.add_argument("--runs", type=Path, default=Path("runs/dft-savings"), help="folder of the runs")
    parser.add_argument("--results", type=Path, help="file of the rows; RUNS/results.jsonl if left out")
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    campaign = Campaign.from_file(arguments.campaign)
    if arguments.candidates:
        todo = read_drawn(arguments.candidates)
    else:
        starts = tuple(arguments.starts or campaign.relaxation.starts)
        todo = [Run(candidate, starts, "BFGS", {}, {}) for candidate in enumerate_candidates(campaign)]
    ends = reference_ends(arguments.reference) if arguments.reference else {}
    translations = translate(todo, campaign.model)
    runs = arguments.runs.absolute()
    results = arguments.results or runs / "results.jsonl"
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _, line in read_lines(results) if results.exists() else ():
        now = translations[line["candidate_id"]][0].model_version
        if line["translation"]["model_version"] != now:
            before = line["translation"]["model_version"]
            parser.error(f"{results}: its rows are of model version {before}, not {now}; give other RUNS and RESULTS")
        rows.setdefault((line["candidate_id"], line["optimizer"]), []).append(line)
    with ProcessPoolExecutor(arguments.processes) as pool, Progress() as progress:
        bar = progress.add_task("candidates", total=len(todo), completed=sum(run.key in rows for run in todo))
        waiting = {}
        for run in todo:
            if run.key in rows:
                continue
            translation, _ = translations[run.candidate.candidate_id]
            folder = run.folder(runs)
            folder.mkdir(parents=True, exist_ok=True)
            dumpfn(run.candidate, folder / "candidate.json")
            dumpfn(translation, folder / "translation.json")
            end = ends.get(run.candidate.candidate_id)
            waiting[pool.submit(measure, campaign, run, translation, folder, end)] = run
        for done in as_completed(waiting):
            run = waiting[done]
            translation, seconds = translations[run.candidate.candidate_id]
            about = {
                **run.about,
                "optimizer": run.optimizer,
                "translation_seconds": seconds,
                "translation": translation.model_dump(exclude={"candidate_id", "structure"}),
            }
            rows[run.key] = [{**line, **about} for line in done.result()]
            ordered = [line for one in todo for line in rows.get(one.key, [])]
            write_whole(results, "".join(json.dumps(line) + "\n" for line in ordered))
            progress.update(bar, advance=1)
    write_structures(structures_file(results), runs)


if __name__ == "__main__":
    main()
