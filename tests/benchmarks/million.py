"""Time and peak memory of enumerating, translating and selecting, as the number of candidates grows.

Example: python tests/benchmarks/million.py --candidates 10000 100000 1000000 --translate 2000 10000

Every stage of every size runs in a process of its own, so that the peak of its resident memory is its own; the stages
are the jobs of a campaign, called as a manager calls them. Candidates are quaternary oxides from AFLOW prototypes of
up to 20 atoms, charge-balanced and without equivalents. Translation runs for the sizes given by ``--translate`` and is
extrapolated to a million from the largest. Selection at large sizes is measured on candidates that were enumerated but
not translated: cells are those of the templates and energies drawn at random, which changes what is selected, not what
selecting costs. The picks of the best k and those below a hull are timed apart.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from monty.json import MontyEncoder
from pymatgen.core import Element
from rich.console import Console
from rich.table import Table

from cryslator_flows.crystals.enumeration import Enumeration, in_chunks
from cryslator_flows.crystals.packing import PackedCandidates, Shortlist, TranslatedCandidates
from cryslator_flows.crystals.substitution import RolePools
from cryslator_flows.crystals.templates import AflowTemplates
from cryslator_flows.jobs.enumerate import PARTS_PER_JOB, EnumerateMaker
from cryslator_flows.jobs.gather import GatherMaker
from cryslator_flows.jobs.selection import Cuts
from cryslator_flows.jobs.translate import TranslateMaker
from cryslator_flows.schemas import Translation, TranslationStats

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryslator_flows.crystals.candidates import CandidateRow

CHUNK = EnumerateMaker().chunk_size
METALS = [Element.from_Z(number).symbol for number in (3, 4, *range(11, 14), *range(19, 33), *range(37, 52))]
TEMPLATES = AflowTemplates(elements=["O"], n_elements=4, max_atoms=20)
SPACE = RolePools(kind="roles", cations=[METALS] * 3)
CUTS = {"best 1,000": Cuts(top_k=1000), "0.02 eV/atom above the hull": Cuts(max_energy_above_hull=0.02, top_k=1000)}


def rows(number: int) -> Iterator[CandidateRow]:
    """The first candidates of the space."""
    for index, row in enumerate(Enumeration(TEMPLATES.load(), [SPACE]).rows()):
        if index == number:
            return
        yield row


def enumerate_candidates(number: int, folder: Path) -> dict[str, Any]:
    """Enumerate, drop equivalents, pack into translation jobs and write these as a manager does."""
    chunks = in_chunks(rows(number), CHUNK)
    jobs = [TranslateMaker().make(PackedCandidates.pack(chunk), CUTS["best 1,000"]) for chunk in chunks]
    n_bytes = len(json.dumps(jobs, cls=MontyEncoder))
    packed = [job.function_args[0].model_dump_json() for job in jobs]
    (folder / f"{number}.jsonl").write_text("\n".join(packed))
    return {"jobs": len(jobs), "bytes": n_bytes / number}


def packed_chunks(number: int, folder: Path) -> Iterator[PackedCandidates]:
    """What `enumerate_candidates` wrote, chunk by chunk."""
    with (folder / f"{number}.jsonl").open() as lines:
        for line in lines:
            yield PackedCandidates.model_validate_json(line)


def translate(number: int, folder: Path) -> dict[str, Any]:
    """Translate with the released model, chunk by chunk, and write the documents."""
    n_bytes = 0
    for packed in packed_chunks(number, folder):
        document = TranslateMaker.make.original(TranslateMaker(), packed, CUTS["best 1,000"])
        n_bytes += len(document.translated.columns)
    return {"bytes": n_bytes / number}


def pretend(packed: PackedCandidates, seed: int) -> TranslatedCandidates:
    """Candidates with energies drawn at random in place of translations."""
    energies = np.random.default_rng(seed).normal(-2.5, 0.4, packed.n_candidates)
    made = []
    for candidate, energy in zip(packed.candidates(), energies, strict=True):
        translation = Translation(
            candidate_id=candidate.candidate_id, structure=candidate.structure, formation_energy_per_atom=energy,
            formation_energy_uncertainty=0.1, formation_energy_uncertainty_90=0.2, mean_displacement=0.1,
            volume_change=0.1, max_principal_strain=0.1, atoms_too_close=False, unknown_elements=[],
            domain_distance=0.5, out_of_domain=False, model_name="random", model_version="0",
        )  # fmt: skip
        made.append((candidate.reduced_formula, translation))
    return TranslatedCandidates.add(packed, range(len(made)), made)


def prepare(number: int, folder: Path) -> dict[str, Any]:
    """Write the chunks that selection reads; not a stage of a campaign."""
    with (folder / f"{number}-translated.jsonl").open("w") as lines:
        for seed, packed in enumerate(packed_chunks(number, folder)):
            lines.write(pretend(packed, seed).model_dump_json() + "\n")
    return {}


def select(number: int, folder: Path, cuts: Cuts) -> dict[str, Any]:
    """Shortlist each chunk, gather the shortlists, select: job by job, each reading what it needs and no more."""
    stats = TranslationStats(n_translated=CHUNK)
    parts: list[Path] = []
    with (folder / f"{number}-translated.jsonl").open() as lines:
        for index, line in enumerate(lines):
            shortlist = cuts.shortlist(TranslatedCandidates.model_validate_json(line))
            parts.append(folder / f"part-{index}.json")
            parts[-1].write_text(Shortlist(shortlist=shortlist, stats=stats).model_dump_json())
    level = 0
    while len(parts) > PARTS_PER_JOB:
        level += 1
        gathered = []
        for index, group in enumerate(in_chunks(parts, PARTS_PER_JOB)):
            documents = [Shortlist.model_validate_json(path.read_text()) for path in group]
            gathered.append(folder / f"gather-{level}-{index}.json")
            gathered[-1].write_text(GatherMaker.make.original(GatherMaker(), documents, cuts).model_dump_json())
        parts = gathered
    shortlists = [Shortlist.model_validate_json(path.read_text()).shortlist for path in parts]
    joined = TranslatedCandidates.join(shortlists)
    return {"shortlisted": joined.n_candidates, "selected": cuts.select(joined).n_candidates}


def _measure(queue: Any, stage: Any, arguments: tuple[Any, ...]) -> None:
    began = perf_counter()
    result = stage(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    queue.put({**result, "seconds": perf_counter() - began, "peak": peak})


def measure(stage: Any, *arguments: Any) -> dict[str, Any]:
    """Seconds and peak resident memory in MiB of a stage in a fresh process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_measure, args=(queue, stage, arguments))
    process.start()
    result = queue.get()
    process.join()
    return dict(result)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--translate", type=int, nargs="+", default=[2_000, 10_000])
    arguments = parser.parse_args()
    table = Table("stage", "candidates", "s", "ms each", "peak MiB", "")
    for column in table.columns[1:5]:
        column.justify = "right"
    console = Console()
    folder = Path(tempfile.mkdtemp())
    slowest = 0.0

    def add(stage: str, number: int, result: dict[str, Any]) -> None:
        remark = ", ".join(f"{value:,.0f} {name}" for name, value in result.items() if name not in {"seconds", "peak"})
        seconds, peak = result["seconds"], result["peak"]
        each = 1000 * seconds / number
        console.print(f"{stage}, {number:,}: {seconds:.1f} s, {each:.3f} ms each, peak {peak:.0f} MiB; {remark}")
        table.add_row(stage, f"{number:,}", f"{seconds:.1f}", f"{each:.3f}", f"{peak:.0f}", remark)

    try:
        for number in sorted({*arguments.candidates, *arguments.translate}):
            add("enumerate", number, measure(enumerate_candidates, number, folder))
            if number in arguments.translate:
                result = measure(translate, number, folder)
                slowest = result["seconds"] / number
                add("translate", number, result)
            if number in arguments.candidates:
                measure(prepare, number, folder)
                for name, cuts in CUTS.items():
                    add(f"select, {name}", number, measure(select, number, folder, cuts))
    finally:
        shutil.rmtree(folder)
    console.print(table)
    if slowest:
        console.print(
            f"Translation of a million, extrapolated from the largest size translated: {slowest * 1e6 / 3600:.1f} h "
            "for one process like this one; chunks are jobs of their own, so n workers take one n-th of it."
        )


if __name__ == "__main__":
    main()
