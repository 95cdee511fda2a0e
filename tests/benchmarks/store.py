"""Which embedded store? SQLiteStore beside maggma's own: time per document, and what a kill -9 leaves.

Run ``python tests/benchmarks/store.py [documents]``; ``pip install montydb`` first to have MontyStore in the table.
Every document is written by an update of its own, as jobflow does, then all are looked up one by one. maggma's stores
are timed on a tenth of the documents: their time per document grows with the number stored, which flatters them. For
the last column a writer of 200 kB documents is killed 30 times; shown are documents found again of those whose update
had returned, or how often the store could not be opened any more.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from maggma.stores import JSONStore
from maggma.stores.mongolike import MontyStore
from rich.console import Console
from rich.table import Table

from cryslator_flows.system.sqlite_store import SQLiteStore

if TYPE_CHECKING:
    from maggma.core import Store

DOCUMENT = {"name": "relax", "output": {"steps": list(range(200)), "text": "x" * 2000}}
KILLS = 30


def make(kind: str, folder: Path) -> Store:
    """Make a store of a kind in a folder."""
    if kind == "SQLiteStore":
        return SQLiteStore(str(folder / "a.sqlite"), key="uuid")
    if kind == "JSONStore":
        return JSONStore(str(folder / "a.json"), read_only=False, key="uuid")
    return MontyStore("a", database_path=str(folder / "monty"), key="uuid")


def measure(kind: str, documents: int) -> list[str]:
    """Milliseconds to write a document, to find one, and to open the store again."""
    with tempfile.TemporaryDirectory() as folder:
        store = make(kind, Path(folder))
        store.connect()
        began = time.perf_counter()
        for number in range(documents):
            store.update({**DOCUMENT, "uuid": str(number), "index": 1}, key=["uuid", "index"])
        written = time.perf_counter()
        for number in range(documents):
            assert store.query_one({"uuid": str(number), "index": 1})["name"] == "relax"
        found = time.perf_counter()
        again = make(kind, Path(folder))
        again.connect()
        assert again.count() == documents
        opened = time.perf_counter()
    times = (written - began) / documents, (found - written) / documents, opened - found
    return [f"{1000 * value:.2f}" for value in times]


def survive(kind: str, rng: np.random.Generator) -> str:
    """Kill writers and count what is left."""
    acknowledged = kept = broken = 0
    for _ in range(KILLS):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "write", kind, folder]
            writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            writer.stdout.readline()
            time.sleep(rng.uniform(0.02, 0.5))
            writer.kill()
            # The first line was read, and documents are numbered from 0.
            count = 1 + len(writer.stdout.readlines())
            acknowledged += count
            store = make(kind, Path(folder))
            try:
                store.connect()
                kept += store.count({"uuid": {"$in": [str(number) for number in range(count)]}})
            except Exception:
                broken += 1
    return f"{kept} of {acknowledged}, {broken} of {KILLS} unreadable"


def write(kind: str, folder: Path) -> None:
    """Write until killed."""
    store = make(kind, folder)
    store.connect()
    for number in range(10**9):
        store.update({"uuid": str(number), "fill": "x" * 200_000})
        print(number, flush=True)


def main(documents: int) -> None:
    """Measure and print."""
    table = Table(title="Embedded stores, milliseconds")
    for name in ("store", "documents", "write one", "find one", "open", "found after kill -9"):
        table.add_column(name, justify="left" if name == "store" else "right")
    rng = np.random.default_rng(0)
    for kind, count in (
        ("SQLiteStore", documents), ("SQLiteStore", documents // 10), ("JSONStore", documents // 10),
        ("MontyStore", documents // 10),
    ):  # fmt: skip
        try:
            times = measure(kind, count)
        except (ImportError, RuntimeError):
            print("MontyStore: pip install montydb to measure it as well")
            continue
        table.add_row(kind, str(count), *times, "" if count == documents else survive(kind, rng))
    Console(width=110).print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        write(sys.argv[2], Path(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
