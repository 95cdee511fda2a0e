"""Grow training pairs from AFLOW prototypes with an interatomic potential.

Example: python workflows/grown-pairs/grow.py DATA_DIR

Each pass draws a few charge-balanced substitutions for each prototype of up to 20 atoms, see draw.py, and relaxes them
through PairsFlowMaker. No formula of a validation or test pair in DATA_DIR is grown, nor is a prototype of one used.
Stop the script at any time: the same command continues. `--export` writes the pairs so far, for training only.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from draw import MAX_ATOMS, Draw, held_out_formulas, prototypes
from jobflow import Flow
from potentials import POTENTIALS

from cryslator_flows.crystals.source_files import STORE_FILE
from cryslator_flows.crystals.substitution import ExplicitMaps
from cryslator_flows.crystals.templates import AflowTemplates
from cryslator_flows.engines.by_name import build_relax_maker
from cryslator_flows.flows.pairs_flow import PairsFlowMaker
from cryslator_flows.jobs.collect_pairs import CollectPairsMaker
from cryslator_flows.jobs.grow_pairs import GrowPairsMaker
from cryslator_flows.pairs.raw import Dropped
from cryslator_flows.pairs.sources.grown import grown_pairs
from cryslator_flows.running.local.folder import open_job_store, sole_owner
from cryslator_flows.running.local.job_loop import Happening, LocalRun
from cryslator_flows.running.local.journal import JobRow
from cryslator_flows.system.sqlite_store import SQLiteStore
from cryslator_flows.system.whole_files import whole_file, write_whole

if TYPE_CHECKING:
    from jobflow import Job

    from cryslator_flows.documents.candidates import Template

POTENTIAL = "CHGNet"
NAME = "grown"
PER_TEMPLATE = 4
INTERMEDIATES = 3
STEPS = 150
SPENT = "spent.jsonl"


def template_flow(template: Template, maps: list[dict[str, str]], rescale_volume: bool) -> Flow:
    """Flow that relaxes substitutions of one prototype and keeps ionic steps."""
    maker, kwargs = POTENTIALS[POTENTIAL]
    kept = {"ionic_step_data": ("energy", "mol_or_struct"), "steps": STEPS}
    flow_maker = PairsFlowMaker(
        name=NAME,
        relax_maker=build_relax_maker(maker, {**kwargs, **kept}),
        intermediates=INTERMEDIATES,
        grow_maker=GrowPairsMaker(rescale_volume=rescale_volume),
    )
    composition = template.structure.composition
    source = AflowTemplates(
        prototypes=[template.template_id.partition(":")[2]],
        anonymous_formulas=[composition.anonymized_formula],
        elements=[element.symbol for element in composition.element_composition],
        n_elements=len(composition.elements),
        max_atoms=MAX_ATOMS,
    )
    return flow_maker.make([source], [ExplicitMaps(kind="maps", maps=maps)])


def make_pass(number: int, templates: list[Template], draw: Draw) -> Flow:
    """Flow of one pass over all prototypes; cells are scaled to predicted volumes in every other pass."""
    rescale_volume = number % 2 == 0
    order = draw.generator.sample(templates, len(templates))
    drawn = [(template, draw.maps(template, PER_TEMPLATE, rescale_volume)) for template in order]
    flows = [template_flow(template, maps, rescale_volume) for template, maps in drawn if maps]
    return Flow(flows, name=f"{NAME}, pass {number}")


def grow(data: Path, folder: Path, passes: int, seed: int) -> None:
    """Run all passes, or what is left of them."""
    held_out = held_out_formulas(data)
    draw = Draw(held_out, random.Random(seed))
    templates = prototypes(held_out)
    print(f"{len(templates)} prototypes, {len(held_out)} formulas held out", flush=True)
    store = open_job_store(folder)
    last = [time.time(), time.process_time()]

    def report(happening: Happening, job: Job | JobRow) -> None:
        """Write the seconds that each chunk took."""
        if happening == "failed":
            print("failed:", job.name, flush=True)
        if happening == "done" and job.name.startswith(CollectPairsMaker.name):
            now = [time.time(), time.process_time()]
            row = {"seconds": now[0] - last[0], "cpu_seconds": now[1] - last[1]}
            last[:] = now
            with (folder / SPENT).open("a") as lines:
                lines.write(json.dumps(row) + "\n")

    with sole_owner(folder):
        store.connect()
        for number in range(passes):
            flow = make_pass(number, templates, draw)
            journal = SQLiteStore(str(folder / STORE_FILE), f"journal_{number}", indexed=("entry",), key="entry")
            journal.connect()
            if not journal.count({"entry": "finished"}):
                print(f"pass {number}: {len(flow.jobs)} prototypes", flush=True)
                LocalRun(store, journal, folder / "jobs", report).run(flow)
                journal.update({"entry": "finished"}, key="entry")
            journal.close()
        store.close()


def export(data: Path, folder: Path, seed: int) -> dict[str, Any]:
    """Write the pairs so far, and count them; the files bear the seed of the draw."""
    held_out = held_out_formulas(data)
    store = open_job_store(folder)
    store.connect()
    dropped: Counter[str] = Counter()
    targets: set[str] = set()
    formulas: set[str] = set()
    pairs = 0
    with (
        whole_file(folder / f"grown_pairs_train-{seed}.jsonl.gz") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as lines,
    ):
        for record in grown_pairs(store, NAME):
            if isinstance(record, Dropped):
                dropped[record.reason] += 1
            elif {record.reduced_formula, (record.model_extra or {})["template_formula"]} & held_out:
                dropped["a formula of validation or test"] += 1
            else:
                pairs += 1
                targets.add(record.target)
                formulas.add(record.reduced_formula)
                row = {**record.model_dump(exclude_none=True), "split": "train"}
                lines.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")
    store.close()
    spent = [json.loads(line) for line in (folder / SPENT).read_text().splitlines()]
    counts = {
        "potential": POTENTIAL,
        "targets": len(targets),
        "formulas": len(formulas),
        "intermediates": pairs - len(targets),
        "dropped": dict(dropped.most_common()),
        "hours": sum(row["seconds"] for row in spent) / 3600,
        "cpu_hours": sum(row["cpu_seconds"] for row in spent) / 3600,
    }
    write_whole(folder / f"counts-{seed}.json", json.dumps(counts, indent=2) + "\n")
    return counts


def main() -> None:
    """Grow or export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the pairs whose validation and test formulas are left out")
    parser.add_argument("--runs", type=Path, default=Path("runs/grown-pairs/growth"), help="a folder for each seed")
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", action="store_true", help="write the pairs so far instead")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder = arguments.runs.absolute()
    if arguments.export:
        print(json.dumps(export(arguments.data, folder, arguments.seed), indent=2))
    else:
        grow(arguments.data, folder, arguments.passes, arguments.seed)


if __name__ == "__main__":
    main()
