"""A campaign that adapts its translator, from file to files, through a kill -9."""

import json
import signal
import subprocess

import pandas as pd
import pytest

from cryslator_flows.documents.adaptation import Adaptation
from tests.campaign.test_file import GOOD, write


@pytest.mark.slow
def test_a_killed_adaptation_goes_on_where_it_was(screen, tmp_path, tiny_model, run):
    """The structure that was running is relaxed again, nothing else is; then all that people look at."""
    log = tmp_path / "log"
    potential = {
        "maker": "tests.flows.makers.LoggingRelaxMaker",
        "kwargs": {"sigma": 2.2, "steps": 10, "log": str(log), "kill_at": 12},
        "adapt": 50,
        "batch": 4,
        "select": {"top_k": 2},
    }
    settings = {**GOOD, "model": str(tiny_model.path), "potential": potential, "relaxation": None}
    file = write(tmp_path, settings)
    command = [*screen, str(file), "-o", str(tmp_path / "run")]
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == -signal.SIGKILL
    second = subprocess.run(command, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    told = Adaptation.model_validate(json.loads((tmp_path / "run/summary.json").read_text())["adaptation"])
    assert (told.requested, told.engine) == (50, "lennardjones")
    assert told.n_sampled == told.n_train + told.n_held_out + sum(told.dropped.values())
    runs = log.read_text().splitlines()
    assert runs[11] == runs[12]
    tried = json.loads((tmp_path / "run/summary.json").read_text())["potential"]
    assert tried["n_selected"] <= 2
    words = " ".join(second.stdout.split())
    assert f"The translator on {told.n_held_out} of these candidates, against lennardjones" in words
    assert f"Sample: {told.n_sampled} random candidates, all that there are of 50." in words
    assert "The translator on these candidates" in (tmp_path / "run/report.html").read_text()
    assert pd.read_csv(tmp_path / "run/potential.csv")["candidate_id"].is_unique
    code, out, _ = run("status", "mine", "--folder", tmp_path / "run")
    assert code == 0
    assert "learn 0 0 0 1 0" in out
    # With nothing left to do nothing is relaxed.
    third = subprocess.run(command, capture_output=True, text=True)
    assert third.returncode == 0, third.stderr
    assert log.read_text().splitlines() == runs
