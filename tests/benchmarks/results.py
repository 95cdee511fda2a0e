"""Time and memory of ``Campaign.results()`` and of reading chunk by chunk, for campaigns of many candidates.

Example: python -m tests.benchmarks.results --metals 38

Candidates are enumerated as in `tests.benchmarks.million`; energies, cells and positions are drawn at random in place
of translations, which changes what is read, not what reading costs. Each way of reading runs in a process of its own;
memory is the peak of its resident memory beyond what it was before.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from cryslator_flows.crystals.packing import TranslatedChunk
from cryslator_flows.documents.candidates import EnumerationCounts, TranslationStats
from cryslator_flows.results.frames import CampaignFrames
from cryslator_flows.running.local.folder import CampaignFolder
from cryslator_flows.screening.hulls import Competition
from tests.benchmarks.million import enumerate_candidates, measure, prepare, read

MANY, FEW = "many", "few"


def fill(folder: Path, label: str, n_chunks: int | None) -> dict[str, Any]:
    """Write chunks into a campaign folder as their jobs do, all of them if `n_chunks` is None."""
    number = 0
    with CampaignFolder(folder / label).opened() as campaign, (folder / "translated.jsonl").open() as lines:
        campaign.journal.update({"entry": "campaign", "content": json.dumps({"name": label})}, key="entry")
        for index, line in enumerate(islice(lines, n_chunks)):
            translated = read(line)
            number += translated.n_candidates
            chunk = TranslatedChunk(
                shortlist=translated.take([0]),
                translated=translated,
                rejections=[],
                stats=TranslationStats(n_translated=translated.n_candidates),
            )
            _write(campaign, f"translate-{index}", "translate", chunk, {"data": ["translated", "shortlist"]})
        counts = {"counts": EnumerationCounts(enumerated=number, unique=number)}
        _write(campaign, "enumerate", "enumerate", counts, {})
    return {"candidates": number}


def _write(campaign: CampaignFolder, uuid: str, stage: str, output: Any, save: dict[str, list[str]]) -> None:
    row = {"uuid": uuid, "index": 1, "hosts": ["flow"], "metadata": {"campaign": campaign.label, "stage": stage}}
    campaign.job_store.update({**row, "output": output}, key=["uuid", "index"], save=save)


def read_all(folder: Path, label: str) -> tuple[int, float]:
    """All at once, as `Campaign.results` does: number of candidates and size of their table in MiB."""
    with CampaignFolder(folder / label).opened() as campaign:
        candidates = CampaignFrames.read(campaign.results(), Competition({})).candidates
    return len(candidates), candidates.memory_usage(deep=True).sum() / 2**20


def read_chunks(folder: Path, label: str) -> tuple[int, None]:
    """Chunk by chunk, nothing kept."""
    with CampaignFolder(folder / label).opened() as campaign:
        return sum(len(chunk.translated.arrays()["formula"]) for chunk in campaign.results().chunks()), None


def timed(way: Any, folder: Path) -> dict[str, Any]:
    """Read, and see by how much memory grows."""
    way(folder, FEW)  # imports what reading needs
    before = psutil.Process().memory_info().rss
    began = perf_counter()
    number, size = way(folder, MANY)
    seconds = perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 2**10)
    return {"candidates": number, "s": seconds, "grown": (peak - before) / 2**20, "size": size}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metals", type=int, nargs="+", default=[18, 38], help="sizes, as numbers of metals")
    table = Table("read", "candidates", "s", "peak MiB", "kB each", "table MiB", "kB each")
    for n_metals in parser.parse_args().metals:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            measure(enumerate_candidates, n_metals, True, folder)
            measure(prepare, folder)
            measure(fill, folder, FEW, 1)
            measure(fill, folder, MANY, None)
            for title, way in (("results()", read_all), ("chunks()", read_chunks)):
                found = measure(timed, way, folder)
                number = found["candidates"]
                row = [title, f"{number:,}", f"{found['s']:.1f}"]
                for size in (found["grown"], found["size"]):
                    row += ["", ""] if size is None else [f"{size:.0f}", f"{size * 2**20 / 1000 / number:.2f}"]
                table.add_row(*row)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
