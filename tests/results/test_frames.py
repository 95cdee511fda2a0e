"""A campaign's results as DataFrames."""

import re

import pandas as pd
import pytest

from cryslator_flows import Campaign
from cryslator_flows.documents.candidates import TRANSLATED
from cryslator_flows.errors import CampaignError, ProjectError
from cryslator_flows.running.local.folder import CampaignFolder
from tests.campaign.test_file import GOOD, write
from tests.running.test_started import start


def test_results_of_a_finished_campaign(tmp_path, monkeypatch):
    folder = start(tmp_path, monkeypatch, fails_with="Sr")
    campaign = Campaign.from_file(tmp_path / "campaign.yaml")
    found = campaign.results()
    with folder.opened():
        comparisons = folder.results().comparisons()
    assert found.funnel["relaxed"] == found.candidates["relaxed"].sum() == 2
    assert set(found.candidates.index[found.candidates["selected"]]) == {item.candidate_id for item in comparisons}
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
    assert found.comparisons == {item.candidate_id: item for item in comparisons}
    table = found.to_dataframe()
    assert table[found.candidates.columns].equals(found.candidates)
    ended = table["relaxed_energy_per_atom"].dropna()
    assert ended.to_dict() == found.relaxed["energy_per_atom"].to_dict()
    assert len(ended) == 2


def test_candidates_of_several_chunks_are_those_of_their_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, {**GOOD, "enumeration": {"chunk_size": 3}, "relaxation": None})
    campaign = Campaign.from_file(file)
    found = campaign.run()
    with CampaignFolder(tmp_path / "runs/mine").opened() as folder:
        chunks = list(folder.results().chunks())
    rows = [row for chunk in chunks for row in chunk.rows()]
    assert (len(chunks) > 2, len(found.candidates)) == (True, len(rows))
    for candidate, translation in rows:
        row = found.candidates.loc[candidate.candidate_id]
        assert (row["formula"], row["template_id"]) == (candidate.reduced_formula, candidate.template_id)
        assert row["substitution"] == " ".join(f"{old}->{new}" for old, new in candidate.substitution.items())
        assert row["n_atoms"] == len(candidate.structure)
        expected = translation.model_dump(include=set(TRANSLATED)) | {"unknown_elements": ""}
        assert row[TRANSLATED].to_dict() == expected
    assert found.candidates["formula"].cat.categories.is_monotonic_increasing


def test_running_in_python_is_what_the_command_does(run, tmp_path, monkeypatch, capfd):
    start(tmp_path, monkeypatch, "relax", fails_with="Sr")
    campaign = Campaign.from_file(tmp_path / "campaign.yaml")
    found = campaign.run()
    captured = capfd.readouterr()
    assert captured.err.count("failed: pair potential relax Sr") == 4
    ended, known = re.findall(r"(\d+)/(\d+)", captured.err)[-1]
    assert ended == known
    assert "Warning" not in captured.err
    assert (found.funnel["relaxed"], len(found.relaxations)) == (2, 8)
    pd.testing.assert_frame_equal(found.relaxations, campaign.results().relaxations)
    files = {path.name: path.read_bytes() for path in (tmp_path / "runs/mine").glob("*.[chj]*[lnv]")}
    assert set(files) == {"candidates.csv", "relaxed.csv", "report.html", "summary.json"}
    uuids = found.relaxations["job_uuids"].tolist()
    assert run("screen", "campaign.yaml")[0] == 0
    again = campaign.run()
    assert again.relaxations["job_uuids"].tolist() == uuids
    for name in ("candidates.csv", "relaxed.csv", "summary.json"):
        assert (tmp_path / "runs/mine" / name).read_bytes() == files[name]
    assert campaign.run(tmp_path / "other", reuse=[tmp_path / "runs/mine"]).summary.reused > 0
    campaign.relaxation.kwargs["fails_with"] = ""
    with pytest.raises(CampaignError, match="relaxation changed since it was started"):
        campaign.run()


def test_results_before_any_relaxation(tmp_path, monkeypatch):
    start(tmp_path, monkeypatch, "select")
    found = Campaign.from_file(tmp_path / "campaign.yaml").results(tmp_path / "runs/mine")
    assert len(found.candidates) == found.funnel["translated"] > 0
    assert not found.candidates["relaxed"].any()
    assert found.candidates["selected"].isna().all()
    assert found.relaxations.empty
    assert found.relaxations["ionic_steps"].dtype == "Int64"
    assert found.savings.empty
    assert found.funnel["selected"] is pd.NA


def test_results_before_enumeration_has_ended(tmp_path, monkeypatch):
    start(tmp_path, monkeypatch, "enumerate")
    with pytest.raises(CampaignError, match="has no results yet"):
        Campaign.from_file(tmp_path / "campaign.yaml").results()


def test_results_of_another_name(tmp_path, monkeypatch):
    folder = start(tmp_path, monkeypatch, "select")
    campaign = Campaign.from_file(tmp_path / "campaign.yaml")
    monkeypatch.setattr("jobflow_remote.SETTINGS.projects_folder", str(tmp_path / "none"))
    with pytest.raises(ProjectError, match=r"campaign folder .*runs/mine-2 does not exist \(did you mean 'mine'\?\)"):
        campaign.results(name="mine-2")
    with pytest.raises(CampaignError, match=r"campaign 'mine-2': .*runs/mine is the folder of campaign 'mine'"):
        campaign.results(folder.path, name="mine-2")
