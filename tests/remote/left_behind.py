"""A test that waits until it is interrupted, for tests/remote/test_left_behind.py to start."""

import os
import signal
from pathlib import Path

from jobflow import Flow
from jobflow_remote.jobs.state import JobState

from tests.remote.flows import Gate, work
from tests.support.waiting import wait_for


def test_that_waits(jfr_project, tmp_path):
    Gate(tmp_path).close_for_all()
    jfr_project.start_runner("--single")
    jfr_project.submit(Flow([work(1, str(tmp_path))]))
    wait_for(lambda: jfr_project.jobs("work", JobState.RUNNING), 120)
    wait_for(lambda: list(jfr_project.folder.rglob("queue.out")), 120)
    Path(os.environ["CRYSLATOR_TEST_WAITS"]).touch()
    signal.pause()
