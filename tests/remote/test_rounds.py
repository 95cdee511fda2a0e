"""Rounds of active learning on a jobflow-remote project: workers that share nothing but the stores."""

import pytest

from cryslator_flows.api import Campaign
from cryslator_flows.results.results import CampaignResults
from cryslator_flows.running.local.run import CampaignRun
from cryslator_flows.running.remote.project import open_project
from cryslator_flows.running.status import remote_status
from tests.campaign.test_file import write
from tests.remote.project import NAME
from tests.remote.test_campaigns import places
from tests.running.test_rounds import content


@pytest.mark.slow
def test_rounds_from_submission_to_report(run, jfr_project, tmp_path, monkeypatch, tiny_model):
    """The same as on this machine; learning has a worker of its own, and the tuned model gets to the others."""
    monkeypatch.chdir(tmp_path)
    rounds = {"number": 2, "batch": 3, "fine_tune": {"epochs": 1}}
    file = write(tmp_path, {**content(tiny_model, rounds=rounds), "selection": {"top_k": 1}})
    code, _, err = run("submit", file, "--worker", "default=local", "--worker", "learn=gpu")
    assert code == 0, err
    jfr_project.run(900)
    assert places(jfr_project, "mine").get("learn") == {"gpu"}, jfr_project.report()
    project = open_project(NAME)
    status = remote_status(project, "mine")
    assert status.totals["done"] == status.totals.total()
    assert sorted(status.rounds) == [1, 2]
    assert {sum(counts.values()) for counts in status.rounds.values()} == {3 * 2 + 1 + 1}

    results = CampaignResults(project.job_store, "mine")
    summary = results.stored_summary()
    assert summary == results.current_summary(results.comparisons())
    expected = CampaignRun(Campaign.from_file(file), tmp_path / "here").run(lambda *_: None)
    for found, wanted in zip(summary.rounds, expected.rounds, strict=True):
        assert (found.batch, found.pairs, found.relaxed) == (wanted.batch, wanted.pairs, wanted.relaxed)
        assert found.energy_error == pytest.approx(wanted.energy_error, abs=1e-3)
        assert (found.model_name, found.not_learnt) == (f"mine-round-{found.round}", None)
    assert (summary.translated, summary.selected) == (expected.translated, expected.selected)
    for chunk in results.chunks():
        assert chunk.stats.models == {"mine-round-2": summary.rounds[1].model_version}
    code, out, err = run("report", "mine", "--project", NAME)
    assert (code, err) == (0, "")
    assert "Rounds of active learning" in out
