"""A campaign's results as DataFrames."""

import pandas as pd
import pytest

from cryslator_flows import Campaign
from cryslator_flows.errors import CampaignError
from tests.campaign.test_started import start


def test_results_of_a_finished_campaign(tmp_path, monkeypatch):
    folder = start(tmp_path, monkeypatch, fails_with="Sr")
    campaign = Campaign.from_file(tmp_path / "campaign.yaml")
    found = campaign.results()
    with folder.opened():
        comparisons = folder.results().comparisons()
    assert found.funnel["relaxed"] == found.candidates["relaxed"].sum() == 2
    assert len(found.candidates) == found.funnel["translated"] == found.summary.translated
    assert found.candidates["formation_energy_per_atom"].is_monotonic_increasing
    assert set(found.relaxations["candidate_id"]) == {item.candidate_id for item in comparisons}
    rows = found.relaxations.set_index(["candidate_id", "start"])
    for comparison in comparisons:
        row = rows.loc[(comparison.candidate_id, "translated")]
        relaxation = comparison.relaxation("translated")
        if relaxation.cost is None:
            assert row["ionic_steps"] is pd.NA
            assert row["error"] == relaxation.error
        else:
            assert row["ionic_steps"] == relaxation.cost.ionic_steps
            assert row["energy_per_atom"] == relaxation.energy_per_atom
        assert row["electronic_steps"] is pd.NA  # a pair potential has none: unknown, not 0
        assert row["outcome"] == comparison.ending().outcome
    assert rows.xs("unrelaxed", level="start")["outcome"].isna().all()
    assert found.savings["quantity"].tolist() == [item.quantity for item in found.summary.savings]


def test_results_before_any_relaxation(tmp_path, monkeypatch):
    start(tmp_path, monkeypatch, "select")
    found = Campaign.from_file(tmp_path / "campaign.yaml").results(tmp_path / "runs/mine")
    assert len(found.candidates) == found.funnel["translated"] > 0
    assert not found.candidates["relaxed"].any()
    assert found.relaxations.empty
    assert found.relaxations["ionic_steps"].dtype == "Int64"
    assert found.savings.empty
    assert found.funnel["selected"] is pd.NA


def test_results_before_enumeration_has_ended(tmp_path, monkeypatch):
    start(tmp_path, monkeypatch, "enumerate")
    with pytest.raises(CampaignError, match="has no results yet"):
        Campaign.from_file(tmp_path / "campaign.yaml").results()
