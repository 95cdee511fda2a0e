"""What failed runs again once it is corrected, and what is done stays as it is."""

import shutil
from collections import Counter

import pytest

from cryslator_flows.api import Campaign
from cryslator_flows.errors import CampaignError
from cryslator_flows.running.folder_status import FolderWatch
from cryslator_flows.running.local.run import CampaignRun
from tests.campaign.test_file import GOOD, write
from tests.running.test_run import MAKERS, campaign, run_counting


def test_failures_are_recorded_with_their_reason(tmp_path):
    run = CampaignRun(campaign(tmp_path, "FussyRelaxMaker", fails_with="Sr"), tmp_path / "run")
    summary, happened = run_counting(run)
    assert happened["failed"] == 2 * summary.outcomes["translated"]["failed"] > 0
    assert set(run.failures.values()) == {"RuntimeError: no Sr here"}


def test_failed_candidates_run_again_when_asked_to(tmp_path):
    """Once the reason is fixed, from the failed job of each relaxation; what did not fail is not done twice."""
    (tmp_path / "fixed").touch()
    kwargs = {"fails_with": "Sr", "needs": str(tmp_path / "fixed")}
    relaxation = {"relax_elements": False, "maker": "tests.remote.makers.MendableTripleMaker", "kwargs": kwargs}
    selection = {"per_composition": 1, "top_k": 6}
    made = Campaign.from_file(write(tmp_path, {**GOOD, "selection": selection, "relaxation": relaxation}))
    expected, _ = run_counting(CampaignRun(made, tmp_path / "expected"))
    (tmp_path / "fixed").unlink()
    before, happened = run_counting(CampaignRun(made, tmp_path / "run"))
    n_failed = before.outcomes["translated"]["failed"]
    assert happened["failed"] == 2 * n_failed > 0
    (tmp_path / "fixed").touch()
    _, happened = run_counting(CampaignRun(made, tmp_path / "run"))
    assert happened["done"] == 0
    counts = Counter()
    summary = CampaignRun(made, tmp_path / "run").run(lambda what, job: counts.update([what]), rerun_failed=True)
    assert counts["done"] == (2 * 2 + 1) * n_failed
    assert counts["failed"] == 0
    timeless = {"translation_seconds": None}
    assert summary.model_copy(update=timeless) == expected.model_copy(update=timeless)


def many(tmp_path, name, **kwargs):
    relaxation = {"relax_elements": False, "maker": f"tests.{name}", "kwargs": kwargs}
    return Campaign.from_file(write(tmp_path, {**GOOD, "selection": {"top_k": 6}, "relaxation": relaxation}))


def test_relaxations_without_an_energy_are_told(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    many(tmp_path, "flows.makers.NoEnergyRelaxMaker")
    code, _, err = run("screen", "campaign.yaml")
    assert code == 1
    assert "no result: the last job left no structure or energy; 12 relaxations" in err


def test_stage_whose_first_jobs_fail_alike_stops(run, tmp_path, monkeypatch):
    """Five relaxations fail, and the others wait for the next run, which does all of them again."""
    monkeypatch.chdir(tmp_path)
    made = many(tmp_path, "remote.makers.MendableRelaxMaker", fails_with="O", needs=str(tmp_path / "fixed"))
    code, _, err = run("screen", "campaign.yaml")
    assert code == 1
    words = f"stage relax: its first 5 jobs failed for one reason: RuntimeError: {tmp_path / 'fixed'} is missing"
    assert f"stopped: {words}; 11 jobs were not started" in err
    assert f"S{words[1:]}" in run("status", "mine")[1]
    attempt = CampaignRun(made, tmp_path / "runs/mine")
    with attempt.folder.opened() as folder:
        status = FolderWatch(folder).look()
        # Two candidates were compared. That of the fifth failure is no comparison without its other start.
        assert len(folder.results().comparisons()) == 2
    assert status.counts["relax"] == {"failed": 5, "skipped": 7}
    assert status.counts["compare"] == {"done": 2, "skipped": 4}
    assert status.reruns == [f"cryslator screen CAMPAIGN_FILE --output {folder.path}"]
    (tmp_path / "fixed").touch()
    summary, happened = run_counting(attempt)
    assert (summary.relaxed, happened["failed"], happened["skipped"]) == (6, 0, 0)
    with attempt.folder.opened() as folder:
        assert FolderWatch(folder).look().stops == []


def test_stopped_stage_gets_past_jobs_that_fail_again_for_their_reason(tmp_path):
    """A cause that is of the first candidates only lets the campaign continue."""
    made = many(tmp_path, "remote.makers.MendableRelaxMaker", fails_with="O", needs=str(tmp_path / "fixed"))
    attempts = [run_counting(CampaignRun(made, tmp_path / "run"))[1] for _ in range(3)]
    assert [attempt["failed"] for attempt in attempts] == [5, 10, 12]


def test_changed_campaign_is_refused_and_named(tmp_path):
    run_counting(CampaignRun(campaign(tmp_path, "PairPotentialRelaxMaker"), tmp_path / "run"))
    with pytest.raises(CampaignError, match="relaxation changed since"):
        run_counting(CampaignRun(campaign(tmp_path, "PairPotentialRelaxMaker", steps=7), tmp_path / "run"))


def test_wrong_settings_of_relaxations_that_all_failed_can_be_corrected(tmp_path):
    """Candidates and translations stay, the relaxations are made again, and old failures are in no table."""
    failing = campaign(tmp_path, "FussyRelaxMaker", fails_with="O")
    failing.relaxation.relax_elements = True
    before, _ = run_counting(CampaignRun(failing, tmp_path / "run"))
    assert before.relaxed == 0
    happened = []
    run = CampaignRun(campaign(tmp_path, "FussyRelaxMaker", fails_with="He"), tmp_path / "run")
    summary = run.run(lambda happening, job: happened.append((happening, job.name)))
    assert summary.relaxed == summary.selected == before.selected
    assert ("reused", "enumerate") in happened
    assert ("reused", "translate 1") in happened
    with run.folder.opened() as folder:
        comparisons = folder.results().comparisons()
        assert len(comparisons) == summary.selected
        assert FolderWatch(folder).look().failed == []
    _, again = run_counting(run)
    assert again["done"] == 0


def test_another_model_after_one_that_translates_nothing(tmp_path, tiny_model):
    shutil.copytree(tiny_model.path, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"")
    relaxation = {"relax_elements": False, "maker": f"{MAKERS}.PairPotentialRelaxMaker"}
    made = Campaign.from_file(write(tmp_path, {**GOOD, "model": "broken", "relaxation": relaxation}))
    with pytest.raises(CampaignError, match="weights"):
        run_counting(CampaignRun(made, tmp_path / "run"))
    made = Campaign.from_file(write(tmp_path, {**GOOD, "model": "models/tiny", "relaxation": relaxation}))
    summary, _ = run_counting(CampaignRun(made, tmp_path / "run"))
    assert summary.relaxed == 2
    with pytest.raises(CampaignError, match="model changed since"):
        run_counting(CampaignRun(made.model_copy(update={"model": str(tmp_path / "broken")}), tmp_path / "run"))


def test_broken_enumeration_says_why(tmp_path):
    (tmp_path / "crystals").mkdir()
    (tmp_path / "crystals" / "a.cif").write_text("nonsense")
    path = write(tmp_path, {**GOOD, "templates": [{"source": "files", "path": "crystals"}]})
    with pytest.raises(CampaignError, match=r"a\.cif: not readable"):
        CampaignRun(Campaign.from_file(path), tmp_path / "run").run(lambda *_: None)


def test_failed_stage_is_run_again_when_it_was_fixed(tmp_path, perovskite):
    (tmp_path / "crystals").mkdir()
    (tmp_path / "crystals" / "a.cif").write_text("nonsense")
    relaxation = {"relax_elements": False, "maker": f"{MAKERS}.PairPotentialRelaxMaker"}
    content = {**GOOD, "templates": [{"source": "files", "path": "crystals"}], "relaxation": relaxation}
    made = Campaign.from_file(write(tmp_path, content))
    with pytest.raises(CampaignError, match="give the same command again"):
        run_counting(CampaignRun(made, tmp_path / "run"))
    perovskite.to(str(tmp_path / "crystals" / "a.cif"))
    summary, happened = run_counting(CampaignRun(made, tmp_path / "run"))
    assert summary.relaxed == 2
    assert happened["failed"] == 0


def test_broken_translation_is_run_again_without_enumerating_anew(tmp_path, tiny_model):
    relaxation = {"relax_elements": False, "maker": f"{MAKERS}.PairPotentialRelaxMaker"}
    made = Campaign.from_file(write(tmp_path, {**GOOD, "model": str(tiny_model.path), "relaxation": relaxation}))
    weights = tiny_model.path / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:100])
    with pytest.raises(CampaignError, match="truncated weights"):
        run_counting(CampaignRun(made, tmp_path / "run"))
    weights.write_bytes(content)
    again = []
    summary = CampaignRun(made, tmp_path / "run").run(lambda happening, job: again.append((happening, job.name)))
    assert summary.relaxed == 2
    assert ("reused", "enumerate") in again


def test_campaign_may_change_as_long_as_nothing_was_done(tmp_path):
    path = write(tmp_path, {**GOOD, "templates": [{"source": "aflow", "elements": ["Xe", "O", "Au", "He"]}]})
    with pytest.raises(CampaignError, match="no template passes"):
        run_counting(CampaignRun(Campaign.from_file(path), tmp_path / "run"))
    summary, _ = run_counting(CampaignRun(campaign(tmp_path, "PairPotentialRelaxMaker"), tmp_path / "run"))
    assert summary.relaxed == 3
