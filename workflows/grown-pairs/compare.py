"""Relax validation pairs with three interatomic potentials and write RESULTS.md.

Example: python workflows/grown-pairs/compare.py DATA_DIR

DATA_DIR holds mp_pairs_val.jsonl.gz. The script needs `pip install sevenn` beside the extra `chgnet`. Each relaxation
is a line of results.jsonl in runs/grown-pairs (or --runs). Stop it at any time: the same command continues.
"""

from __future__ import annotations

import argparse
import json
import random
import time
import warnings
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from potentials import POTENTIALS
from report import write_results

from cryslator_flows.counting import count_steps
from cryslator_flows.engines.by_name import build_relax_maker
from cryslator_flows.training.evaluate import first_of_each_target
from cryslator_flows.training.records import PairRecord, read_records
from cryslator_flows.training.structure_match import compare
from cryslator_flows.translator.translator import Translator

COPIED = "input copied"


def score(method: str, record: PairRecord, predicted: Any, **spent: Any) -> dict[str, Any]:
    """Row of one method on one pair."""
    unrelaxed, relaxed = record.structure("unrelaxed"), record.structure("relaxed")
    volume, shift, _, strict, _ = compare(unrelaxed, predicted, relaxed)
    row = {"method": method, "target": record.target, "formula": record.reduced_formula, "atoms": len(record.species)}
    return {**row, "volume_error": volume, "displacement": shift, "strict_match": strict, **spent}


def relax(name: str, record: PairRecord) -> dict[str, Any]:
    """Relax the unrelaxed crystal of a pair with one potential, and compare with its relaxed crystal."""
    maker = build_relax_maker(*POTENTIALS[name])
    begin = time.process_time()
    assert maker.calculator is not None  # atomate2 loads it on the first access and keeps it
    loaded = time.process_time()
    with TemporaryDirectory() as scratch, chdir(scratch):
        document = type(maker).make.original(maker, record.structure("unrelaxed"))
    seconds = time.process_time() - loaded
    cost = count_steps(document)
    spent = {"load_seconds": loaded - begin, "steps": cost.ionic_steps, "converged": cost.converged}
    return score(name, record, document.structure, seconds=seconds, **spent)


def translate(translator: Translator, record: PairRecord) -> dict[str, Any]:
    """Translate the unrelaxed crystal of a pair, and compare with its relaxed crystal."""
    begin = time.process_time()
    translation = translator.translate(record.structure("unrelaxed"))
    seconds = time.process_time() - begin
    return score(translator.name, record, translation.structure, seconds=seconds)


def main() -> None:
    """Relax what is left, crystal by crystal with all methods, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of mp_pairs_val.jsonl.gz")
    parser.add_argument("--runs", type=Path, default=Path("runs/grown-pairs"))
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    file = arguments.runs / "results.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    records = first_of_each_target(read_records(arguments.data / "mp_pairs_val.jsonl.gz", PairRecord))
    random.Random(arguments.seed).shuffle(records)
    drawn = records[: arguments.pairs]
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    done = {(row["method"], row["target"]) for row in rows}
    translator = Translator.from_pretrained()
    # The first use of each library is not measured.
    translate(translator, drawn[0])
    for name in POTENTIALS:
        relax(name, drawn[0])
    for record in drawn:
        for method in (COPIED, translator.name, *POTENTIALS):
            if (method, record.target) in done:
                continue
            if method == COPIED:
                row = score(method, record, record.structure("unrelaxed"))
            elif method in POTENTIALS:
                row = relax(method, record)
            else:
                row = translate(translator, record)
            rows.append(row)
            with file.open("a") as lines:
                lines.write(json.dumps(row) + "\n")
            print(row, flush=True)
        write_results(file)


if __name__ == "__main__":
    main()
