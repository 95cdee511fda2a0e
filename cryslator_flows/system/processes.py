"""Worker processes, which end with the process that started them."""

from __future__ import annotations

import os
import time
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from loky import cpu_count, get_reusable_executor
from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from loky.process_executor import ProcessPoolExecutor

Task = TypeVar("Task")
Result = TypeVar("Result")

LOOK_SECONDS = 0.5
IDLE_SECONDS = 60.0


def start_processes(count: int) -> ProcessPoolExecutor:
    """Return an executor of `count` processes. The same count returns the same executor.

    The processes end after a minute without work. They also end when this process ends, even if it was killed.
    """
    executor = get_reusable_executor(count, timeout=IDLE_SECONDS, initializer=_end_with, initargs=(os.getpid(),))
    # loky misses the death of a process in the task that started it after a rest: that task would never end.
    executor.submit(int)
    return executor


def run_elsewhere(work: Callable[[Task], Result], tasks: Sequence[Task], most: int) -> Iterator[Result]:
    """Run a function on each task in other processes and yield the results in order.

    Parameters
    ----------
    work : callable
        A function that other processes can import by name. It runs in this process if there is one processor or
        task, or if a worker was killed.
    tasks : sequence
        The tasks.
    most : int
        Largest number of processes.

    Yields
    ------
    Result
        One for each task.
    """
    count = min(cpu_count(), most, len(tasks))
    if count < 2:
        yield from map(work, tasks)
        return
    processes = start_processes(count)
    ahead = [processes.submit(work, task) for task in tasks]
    try:
        for task, waiting in zip(tasks, ahead, strict=True):
            try:
                result = waiting.result()
            except BrokenProcessPool:
                # A worker was killed, most likely for lack of memory. This process continues alone.
                result = work(task)
            yield result
    finally:
        for waiting in ahead:
            waiting.cancel()


class ProcessKilledError(Exception):
    """Error about a process that was killed before it returned a result."""


def run_apart(work: Callable[[Task], Result], task: Task) -> Result:
    """Run a function in a separate process, so that its crash does not end this process.

    Parameters
    ----------
    work : callable
        A function that the other process can import by name.
    task : Task
        Argument of the function.

    Raises
    ------
    ProcessKilledError
        The process was killed.
    """
    processes = start_processes(1)
    try:
        return processes.submit(work, task).result()
    except BrokenProcessPool as error:
        raise ProcessKilledError(str(error)) from error
    except KeyboardInterrupt:
        processes.shutdown(kill_workers=True)
        raise


def one_thread() -> AbstractContextManager[object]:
    """Limit numerical libraries to one thread in the calling thread: permanently, or within a ``with``."""
    import torch

    torch.get_num_threads()  # torch sets the number itself at the first call in a thread
    return _thread_pools().limit(limits=1, user_api="openmp")


@cache
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()


def _end_with(parent: int) -> None:
    Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)
