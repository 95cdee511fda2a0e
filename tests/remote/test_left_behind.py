"""A test run that is interrupted leaves no process behind: no database, no runner, no job."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT
from tests.support.guard import marked
from tests.support.waiting import wait_for
from tests.support.warm import VARIABLE

WAITS = "CRYSLATOR_TEST_WAITS"


def run_in(folder):
    """Processes that have their current directory in a folder."""
    processes = psutil.process_iter(["cwd"])
    return [process for process in processes if Path(process.info["cwd"] or "/").is_relative_to(folder)]


def heed_interrupts():
    """Take back that shells let commands in the background ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_runs_after_an_interrupt(warm_commands, tmp_path, number):
    waits, folder = tmp_path / "waits", tmp_path / "run"
    environment = os.environ | {VARIABLE: str(warm_commands.folder), WAITS: str(waits)}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", ROOT / "tests/remote/left_behind.py"]
    process = subprocess.Popen([*command, "--basetemp", folder], cwd=ROOT, env=environment, preexec_fn=heed_interrupts)
    try:
        wait_for(lambda: waits.exists() or process.poll() is not None, 300)
        names = {each.name() for each in marked(WAITS, str(waits))}
        assert "supervisord" in names, names
        assert any(name.startswith("warm:") for name in [each.name() for each in run_in(folder)])
        process.send_signal(number)
        process.wait(120)
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not marked(WAITS, str(waits)) and not run_in(folder), 60)
