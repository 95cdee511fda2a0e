"""Watching a campaign."""

import signal
import subprocess
from contextlib import contextmanager

import pytest

from cryslator_flows.cli import campaigns as cli_campaigns
from cryslator_flows.running.local.folder import CampaignFolder, sole_owner
from cryslator_flows.running.progress import WatchedProgress
from cryslator_flows.running.status import CampaignStatus
from tests.campaign.test_file import GOOD, write
from tests.running.test_started import start
from tests.support.waiting import wait_for


def look(done, failed, waiting):
    status = CampaignStatus("mine", "here")
    status.counts["relax"].update(done=done, failed=failed, waiting=waiting)
    return status


def test_rate_and_remaining_time_are_those_of_the_watched_time():
    progress = WatchedProgress()
    progress.add(100.0, look(50, 0, 10))
    assert (progress.rate, progress.remaining()) == (None, {"relax": None})
    progress.add(130.0, look(51, 0, 9))
    assert progress.remaining() == {"relax": None}
    progress.add(160.0, look(52, 1, 7))
    assert progress.rate == pytest.approx(3.0)
    assert progress.remaining() == {"relax": pytest.approx(140.0)}
    assert progress.lines()[1] == "relax: about 2 min 20 s to go, of the jobs known so far"
    progress.add(400.0, look(59, 1, 0))
    assert progress.remaining() == {}


@contextmanager
def screening(screen, folder):
    """`cryslator screen` in a process of its own, which has begun."""
    with subprocess.Popen([*screen, "campaign.yaml"], cwd=folder, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: process.poll() is not None or has_begun(CampaignFolder(folder / "runs/mine")), 120, 0.05)
        assert process.poll() is None
        yield process


def has_begun(folder):
    if not (folder.is_running and folder.exists):
        return False
    with folder.opened():
        return folder.content is not None


def test_watch_ends_with_the_campaign_that_another_process_runs(run, screen, tmp_path, monkeypatch):
    start(tmp_path, monkeypatch, "relax", fails_with="Sr")
    with screening(screen, tmp_path) as process:
        code, out, _ = run("status", "mine", "--watch")
        assert process.wait() == 0
    assert code == 0
    assert "jobs per minute" in out
    assert "Stopped" not in out
    assert "RuntimeError: no Sr here" in out
    assert "--rerun-failed" in out


@pytest.mark.slow
def test_watch_ends_when_the_campaign_is_killed(run, screen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kwargs = {"log": str(tmp_path / "log"), "kill_at": 3}
    relaxation = {"relax_elements": False, "maker": "tests.flows.makers.LoggingRelaxMaker", "kwargs": kwargs}
    write(tmp_path, {**GOOD, "selection": {"top_k": 3}, "relaxation": relaxation})
    with screening(screen, tmp_path) as process:
        code, out, _ = run("status", "mine", "--watch")
        assert process.wait() == -signal.SIGKILL
    command = f"cryslator screen CAMPAIGN_FILE --output {tmp_path / 'runs/mine'}"
    stopped = f"Stopped: not finished, and no process runs it. To continue: {command}"
    assert (code, stopped in out) == (0, True)
    assert stopped in run("status", "mine")[1]
    assert run(*command.replace("CAMPAIGN_FILE", "campaign.yaml").split()[1:])[0] == 0
    assert "Stopped" not in run("status", "mine", "--watch")[1]


def test_ctrl_c_ends_watching_only(run, tmp_path, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    folder = start(tmp_path, monkeypatch, "relax")
    monkeypatch.setattr(cli_campaigns, "sleep", interrupt)
    with sole_owner(folder.path):
        code, out, _ = run("status", "mine", "--watch")
    assert (code, "relax: time to go unknown yet" in out) == (0, True)
    assert "Stopped" not in out
