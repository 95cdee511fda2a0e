"""Time and peak memory of enumerating, translating and selecting, as the number of candidates grows.

Example: python tests/benchmarks/million.py --metals 18 38 78 --translate 2000 10000
         python tests/benchmarks/million.py --metals 60 --any-charges --translate

Every stage of every size runs in a process of its own, so that the peak of its resident memory is its own; the stages
are the jobs of a campaign, called as a manager calls them. Candidates are made from all quaternary AFLOW prototypes of
up to 40 atoms, without equivalents and, but for ``--any-charges``, charge-balanced; the sizes are numbers of metals
that take the places of the three cations in every order. Translation runs for the numbers of candidates given by
``--translate``, of the smallest size, and is extrapolated to a million, on a GPU where PyTorch sees one. Time inside
the network is told apart: the rest stays on the processor whatever the network runs on, so that, without a GPU, it is
what a million costs at least with one. Selection is measured on candidates that were
enumerated but not translated: energies, cells and positions are drawn at random, which changes what is selected, not
what selecting costs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from monty.itertools import chunks
from monty.json import MontyDecoder, MontyEncoder
from pymatgen.core import Element
from rich.console import Console
from rich.table import Table

from cryslator_flows.crystals.candidate_rows import substituted_formula
from cryslator_flows.crystals.columns import encode_columns, n_moves
from cryslator_flows.crystals.enumeration import Enumeration
from cryslator_flows.crystals.packing import (
    FLAGS,
    NUMBERS,
    OPTIONAL_NUMBERS,
    PackedCandidates,
    Shortlist,
    TranslatedCandidates,
)
from cryslator_flows.crystals.substitution import RolePools
from cryslator_flows.crystals.templates import AflowTemplates
from cryslator_flows.documents.candidates import TranslationStats
from cryslator_flows.jobs.enumerate import PARTS_PER_JOB, EnumerateMaker
from cryslator_flows.jobs.gather import GatherMaker
from cryslator_flows.jobs.translate_chunk import TranslateChunkMaker
from cryslator_flows.screening.cuts import Cuts

CHUNK = EnumerateMaker().chunk_size
METALS = [element.symbol for number in range(1, 104) if (element := Element.from_Z(number)).is_metal]
TEMPLATES = AflowTemplates(n_elements=4, max_atoms=40)
CUTS = {"best 1,000": Cuts(top_k=1000), "0.02 eV/atom above the hull": Cuts(max_energy_above_hull=0.02, top_k=1000)}


def write(document: Any) -> str:
    """A document as managers write it."""
    return json.dumps(document, cls=MontyEncoder)


def read(text: str) -> Any:
    """A document as jobs get it."""
    return json.loads(text, cls=MontyDecoder)


def enumerate_candidates(n_metals: int, charge_balanced: bool, folder: Path) -> dict[str, Any]:
    """Enumerate, drop equivalents, pack into translation jobs and write these as a manager does."""
    space = RolePools(kind="roles", cations=[METALS[:n_metals]] * 3)
    enumeration = Enumeration(TEMPLATES.load(), [space], charge_balanced)
    jobs = [TranslateChunkMaker().make(packed, CUTS["best 1,000"]) for packed in enumeration.chunks(CHUNK)]
    n_bytes = len(write(jobs))
    with (folder / "packed.jsonl").open("w") as lines:
        for job in jobs:
            lines.write(write(job.function_args[0]) + "\n")
    number = enumeration.counts.unique
    return {"candidates": number, "jobs": len(jobs), "bytes each in jobs": n_bytes / number}


def translate(number: int, folder: Path) -> dict[str, Any]:
    """Translate with the released model, chunk by chunk, as many jobs do, on one core."""
    import torch

    from cryslator_flows.translator.loaded import LoadedModel

    torch.set_num_threads(1)
    os.environ["LOKY_MAX_CPU_COUNT"] = "1"
    predict, inside = LoadedModel.predict, 0.0

    def timed(*arguments: Any) -> Any:
        nonlocal inside
        began = perf_counter()
        outcome = predict(*arguments)
        outcome.distance.cpu()  # waits for a GPU
        inside += perf_counter() - began
        return outcome

    LoadedModel.predict = timed  # type: ignore[method-assign]
    n_bytes = done = 0
    with (folder / "packed.jsonl").open() as lines:
        for line in lines:
            if done >= number:
                break
            document = TranslateChunkMaker.make.original(TranslateChunkMaker(), read(line), CUTS["best 1,000"])
            n_bytes += len(write(document))
            done += document.stats.n_translated + document.stats.n_rejected
    return {
        "candidates": done,
        "bytes each in documents": n_bytes / done,
        "ms each in the network": 1000 * inside / done,
    }


def pretend(packed: PackedCandidates, seed: int) -> TranslatedCandidates:
    """Candidates with energies drawn at random in place of translations."""
    number = packed.n_candidates
    rng = np.random.default_rng(seed)
    arrays = packed.arrays()
    structures = [read(text).structure for text in packed.template_texts().values()]
    mappings = [dict(zip(*[iter(str(text).split())] * 2, strict=True)) for text in arrays["symbols"]]
    formulas = [
        substituted_formula(structures[template].composition.get_el_amt_dict(), mapping).text
        for template, mapping in zip(arrays["template"], mappings, strict=True)
    ]
    arrays |= {name: rng.random(number) for name in (*NUMBERS, *OPTIONAL_NUMBERS)}
    arrays |= {name: np.zeros(number, bool) for name in FLAGS}
    arrays["formation_energy_per_atom"] = rng.normal(-2.5, 0.4, number)
    arrays["candidate_id"] = np.array([rng.bytes(8).hex() for _ in range(number)])
    arrays["formula"] = np.array(formulas)
    arrays |= {name: np.full(number, "random") for name in ("model_name", "model_version")}
    arrays["unknown_elements"] = np.full(number, "")
    arrays["domain_reason"] = np.full(number, "")
    arrays["n_atoms"] = np.array([len(structures[template]) for template in arrays["template"]])
    arrays["moves"] = rng.integers(-(2**27), 2**27, n_moves(arrays["n_atoms"]).sum())
    return TranslatedCandidates(**packed.model_dump(exclude={"columns"}), columns=encode_columns(arrays))


def prepare(folder: Path) -> dict[str, Any]:
    """Write the chunks that selection reads; not a stage of a campaign."""
    with (folder / "packed.jsonl").open() as packed, (folder / "translated.jsonl").open("w") as lines:
        for seed, line in enumerate(packed):
            lines.write(write(pretend(read(line), seed)) + "\n")
    return {}


def select(cuts: Cuts, folder: Path) -> dict[str, Any]:
    """Shortlist each chunk, gather the shortlists, select: job by job, each reading what it needs and no more."""
    stats = TranslationStats(n_translated=CHUNK)
    parts: list[Path] = []
    number = 0
    with (folder / "translated.jsonl").open() as lines:
        for index, line in enumerate(lines):
            translated = read(line)
            number += translated.n_candidates
            parts.append(folder / f"part-{index}.json")
            parts[-1].write_text(write(Shortlist(shortlist=cuts.shortlist(translated), stats=stats)))
    level = 0
    while len(parts) > PARTS_PER_JOB:
        level += 1
        gathered = []
        for index, group in enumerate(chunks(parts, PARTS_PER_JOB)):
            documents = [read(path.read_text()) for path in group]
            gathered.append(folder / f"gather-{level}-{index}.json")
            gathered[-1].write_text(write(GatherMaker.make.original(GatherMaker(), documents, cuts)))
        parts = gathered
    joined = TranslatedCandidates.join([read(path.read_text()).shortlist for path in parts])
    selected = cuts.select(joined)
    return {"candidates": number, "in the last shortlists": joined.n_candidates, "selected": selected.n_candidates}


def _measure(queue: Any, stage: Any, arguments: tuple[Any, ...]) -> None:
    began = perf_counter()
    result = stage(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    queue.put({**result, "seconds": perf_counter() - began, "peak": peak})


def measure(stage: Any, *arguments: Any) -> dict[str, Any]:
    """Seconds and peak resident memory in MiB of a stage in a fresh process."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=_measure, args=(queue, stage, arguments))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{stage.__name__}: failed, see above")
    return dict(queue.get())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metals", type=int, nargs="+", default=[18, 38, 78], help="sizes, as numbers of metals")
    parser.add_argument("--translate", type=int, nargs="*", default=[2_000, 10_000], help="candidates to translate")
    parser.add_argument("--any-charges", action="store_true", help="keep candidates that no charges balance")
    arguments = parser.parse_args()
    table = Table("stage", "candidates", "s", "ms each", "peak MiB", "")
    for column in table.columns[1:5]:
        column.justify = "right"
    console = Console(width=140)
    folder = Path(tempfile.mkdtemp())

    def add(stage: str, result: dict[str, Any]) -> None:
        number, seconds, peak = (result.pop(name) for name in ("candidates", "seconds", "peak"))
        remark = ", ".join(f"{value:,.0f} {name}" for name, value in result.items())
        row = (stage, f"{number:,}", f"{seconds:.1f}", f"{1000 * seconds / number:.3f}", f"{peak:.0f}", remark)
        console.print(*row, sep="  ")
        table.add_row(*row)

    translated: dict[str, Any] = {}
    try:
        for n_metals in arguments.metals:
            add("enumerate", measure(enumerate_candidates, n_metals, not arguments.any_charges, folder))
            if n_metals == arguments.metals[0]:
                for number in arguments.translate:
                    translated = measure(translate, number, folder)
                    add("translate", dict(translated))
            measure(prepare, folder)
            for name, cuts in CUTS.items():
                add(f"select, {name}", measure(select, cuts, folder))
    finally:
        shutil.rmtree(folder)
    console.print(table)
    if translated:
        console.print(extrapolation(translated))


def extrapolation(translated: dict[str, Any]) -> str:
    """What translating a million candidates costs, from what some cost."""
    import torch

    each = 1000 * translated["seconds"] / translated["candidates"]
    around = each - translated["ms each in the network"]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    words = (
        f"Translation of a million, extrapolated from the last size translated: {each / 3.6:.1f} h for one process "
        f"like this one, on {device or 'one thread'}; chunks are jobs of their own, so n workers take one n-th of it."
    )
    if device is None:
        words += (
            f" With a GPU at least {around / 3.6:.1f} h for a process, if the network took no time there: the other "
            f"{around:.1f} of {each:.1f} ms stay on the processor."
        )
    return words


if __name__ == "__main__":
    main()
