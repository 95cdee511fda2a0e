"""Processor time of what every look, job, resume and template costs, for a thousand and for ten thousand candidates.

Example: python -m tests.benchmarks.linear
         python -m tests.benchmarks.linear --sizes 100 1000 --only watch ledger

Each row is measured in a process of its own, in seconds of the processor: a look of ``status --watch`` after one more
job of a campaign folder; counting a candidate's start from the ledger; opening a campaign folder and reading its
journal to resume; telling templates of one stoichiometry apart; the numbers of the feature map. Run it from two
checkouts to compare versions: what a version lacks is left out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.core import Lattice, Structure
from rich.console import Console
from rich.table import Table

from tests.benchmarks.million import measure

if TYPE_CHECKING:
    from collections.abc import Callable

WAVE, JOBS = 50, 5


def uuid(number: int) -> str:
    """Return a uuid, the same one each time."""
    return f"{number:08x}-0000-4000-8000-{number:012x}"


def journal_rows(candidates: int) -> list[dict[str, Any]]:
    """Return the journal of a campaign whose waves have all ended."""
    rows: list[dict[str, Any]] = []
    for wave in range(-(-candidates // WAVE)):
        made = []
        for candidate in range(wave * WAVE, min(candidates, (wave + 1) * WAVE)):
            for job in range(JOBS):
                about = {
                    "stage": "relax" if job < JOBS - 1 else "compare",
                    "campaign": "c",
                    "candidate_id": str(candidate),
                }
                made.append({"uuid": uuid(1 + candidate * JOBS + job), "name": "relax", "index": 1, "metadata": about})
                rows.append(entry(made[-1]["uuid"], len(rows), str(candidate), []))
        rows.append(entry(uuid(2**31 + wave), len(rows), None, [made]))
    first = [
        {"uuid": uuid(2**31 + wave), "name": "wave", "index": 1, "metadata": {"stage": "select"}} for wave in range(9)
    ]
    return [*rows, {"entry": "flow", "jobs": first}, {"entry": "campaign", "content": json.dumps({"name": "c"})}]


def entry(name: str, number: int, candidate: str | None, flows: list[Any]) -> dict[str, Any]:
    """Return the journal's entry of a job that is done."""
    about = {"entry": f"{name}:1", "uuid": name, "number": number, "candidate_id": candidate, "state": "done"}
    return {**about, "deaths": 0, "flows": flows, "stop_children": False, "reason": "", "traceback": ""}


def folder_of(candidates: int, path: str) -> Any:
    """Make a campaign folder with a journal."""
    from cryslator_flows.running.local.folder import CampaignFolder

    folder = CampaignFolder(path)
    folder.job_store.connect()
    folder.journal.connect()
    folder.journal.update(journal_rows(candidates), key="entry")
    return folder


def watch(candidates: int) -> dict[str, float]:
    """Look at a campaign folder each time one of its jobs has ended."""
    from cryslator_flows.running.started import StartedCampaign

    with tempfile.TemporaryDirectory() as path:
        folder = folder_of(candidates, path)
        started = StartedCampaign("c", Path(path), folder)
        began = process_time()
        started.status()
        first = process_time() - began
        spent = []
        for number in range(3):
            folder.journal.update(entry(uuid(1 + number), 1, str(number), []), key="entry")
            began = process_time()
            started.status()
            spent.append(process_time() - began)
    return {"watch: the first look, s": first, "watch: each later look, s": min(spent)}


def resume(candidates: int) -> dict[str, float]:
    """Open a campaign folder, a tenth of whose jobs left a folder, and read what a run needs to continue."""
    from cryslator_flows.running.local.folder import CampaignFolder
    from cryslator_flows.running.local.journal import Journal

    with tempfile.TemporaryDirectory() as path:
        folder = folder_of(candidates, path)
        for number in range(0, candidates * JOBS, 10):
            (Path(path) / "jobs" / f"{uuid(1 + number)}-1").mkdir(parents=True)
        folder.job_store.close()
        folder.journal.close()
        began = process_time()
        with CampaignFolder(path).opened() as opened:
            opened.journal.count({"state": "done"})
            Journal(opened.journal).entries()
        spent = process_time() - began
    return {"resume: open, look for what is lost, read the journal, s": spent}


def ledger(candidates: int) -> dict[str, float]:
    """Count 20 starts of a campaign from its ledger."""
    from cryslator_flows.counting.ledger import LedgerEntry, append_entry, ledger_cost
    from cryslator_flows.documents.relaxations import RelaxationCost

    cost = RelaxationCost(engine="VASP", electronic_steps=[10] * 20, ionic_steps=20, attempts=1)
    with tempfile.TemporaryDirectory() as path:
        for number in range(candidates):
            for line in range(8):
                start = ("unrelaxed", "translated")[line % 2]
                about = {"campaign": "c", "candidate_id": f"{number:016x}", "start": start, "directory": "/scratch/x"}
                run = LedgerEntry(run_id=f"{number}-{line % 2}", time=datetime.now(UTC), ended=True, cost=cost, **about)
                append_entry(Path(path) / "ledger", run)
        began = process_time()
        for number in range(20):
            ledger_cost(Path(path) / "ledger", "c", f"{number:016x}", "translated")
        each = (process_time() - began) / 20
    return {"ledger: each candidate and start, s": each, "ledger: all of them, s": 2 * candidates * each}


def structures(number: int) -> list[Structure]:
    """Return structures of one stoichiometry in cells of 5 to 20 atoms, no two alike."""
    rng = np.random.default_rng(0)
    found = []
    for index in range(number):
        formulas = 1 + index % 4
        lattice = Lattice.from_parameters(*rng.uniform(4, 7, 3), *rng.uniform(70, 110, 3))
        lattice = Lattice(lattice.matrix * (60 * formulas / lattice.volume) ** (1 / 3))
        species = ["Ca"] * formulas + ["Ti"] * formulas + ["O"] * (3 * formulas)
        found.append(Structure(lattice, species, rng.random((5 * formulas, 3))))
    return found


def templates(number: int) -> dict[str, float]:
    """Tell a hundredth as many templates apart, with two elements in the places of the cations in both orders."""
    from pymatgen.core.structure_matcher import StructureMatcher

    from cryslator_flows.crystals.enumeration import Enumeration
    from cryslator_flows.crystals.substitution import RolePools
    from cryslator_flows.documents.candidates import Template

    asked, fit = 0, StructureMatcher.fit

    def counted(*arguments: Any, **options: Any) -> bool:
        nonlocal asked
        asked += 1
        return fit(*arguments, **options)

    StructureMatcher.fit = counted  # type: ignore[method-assign]
    made = [Template(template_id=str(row), structure=item) for row, item in enumerate(structures(number // 100))]
    began = process_time()
    kept = sum(1 for _ in Enumeration(made, [RolePools(kind="roles", cations=[["Mn"], ["Sr"]])]).rows())
    spent = process_time() - began
    return {
        "templates, a hundredth as many: s": spent,
        "templates: StructureMatcher asked": asked,
        "templates: kept": kept,
    }


def feature_map(targets: int) -> dict[str, float]:
    """Draw the map of so many targets."""
    from cryslator_flows.training.feature_map import draw_feature_map
    from cryslator_flows.training.records import PairRecord
    from cryslator_flows.translator.loaded import LoadedModel
    from cryslator_flows.translator.model_folder import find_model
    from tests.training.test_evaluate import pair

    cell = Structure(Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    records = []
    for number in range(targets):
        relaxed = cell.copy()
        relaxed.scale_lattice(relaxed.volume * (1 + 0.1 * number / targets))
        records.append(PairRecord.model_validate(pair(cell, relaxed, f"t{number}")))
    model = LoadedModel(find_model("cryslator-universal"))
    with tempfile.TemporaryDirectory() as path:
        began = process_time()
        draw_feature_map(model, records, Path(path))
        spent = process_time() - began
    return {"feature map, s": spent}


PARTS: dict[str, Callable[[int], dict[str, float]]] = {
    "watch": watch, "ledger": ledger, "resume": resume, "templates": templates,
    "feature_map": feature_map,
}  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000], help="numbers of candidates")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure")
    arguments = parser.parse_args()
    table = Table("", *(f"{size:,}" for size in arguments.sizes), "peak MiB")
    for part in arguments.only:
        results = [measure(PARTS[part], size) for size in arguments.sizes]
        for name in results[0]:
            if name not in ("seconds", "peak"):
                table.add_row(name, *(f"{result[name]:.4g}" for result in results), f"{results[-1]['peak']:.0f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
