"""End whatever a test run leaves behind, however it ends: a process of its own waits for that.

Daemons leave the process group and the parent that started them, but not their environment: it names the run.
"""

from __future__ import annotations

import os
import secrets
import select
import subprocess
import sys
from contextlib import suppress

import psutil

VARIABLE = "CRYSLATOR_TEST_RUN"


def start_guard() -> None:
    """Mark this process's children to come, and start the process that ends them after this one."""
    os.environ[VARIABLE] = secrets.token_hex(8)
    # A session of its own: what interrupts the run must not interrupt the guard.
    subprocess.Popen([sys.executable, __file__, str(os.getpid())], start_new_session=True)


def marked(variable: str, value: str) -> list[psutil.Process]:
    """All other processes that were started with a variable of this value."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(variable) == value:
                found.append(process)
    return found


def main(run: int) -> None:
    """Wait until the process of the run has ended, and kill until nothing is left."""
    with suppress(ProcessLookupError):
        select.select([os.pidfd_open(run)], [], [])
    while left := marked(VARIABLE, os.environ[VARIABLE]):
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
