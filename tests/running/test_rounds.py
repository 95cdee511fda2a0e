"""Campaigns with rounds of active learning: the file, any stop, and what people look at."""

import json
import signal
import subprocess

import pandas as pd
import pytest

from cryslator_flows.api import Campaign
from cryslator_flows.documents.rounds import Learned, RoundOutcome
from cryslator_flows.errors import CampaignError
from cryslator_flows.results.frames import CampaignFrames
from cryslator_flows.running.folder_status import FolderWatch
from cryslator_flows.running.local.folder import CampaignFolder
from cryslator_flows.running.local.run import CampaignRun
from cryslator_flows.screening.hulls import Competition
from tests.campaign.test_file import GOOD, write
from tests.training.test_evaluate import pair

ENERGIES = {"Mn": -1.0, "Ca": -0.5, "Sr": -0.45, "O": -1.0}
ROUNDS = {"number": 2, "batch": 3, "fine_tune": {"epochs": 1}}


def content(model, maker="PairPotentialRelaxMaker", rounds=ROUNDS, selection=None, **kwargs):
    relaxation = {
        "maker": f"tests.flows.makers.{maker}",
        "kwargs": {"sigma": 2.2, **kwargs},
        "element_energies": dict(ENERGIES),
        "starts": ["unrelaxed"],
    }
    return {
        **GOOD,
        "model": str(model.path),
        "selection": {"top_k": 2} if selection is None else selection,
        "relaxation": relaxation,
        "rounds": rounds,
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"relaxation": None}, "they need a `relaxation`"),
        (
            {"relaxation": {"maker": "chgnet", "relax_elements": False}},
            "rounds: relaxation.element_energies is missing",
        ),
        ({"rounds": {"batches": 3}}, "did you mean 'batch'"),
        ({"rounds": {"number": 0}}, "rounds.number: "),
        ({"rounds": {"exploration": -1}}, "rounds.exploration: "),
        ({"rounds": {"fine_tune": {"minutes": 0}}}, "rounds.fine_tune.minutes: "),
        ({"rounds": {"replay": "nowhere.jsonl"}}, "nowhere.jsonl does not exist"),
    ],
)
def test_what_is_wrong_with_rounds_is_said(tmp_path, tiny_model, change, words):
    with pytest.raises(CampaignError) as error:
        Campaign.from_file(write(tmp_path, {**content(tiny_model), **change}))
    assert words in str(error.value)
    assert "campaign.yaml" in str(error.value)


def test_energies_of_the_elements_are_no_afterthought_where_rounds_learn_them(tmp_path, tiny_model):
    campaign = Campaign.from_file(write(tmp_path, content(tiny_model)))
    before = campaign.content()
    campaign.relaxation.element_energies["O"] = -2.0
    assert campaign.changed_keys(before) == ["relaxation"]
    campaign.rounds = None
    assert campaign.changed_keys(before) == ["rounds"]


def test_the_lacking_element_is_named_before_anything_is_translated(tmp_path, tiny_model):
    wrong = content(tiny_model)
    wrong["relaxation"]["relax_elements"] = False
    del wrong["relaxation"]["element_energies"]["Sr"]
    run = CampaignRun(Campaign.from_file(write(tmp_path, wrong)), tmp_path / "run")
    with pytest.raises(CampaignError, match="element_energies lacks Sr, which candidates have"):
        run.run(lambda *_: None)
    summary = CampaignRun(Campaign.from_file(write(tmp_path, {**wrong, "rounds": None})), tmp_path / "run").run(
        lambda *_: None
    )
    assert (summary.rounds, summary.selected) == ([], 2)


@pytest.mark.slow
def test_killed_rounds_go_on_where_they_were(screen, tmp_path, tiny_model, run):
    """kill -9 in the second round: its relaxation is done again, nothing else is; then all that people look at."""
    log = tmp_path / "log"
    written = content(tiny_model, "LoggingRelaxMaker", log=str(log), kill_at=5)
    file = write(tmp_path, written)
    command = [*screen, str(file), "-o", str(tmp_path / "run")]
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == -signal.SIGKILL
    assert len(log.read_text().splitlines()) == 5
    folder = CampaignFolder(tmp_path / "run")
    with folder.opened():
        status = FolderWatch(folder).look()
        learnt = [[each.round for each in item.outcomes] for item in documents(folder)]
        before = folder.results().current_summary([])
    assert (learnt, status.rounds[1]["waiting"], sorted(status.rounds)) == ([[1]], 0, [1, 2])
    assert status.rounds[2]["waiting"] > 0
    second = subprocess.run(command, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    runs = log.read_text().splitlines()
    assert runs[4] == runs[5]
    assert "Rounds of active learning" in second.stdout

    with folder.opened() as opened:
        frames = CampaignFrames.read(opened.results(), Competition({}))
    summary = frames.summary
    # The selection relaxes only what no round has.
    assert len(runs) == 1 + summary.selected == 1 + summary.relaxed
    assert 6 <= summary.selected <= 8
    # Funnel and candidates are those of one translation, the newest.
    assert before.translated == summary.translated == len(frames.candidates)
    assert set(frames.candidates["model_name"]) == {"mine-round-2"}
    assert frames.rounds.index.tolist() == [1, 2]
    assert frames.rounds["pairs"].tolist() == [3, 6]
    assert frames.rounds["uncertainty_factor"].gt(0).all()
    counts = frames.relaxations["round"].value_counts(dropna=False).to_dict()
    assert (counts[1], counts[2]) == (3, 3)
    assert sum(counts.values()) == summary.selected
    # What was predicted before it was learnt, not afterwards, is held against the engine.
    errors = {}
    for outcome in summary.rounds:
        rows = [frames.comparisons[name] for name in outcome.batch]
        ends = [item.relaxations[0] for item in rows]
        energies = [
            end.energy_per_atom - sum(ENERGIES[site.specie.symbol] for site in end.structure) / len(end.structure)
            for end in ends
        ]
        pairs = zip(rows, energies, strict=True)
        errors[outcome.round] = sum(abs(row.formation_energy_per_atom - energy) for row, energy in pairs) / len(rows)
        assert outcome.energy_error == pytest.approx(errors[outcome.round])
    page = (tmp_path / "run/report.html").read_text()
    assert "<h2>Rounds of active learning</h2>" in page
    assert f"mine-round-2 {summary.rounds[1].model_version}" in page

    code, out, _ = run("status", "mine", "--folder", tmp_path / "run")
    assert code == 0
    assert "Jobs of the rounds of active learning" in out
    code, _, err = run("export", "mine", tmp_path / "exported", "--folder", tmp_path / "run")
    assert (code, err) == (0, "")
    exported = pd.read_csv(tmp_path / "exported/relaxations.csv")
    assert sorted(exported["round"].dropna()) == [1, 1, 1, 2, 2, 2]
    stored = json.loads((tmp_path / "run/summary.json").read_text())["rounds"]
    assert [RoundOutcome.model_validate(item) for item in stored] == summary.rounds


def documents(folder):
    rows = folder.job_store.query({"output.@class": Learned.__name__}, load=True)
    return [Learned.model_validate(row["output"]) for row in rows]


@pytest.mark.slow
def test_relaxations_of_another_campaign_are_reused_whichever_model_translates(tmp_path, tiny_model, perovskite):
    """From the unrelaxed start, which no model has a part in; learnt with old pairs beside them."""
    larger = perovskite.copy()
    larger.scale_lattice(perovskite.volume * 1.1)
    (tmp_path / "old.jsonl").write_text(json.dumps(pair(larger, perovskite, "old", -3.0)) + "\n")
    learnt = {}
    pool = {**content(tiny_model, rounds=None, selection={}), "name": "pool"}
    CampaignRun(Campaign.from_file(write(tmp_path, pool)), tmp_path / "pool").run(lambda *_: None)
    for name, rounds in (("alone", ROUNDS), ("replayed", {**ROUNDS, "replay": "old.jsonl"})):
        searching = Campaign.from_file(write(tmp_path, content(tiny_model, rounds=rounds)))
        relaxed = []

        def note(what, job, relaxed=relaxed):
            if what == "done" and job.metadata["stage"] == "relax":
                relaxed.append(job)

        summary = CampaignRun(searching, tmp_path / name, reuse=[tmp_path / "pool"]).run(note)
        assert relaxed == []
        assert summary.reused == summary.relaxed == summary.selected >= 6
        assert [item.pairs for item in summary.rounds] == [3, 6]
        assert summary.rounds[-1].model_name == "mine-round-2"
        learnt[name] = summary.rounds
    first, replayed = (rounds[0] for rounds in learnt.values())
    assert first.batch == replayed.batch
    assert first.model_version != replayed.model_version


def test_what_rounds_relaxed_stays_selected_after_a_potential(tmp_path, tiny_model):
    rounds = {"number": 1, "batch": 2, "fine_tune": {"epochs": 1}}
    made = content(tiny_model, rounds=rounds, selection={"top_k": 3})
    del made["relaxation"]["starts"]
    potential = {"maker": made["relaxation"]["maker"], "select": {"top_k": 1}}
    run = CampaignRun(Campaign.from_file(write(tmp_path, {**made, "potential": potential})), tmp_path / "run")
    summary = run.run(lambda *_: None)
    with run.folder.opened() as folder:
        results = folder.results()
        assert {*results.selected()} == {item.candidate_id for item in results.comparisons()}
    assert summary.selected == summary.relaxed == 3
    assert summary.potential.n_selected == 1
