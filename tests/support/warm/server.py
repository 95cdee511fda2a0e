"""Import what commands need, then fork a process for each request: ``python -m tests.support.warm.server``.

Standard input is the socket on which clients connect.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import os
import pkgutil
import random
import select
import socket
import sys
import tempfile
import threading
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGKILL, default_int_handler, signal
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from pydantic_settings import BaseSettings
from pymatgen import core
from rich.console import Console

from cryslator_flows.report.page.viewer import atom_styles
from cryslator_flows.report.page.whole_page import packed_libraries
from cryslator_flows.screening.known_phases import known_phases

if TYPE_CHECKING:
    from collections.abc import Callable

# The last takes three seconds, and training imports it.
OTHERS = (
    "tests.support.warm.jf",
    "jobflow_remote.jobs.run",
    "tests.flows.makers",
    "tests.support.fake_vasp.vasp",
    "torch._dynamo",
)
SET_NAME = 15  # of prctl


def preload() -> None:
    """Import every module of the package, with what it needs, and what other commands need."""
    import cryslator_flows

    for module in pkgutil.walk_packages(cryslator_flows.__path__, "cryslator_flows."):
        # An engine need not be installed.
        with suppress(ImportError):
            importlib.import_module(module.name)
    for name in OTHERS:
        importlib.import_module(name)
    # What each process would read or pack anew.
    known_phases([])
    packed_libraries()
    atom_styles([])
    assert len([*Path("/proc/self/task").iterdir()]) == 1, "a thread runs, which forked processes would lack"


@dataclass
class Process:
    """A forked process, its client's connection, and a file descriptor that is readable once it has ended."""

    pid: int
    connection: socket.socket
    end: int

    def hear(self) -> bool:
        """Pass a signal on that the client got, or kill where the client is dead; False after that."""
        try:
            number = self.connection.recv(1)
        except ConnectionError:
            number = b""
        os.kill(self.pid, number[0] if number else SIGKILL)
        return bool(number)

    def bury(self) -> None:
        """Tell the client how the process ended."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        with suppress(OSError):
            self.connection.sendall(code.to_bytes(4, "big", signed=True))
        self.close()

    def close(self) -> None:
        """Forget both files."""
        os.close(self.end)
        self.connection.close()


def serve(listener: socket.socket) -> Callable[[], object]:
    """Serve until killed; return in forked processes alone, with what such a process calls."""
    # Before they are frozen: then the collector leaves them alone, and all processes share their memory.
    lasting = [each for each in gc.get_objects() if issubclass(type(each), BaseSettings | Console)]
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)
    # torch unregisters each of its operators, which takes 0.1 s.
    for finalizer in weakref.finalize._registry:
        finalizer.atexit = False
    running: list[Process] = []
    heard: list[Process] = []
    while True:
        waiting = [listener, *(process.end for process in running), *(process.connection for process in heard)]
        readable = set(select.select(waiting, [], [])[0])
        for process in [*heard]:
            if process.connection in readable and not process.hear():
                heard.remove(process)
        for process in [*running]:
            if process.end in readable:
                running.remove(process)
                heard = [each for each in heard if each is not process]
                process.bury()
        if listener in readable:
            connection, _ = listener.accept()
            request = receive(connection)
            if not (pid := os.fork()):
                listener.close()
                connection.close()
                for process in running:
                    process.close()
                entry = take(request)
                start_afresh(lasting)
                return entry
            for file in request.files:
                os.close(file)
            running.append(Process(pid, connection, os.pidfd_open(pid)))
            heard.append(running[-1])


@dataclass
class Request:
    """What a client hands over."""

    client: bytes
    folder: bytes
    entry: str
    command: list[str]
    environment: list[bytes]
    files: list[int]


def receive(connection: socket.socket) -> Request:
    """Read a request."""
    head, files, *_ = socket.recv_fds(connection, 4, 3)
    size = int.from_bytes(head, "big")
    request = b""
    while len(request) < size:
        request += connection.recv(size - len(request))
    client, folder, count, *rest = request.split(b"\0")
    entry, *command = map(os.fsdecode, rest[: int(count)])
    return Request(client, folder, entry, command, rest[int(count) :], files)


def take(request: Request) -> Callable[[], object]:
    """Become the process that the client asks for; return its entry point."""
    for number, file in enumerate(request.files):
        os.dup2(file, number)
        os.close(file)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        old = getattr(sys, name)
        new = open(old.fileno(), mode, old.line_buffering or -1, old.encoding, old.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    os.setsid()
    # Where it is to be ignored the client ignores it.
    signal(SIGINT, default_int_handler)
    os.chdir(request.folder)
    os.environ.clear()
    os.environb.update(variable.split(b"=", 1) for variable in request.environment)
    ctypes.CDLL(None).prctl(SET_NAME, b"warm:" + request.client, 0, 0, 0)
    sys.argv = request.command
    sys.modules["__main__"].__package__ = None  # else click calls the program "python -m ..."
    sys.path[:0] = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each not in sys.path]
    importlib.invalidate_caches()
    module, _, function = request.entry.partition(":")
    return getattr(importlib.import_module(module), function)


def start_afresh(lasting: list[BaseSettings | Console]) -> None:
    """Do again what libraries do once in a process: look at the environment, draw a seed."""
    tempfile.tempdir = None
    random.seed()
    np.random.seed()  # noqa: NPY002
    core.SETTINGS.clear()
    core.SETTINGS.update(core._load_pmg_settings())
    for each in lasting:
        if isinstance(each, BaseSettings):
            each.__dict__.update(type(each)().__dict__)
        elif os.environ.get("COLUMNS", "").isdigit():
            each.width = int(os.environ["COLUMNS"])


def end(command: Callable[[], object]) -> NoReturn:
    """Call the command and end as the interpreter does, but for the freeing of memory."""
    try:
        sys.exit(command())
    except SystemExit as error:
        code = error.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    preload()
    end(serve(socket.socket(fileno=os.dup(sys.stdin.fileno()))))
