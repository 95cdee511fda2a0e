"""Commands in processes forked from one that has imported the heavy packages: milliseconds instead of seconds.

A job of jobflow-remote works for milliseconds in a Python that imports torch, pymatgen and atomate2 for seconds. Here a
server imports them once (`server.py`) and forks a process for each command, which calls the command's real entry point.
What stands in PATH is a client (`client.py`) that hands over its arguments, environment, folder and open files, passes
signals on, and ends as the process ends. Killing the client kills the process.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COMMANDS = {
    "jf": "tests.support.warm.jf:main",
    "cryslator": "cryslator_flows.cli.main:main",
    "python-script": "tests.support.warm.python:main",
}
HERE = Path(__file__).parent
VARIABLE = "CRYSLATOR_TEST_WARM"


class WarmCommands:
    """A server in a folder, and commands that it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin, self.socket = folder, folder / "bin", folder / "socket"

    @classmethod
    @contextmanager
    def of_the_run(cls) -> Iterator[WarmCommands]:
        """Start a server, or take that of the run that this one is a part of."""
        if outer := os.environ.get(VARIABLE):
            yield cls(Path(outer))
            return
        # A socket must have a short path, which pytest's folders need not have.
        with tempfile.TemporaryDirectory(prefix="warm") as folder:
            commands = cls(Path(folder))
            commands.bin.mkdir()
            for name, entry in COMMANDS.items():
                commands.write(commands.bin / name, entry)
            environment = os.environ | {"PYTHONPATH": python_path()}
            command = [sys.executable, "-m", "tests.support.warm.server"]
            # Clients may connect from now on, and wait until the server has imported everything.
            with socket(AF_UNIX, SOCK_STREAM) as listener:
                listener.bind(str(commands.socket))
                listener.listen(100)
                server = subprocess.Popen(command, stdin=listener, stdout=subprocess.DEVNULL, env=environment)
            yield commands
            kill([*psutil.Process(server.pid).children(), server])

    def write(self, path: Path, entry: str) -> None:
        """Write an executable file that calls an entry point, ``module:function``."""
        words = [sys.executable, "-ISs", HERE / "client.py", self.socket, entry]
        path.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, words))} "$0" "$@"\n')
        path.chmod(0o755)


def python_path() -> str:
    """Where this interpreter finds modules, the package under test among them."""
    return os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """Children of a process, theirs, and so on; what the server runs is a child of the client that stands for it."""
    children: dict[int, list[psutil.Process]] = {}
    for each in psutil.process_iter(["ppid", "name"]):
        parent, _, client = each.info["name"].partition(":")
        children.setdefault(int(client) if parent == "warm" else each.info["ppid"], []).append(each)
    found = [process]
    for each in found:
        found.extend(children.get(each.pid, []))
    return found[1:]


def kill(processes: Sequence[psutil.Process | subprocess.Popen[bytes]]) -> None:
    """kill -9, and wait until they are gone."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)
