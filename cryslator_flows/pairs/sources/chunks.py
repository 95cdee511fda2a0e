"""Work in chunks on several processes; finished chunks survive a killed process."""

from __future__ import annotations

import json
from collections import deque
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TYPE_CHECKING, Any

from loky import cpu_count

from cryslator_flows.system.processes import Task, start_processes
from cryslator_flows.system.whole_files import whole_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

PairRow = dict[str, Any]

# Each takes about 250 MiB.
MOST_PROCESSES = 16


def in_chunks(
    tasks: Iterable[Task], work: Callable[[Task], Iterable[PairRow]], folder: Path, name: str
) -> Iterator[tuple[Path, Task]]:
    """Run a function on each task, and keep the rows that it returns in a file for each task.

    A file exists whole or not at all. Existing files are not made again.

    Parameters
    ----------
    tasks : iterable
        The tasks, always the same in the same order; a few at a time are in memory.
    work : callable
        Function that returns the rows of a task. Other processes import it by name.
    folder : Path
        Folder of the files, ``NAME-00000000.jsonl`` and so on.
    name : str
        First part of the names of files.

    Yields
    ------
    (Path, task)
        The file of each task, in order, as soon as it exists.
    """
    workers = min(cpu_count(), MOST_PROCESSES)
    ahead: deque[tuple[Path, Task, Future[None] | None]] = deque()
    alone = workers == 1

    def done(path: Path, task: Task, waiting: Future[None] | None) -> tuple[Path, Task]:
        nonlocal alone
        if waiting is not None:
            try:
                waiting.result()
            except BrokenProcessPool:
                # Another process was killed, most likely for lack of memory: this process continues alone.
                alone = True
        if not path.exists():
            _write_rows(path, work, task)
        return path, task

    try:
        for number, task in enumerate(tasks):
            path = folder / f"{name}-{number:08d}.jsonl"
            waiting = None
            if not (alone or path.exists()):
                waiting = start_processes(workers).submit(_write_rows, path, work, task)
            ahead.append((path, task, waiting))
            if len(ahead) > 2 * workers or alone:
                yield done(*ahead.popleft())
        while ahead:
            yield done(*ahead.popleft())
    finally:
        for _, _, waiting in ahead:
            if waiting is not None:
                waiting.cancel()


def in_batches(items: Iterable[Task], size: int) -> Iterator[list[Task]]:
    """Gather items in lists of a size; the last list may be shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def read_rows(path: Path) -> Iterator[tuple[int, PairRow]]:
    """Read the rows of a chunk, each with the byte where it begins."""
    place = 0
    with path.open("rb") as lines:
        for line in lines:
            yield place, json.loads(line)
            place += len(line)


def read_row(path: Path, place: int) -> PairRow:
    """Read the row of a chunk that begins at a byte."""
    with path.open("rb") as lines:
        lines.seek(place)
        return json.loads(lines.readline())


def _write_rows(path: Path, work: Callable[[Task], Iterable[PairRow]], task: Task) -> None:
    with whole_file(path) as file:
        for row in work(task):
            file.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")
