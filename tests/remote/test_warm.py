"""A forked command does what the installed one does."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import wait_for
from tests.support.warm import descendants


@pytest.fixture
def command(warm_commands, tmp_path):
    """Write an executable that runs a script in a forked process."""

    def write(script):
        (tmp_path / "script.py").write_text(script)
        warm_commands.write(tmp_path / "command", "tests.remote.test_warm:run_script")
        return tmp_path / "command"

    return write


def run_script():
    exec(compile(Path(sys.argv[1]).read_text(), sys.argv[1], "exec"), {})


def test_arguments_environment_folder_files_and_exit_code(command, tmp_path):
    executable = command("""
import os, sys
from jobflow_remote import SETTINGS
print(sys.argv[2:], os.environ["WORD"], os.getcwd(), SETTINGS.project, sys.stdin.read())
print("wrong", file=sys.stderr)
sys.exit(7)
""")
    arguments = [executable, tmp_path / "script.py", "a b", "", "ü\udcff"]
    environment = {"WORD": "x=y", "JFREMOTE_PROJECT": "mine", "PATH": os.environ["PATH"]}
    result = subprocess.run(arguments, cwd=tmp_path, env=environment, input=b"in", capture_output=True, check=False)
    expected = f"['a b', '', 'ü\\udcff'] x=y {tmp_path} mine in\n"
    assert (result.returncode, result.stdout.decode(), result.stderr) == (7, expected, b"wrong\n")


def test_an_exception_is_told_and_ends_with_one(command, tmp_path):
    result = subprocess.run([command("1 / 0"), tmp_path / "script.py"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.endswith("ZeroDivisionError: division by zero\n")


WAIT = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
print("here", flush=True)
signal.pause()
"""


@pytest.fixture
def waiting(command, tmp_path):
    """A client and the process that it stands for."""
    with subprocess.Popen([command(WAIT), tmp_path / "script.py"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "here\n"
        (served,) = descendants(psutil.Process(process.pid))
        yield process, served
        process.kill()


def test_signals_get_to_the_process(waiting):
    process, served = waiting
    process.terminate()
    assert process.wait(60) == 5
    assert not served.is_running()


def test_the_process_dies_with_its_client(waiting):
    process, served = waiting
    process.kill()
    wait_for(lambda: not served.is_running(), 60)


def test_a_killed_process_kills_its_client(waiting):
    process, served = waiting
    served.kill()
    assert process.wait(60) == -signal.SIGKILL
