"""Pairs of isostructural crystals from a file of relaxed ones: seconds, pairs, memory by number of crystals.

Example: python tests/benchmarks/isostructural.py mp_relaxed.jsonl.gz --crystals 1000 10000

Each number of lines is drawn from the file at random, the same ones every time, and given to `cryslator pairs
isostructural` in a process of its own. With `--output` the folders are kept, and what is unfinished in them continues.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from time import perf_counter, sleep

import psutil
from rich.console import Console
from rich.table import Table

COMMAND = "from cryslator_flows.cli.main import main; main()"


def draw_lines(source: Path, number: int, path: Path) -> int:
    """Write some lines of a source, drawn at random; all if there are no more."""
    with gzip.open(source) if source.suffix == ".gz" else source.open("rb") as lines:
        rows = lines.readlines()
    chosen = sorted(random.Random(0).sample(range(len(rows)), min(number, len(rows))))
    path.write_bytes(b"".join(rows[row] for row in chosen))
    return len(chosen)


class Watch(Thread):
    """The most memory that a process, and it with its children, have taken so far, in MiB, and their seconds of CPU.

    Parameters
    ----------
    process : int
        Its identifier.
    """

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self.process = psutil.Process(process)
        self.alone = self.together = 0.0
        self.seconds: dict[int, float] = {}

    def run(self) -> None:
        """Look five times a second, until the process has ended."""
        while True:
            try:
                alone = self.process.memory_info().rss / 2**20
                children = self.process.children(recursive=True)
            except psutil.NoSuchProcess:
                return
            together = alone
            for process in (self.process, *children):
                with suppress(psutil.NoSuchProcess), process.oneshot():
                    self.seconds[process.pid] = sum(process.cpu_times()[:2])
                    together += process.memory_info().rss / 2**20 if process is not self.process else 0
            self.alone, self.together = max(self.alone, alone), max(self.together, together)
            sleep(0.2)


def measure(source: Path, folder: Path, max_per_target: int) -> dict[str, float]:
    """Run the command; return its figures, and print why others are no pairs."""
    began = perf_counter()
    arguments = ["pairs", "isostructural", str(source), "-o", str(folder), "--max-per-target", str(max_per_target)]
    process = subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], stdout=subprocess.DEVNULL)
    watch = Watch(process.pid)
    watch.start()
    if process.wait():
        raise SystemExit(f"the command ended with exit code {process.returncode}")
    seconds = perf_counter() - began
    summary = json.loads((folder / "pairs.json").read_text())
    for reason, number in summary["dropped"].items():
        Console().print(f"  {number} {reason}")
    targets = sum(part["targets"] for part in summary["files"].values())
    return {
        "seconds": seconds,
        "pairs": summary["kept"],
        "targets": targets,
        "pairs a target": summary["kept"] / targets,
        "CPU seconds": sum(watch.seconds.values()),
        "MiB, first process": watch.alone,
        "MiB, all": watch.together,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="lines of relaxed crystals")
    parser.add_argument("--crystals", type=int, nargs="+", default=[1000, 10_000], help="how many of them")
    parser.add_argument("--max-per-target", type=int, default=4)
    parser.add_argument("--output", type=Path, help="folder to keep the pairs in")
    arguments = parser.parse_args()
    columns = (
        "crystals",
        "seconds",
        "CPU seconds",
        "CPU ms each",
        "pairs",
        "targets",
        "a target",
        "MiB, first",
        "MiB, all",
    )
    table = Table(*columns)
    with TemporaryDirectory() as temporary:
        base = arguments.output or Path(temporary)
        base.mkdir(parents=True, exist_ok=True)
        for wanted in arguments.crystals:
            source = base / f"crystals-{wanted}.jsonl"
            if not source.exists():
                draw_lines(arguments.source, wanted, source)
            with source.open("rb") as lines:
                number = sum(1 for _ in lines)
            Console().print(f"{number} crystals")
            found = measure(source, base / f"pairs-{wanted}", arguments.max_per_target)
            Console().print("  " + ", ".join(f"{name}: {value:.4g}" for name, value in found.items()))
            table.add_row(
                str(number),
                f"{found['seconds']:.0f}",
                f"{found['CPU seconds']:.0f}",
                f"{1000 * found['CPU seconds'] / number:.0f}",
                *(f"{found[name]:.0f}" for name in ("pairs", "targets")),
                f"{found['pairs a target']:.2f}",
                *(f"{found[name]:.0f}" for name in ("MiB, first process", "MiB, all")),
            )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
