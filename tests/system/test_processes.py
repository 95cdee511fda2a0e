"""Other processes, and what becomes of them."""

import os
import select
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import pytest

from cryslator_flows.system import processes
from cryslator_flows.system.processes import ProcessKilledError, run_apart, run_elsewhere
from tests.support.waiting import wait_for

PARENT = """
import os
from cryslator_flows.system.processes import start_processes
start_processes(1)
print(start_processes(1).submit(os.getpid).result(), flush=True)
start_processes(1).submit(input)
input()
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux alone")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_process_that_started_them(how):
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    worker = os.pidfd_open(int(parent.stdout.readline()))
    parent.send_signal(how)
    assert parent.wait() == -how
    ended, *_ = select.select([worker], [], [], 60)
    assert ended == [worker]


def end_unless(pid):
    """End every process but one."""
    if os.getpid() != pid:
        os.kill(os.getpid(), signal.SIGKILL)
    return pid


def test_results_are_in_order_and_a_killed_process_is_made_up_for(monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")
    assert list(run_elsewhere(abs, [-3, -1, -2], 2)) == [3, 1, 2]
    assert list(run_elsewhere(end_unless, [os.getpid()] * 3, 2)) == [os.getpid()] * 3


def test_a_process_dies_alone():
    with pytest.raises(ProcessKilledError):
        run_apart(end_unless, os.getpid())
    with pytest.raises(TypeError, match="bad operand"):
        run_apart(abs, "text")
    assert run_apart(abs, -3) == 3


def test_a_death_is_noticed_after_a_rest(monkeypatch):
    """Processes without work end. The next task starts a process, and kills it."""
    monkeypatch.setattr(processes, "IDLE_SECONDS", 0.5)
    executor = processes.start_processes(1)
    executor.submit(int).result()
    wait_for(lambda: not executor._processes, 60)
    with pytest.raises(BrokenProcessPool):
        processes.start_processes(1).submit(os._exit, 1).result(timeout=60)
