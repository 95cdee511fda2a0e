"""The stage of the potential through jobflow-remote."""

import pytest

from cryslator_flows.api import Campaign
from cryslator_flows.results.results import CampaignResults
from cryslator_flows.running.local.run import CampaignRun
from cryslator_flows.running.remote.project import open_project
from tests.campaign.test_file import GOOD, write
from tests.remote.project import NAME
from tests.remote.test_campaigns import places

pytestmark = pytest.mark.slow

PAIR_POTENTIAL = "tests.flows.makers.PairPotentialRelaxMaker"
# Times, which differ from run to run.
TIMELESS = {"translation_seconds": None, "prerelaxations": [], "potential": None}


def test_a_funnel_finds_the_same_as_on_this_machine(run, jfr_project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {
        **GOOD,
        "name": "funnel",
        "selection": {"top_k": 3, "controls": 1},
        "potential": {
            "maker": PAIR_POTENTIAL,
            "kwargs": {"sigma": 2.0, "steps": 10},
            "batch": 2,
            "select": {"top_k": 2},
        },
        "relaxation": {"maker": PAIR_POTENTIAL, "relax_elements": False},
    }
    file = write(tmp_path, content)
    assert run("submit", file, "--worker", "default=local", "--worker", "potential=gpu")[0] == 0
    jfr_project.run(900)
    found = places(jfr_project, "funnel")
    assert found["potential"] == {"gpu"}
    assert found["relax"] == found["select"] == {"local"}

    expected = CampaignRun(Campaign.from_file(file), tmp_path / "here").run(lambda *_: None)
    summary = CampaignResults(open_project(NAME).job_store, "funnel").stored_summary()
    assert summary.potential.n_relaxed == 3
    assert summary.potential.n_selected == summary.relaxed == 2
    assert summary.model_copy(update=TIMELESS) == expected.model_copy(update=TIMELESS)
    same = {"seconds": None}
    assert summary.potential.model_copy(update=same) == expected.potential.model_copy(update=same)
    assert [item.start for item in summary.prerelaxations] == ["translated_mlip"]

    code, out, _ = run("report", "funnel", "--project", NAME)
    assert code == 0
    assert "lennardjones" in out
    rows = (tmp_path / "runs/funnel/potential.csv").read_text().splitlines()
    assert len(rows) == 1 + 3
