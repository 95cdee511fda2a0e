"""Watching a campaign."""

import os
import subprocess
import sys

import pytest

from cryslator_flows import cli_campaigns
from cryslator_flows.campaign.progress import WatchedProgress
from cryslator_flows.campaign.status import CampaignStatus
from tests.campaign.test_started import start
from tests.conftest import ROOT


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


def test_watch_ends_with_the_campaign_that_another_process_runs(run, tmp_path, monkeypatch):
    start(tmp_path, monkeypatch, "relax", fails_with="Sr")
    command = [sys.executable, "-m", "cryslator_flows.cli", "screen", "campaign.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as process:
        code, out, _ = run("status", "mine", "--watch")
        assert process.wait() == 0
    assert code == 0
    assert "jobs per minute" in out
    assert "RuntimeError: no Sr here" in out
    assert "--rerun-failed" in out


def test_ctrl_c_ends_watching_only(run, tmp_path, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    start(tmp_path, monkeypatch, "relax")
    monkeypatch.setattr(cli_campaigns, "sleep", interrupt)
    code, out, _ = run("status", "mine", "--watch")
    assert (code, "relax: time to go unknown yet" in out) == (0, True)
