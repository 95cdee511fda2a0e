import io
import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import yaml
from monty.json import MontyEncoder

from cryslator_flows.api import Campaign
from cryslator_flows.engines import by_name as engines
from cryslator_flows.errors import CampaignError, StoreError
from cryslator_flows.report.tables import full_report
from cryslator_flows.report.written import write_files
from cryslator_flows.running.folder_status import FolderWatch
from cryslator_flows.running.local.folder import CampaignFolder
from cryslator_flows.running.local.run import CampaignRun
from cryslator_flows.system.sqlite_store import SQLiteStore
from tests.campaign.test_file import GOOD, write

MAKERS = "tests.flows.makers"


def campaign(tmp_path, maker, **kwargs):
    relaxation = {"maker": f"{MAKERS}.{maker}", "kwargs": kwargs}
    return Campaign.from_file(write(tmp_path, {**GOOD, "selection": {"top_k": 3}, "relaxation": relaxation}))


def run_counting(run):
    happened = Counter()
    summary = run.run(lambda happening, job: happened.update([happening]))
    return summary, happened


def test_second_run_does_nothing_twice(tmp_path):
    made = campaign(tmp_path, "LoggingRelaxMaker", log=str(tmp_path / "log"))
    first, happened = run_counting(CampaignRun(made, tmp_path / "run"))
    assert happened["done"] == happened["queued"]
    assert happened["reused"] == happened["failed"] == 0
    log = (tmp_path / "log").read_text()
    assert len(log.splitlines()) == 2 * first.selected == 6
    second, happened = run_counting(CampaignRun(made, tmp_path / "run"))
    assert second == first
    assert happened["done"] == 0
    assert (tmp_path / "log").read_text() == log


def test_two_campaigns_in_two_threads_stay_in_their_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = campaign(tmp_path, "LoggingRelaxMaker", log=str(tmp_path / "log"))
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(made.run, ["one", "two"])
    assert Path.cwd() == tmp_path
    assert first.relaxations["energy_per_atom"].tolist() == second.relaxations["energy_per_atom"].tolist()
    jobs = [sorted(path.name for path in tmp_path.glob(f"{name}/jobs/*/job.out")) for name in ("one", "two")]
    assert len(jobs[0]) == len(jobs[1]) > 10
    assert not list(tmp_path.glob("*/jobs/*/one")) + list(tmp_path.glob("*/jobs/*/two"))


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", [1, 4])
def test_killed_campaign_goes_on_where_it_was(screen, tmp_path, kill_at):
    """kill -9 in the middle of a relaxation: that one is done again, after all others, and nothing else is."""
    log = tmp_path / "log"
    relaxation = {"maker": f"{MAKERS}.LoggingRelaxMaker", "kwargs": {"log": str(log), "kill_at": kill_at}}
    file = write(tmp_path, {**GOOD, "selection": {"top_k": 3}, "relaxation": relaxation})
    command = [*screen, str(file), "-o", str(tmp_path / "run")]
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == -signal.SIGKILL
    before = log.read_text().splitlines()
    assert len(before) == kill_at
    second = subprocess.run(command, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    after = log.read_text().splitlines()
    assert len(after) == 6 + 1
    assert after[-1] == before[-1]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["relaxed"] == 3


@pytest.mark.slow
def test_a_relaxation_that_kills_its_process_is_one_failed_candidate(screen, tmp_path):
    """It is tried once more, after all others, in another process: the second run is the last."""
    log = tmp_path / "log"
    relaxation = {"maker": f"{MAKERS}.KillingRelaxMaker", "kwargs": {"log": str(log), "kills": "SrMnO2"}}
    selection = {"top_k": 3, "control_share": 0.0}
    file = write(tmp_path, {**GOOD, "selection": selection, "relaxation": relaxation})
    command = [*screen, str(file), "-o", str(tmp_path / "run")]
    codes, compared = [], []
    for _ in range(2):
        codes.append(subprocess.run(command, capture_output=True).returncode)
        with CampaignFolder(tmp_path / "run", read_only=True).opened() as folder:
            compared.append({item.reduced_formula for item in folder.results().comparisons()})
            failed = FolderWatch(folder).look().failed
    assert codes == [-signal.SIGKILL, 0]
    lines = log.read_text().split()
    assert Counter(lines) == {"CaMnO2": 1, "SrMnO3": 1, "SrMnO2": 2}
    assert lines[-1] == "SrMnO2"
    assert compared[0] == {*lines[: lines.index("SrMnO2")]}
    assert compared[1] == {"CaMnO2", "SrMnO3", "SrMnO2"}
    assert [job.reason.partition(":")[0] for job in failed] == ["killed"]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["selected"], summary["relaxed"], summary["outcomes"]["translated"]["failed"]) == (3, 2, 1)


class StoppedError(Exception):
    pass


@pytest.mark.parametrize(("stage", "number"), [("translate", 1), ("relax", 4), ("compare", 2)])
def test_what_is_left_is_made_again_from_the_campaign_file(tmp_path, stage, number):
    """Each job runs once, whatever was running when the campaign stopped, and the outcome is the same."""
    made = campaign(tmp_path, "LoggingRelaxMaker", log=str(tmp_path / "log"))
    done, started = Counter(), Counter()

    def stop(happening, job):
        done.update([job.name] if happening == "done" else [])
        started.update([job.metadata["stage"]] if happening == "started" else [])
        if started[stage] == number:
            raise StoppedError

    with pytest.raises(StoppedError):
        CampaignRun(made, tmp_path / "run").run(stop)
    before = done.copy()
    again = Counter()
    summary = CampaignRun(made, tmp_path / "run").run(
        lambda happening, job: (done.update([job.name] if happening == "done" else []), again.update([happening]))
    )
    assert again["reused"] == before.total() > 0
    assert again["done"] == again["queued"] - again["reused"]
    assert (again["failed"], done["enumerate"], summary.relaxed) == (0, 1, 3)
    assert len((tmp_path / "log").read_text().splitlines()) == 6


def stopped(tmp_path, stage="relax"):
    """A campaign that stopped as its first job of a stage started, and its folder."""
    made = campaign(tmp_path, "PairPotentialRelaxMaker")

    def stop(happening, job):
        if happening == "started" and job.metadata["stage"] == stage:
            raise StoppedError

    run = CampaignRun(made, tmp_path / "run")
    with pytest.raises(StoppedError):
        run.run(stop)
    return made, run.folder


def test_journal_holds_data_and_another_flow_in_it_is_refused(tmp_path):
    made, folder = stopped(tmp_path)
    with folder.opened():
        rows = list(folder.journal.query())
        assert "@callable" not in json.dumps(rows)
        assert "@module" not in json.dumps(rows)
        (wave,) = [row for row in rows if row.get("flows") and row["flows"][0][0]["name"] == "relax wave"]
        wave["flows"][0][-2]["name"] = "something else"
        folder.journal.update(wave, key="entry")
    with pytest.raises(StoreError, match="differs from the job that ran here before; undo the change") as caught:
        run_counting(CampaignRun(made, tmp_path / "run"))
    assert str(folder.path) in str(caught.value)


def test_journal_of_another_version_is_refused(tmp_path):
    made, folder = stopped(tmp_path)
    with folder.opened():
        folder.journal.update({"entry": "flow", "flow": "eJwLz0g"}, key="entry")
    with pytest.raises(StoreError, match="is not a journal of this version of cryslator-flows"):
        run_counting(CampaignRun(made, tmp_path / "run"))


def test_log_of_the_store_that_was_removed_is_missed(tmp_path, run):
    """A killed process leaves what it stored last in a file beside the store."""
    kept = tmp_path / "kept"
    made = campaign(tmp_path, "PairPotentialRelaxMaker")

    def copy(happening, job):
        if happening == "started" and job.metadata["stage"] == "relax" and not kept.exists():
            shutil.copytree(tmp_path / "run", kept)

    CampaignRun(made, tmp_path / "run").run(copy)
    code, out, _ = run("status", "mine", "--folder", kept)
    assert (code, "Stopped: not finished" in out) == (0, True)
    (kept / "campaign.sqlite-wal").unlink()
    code, _, err = run("status", "mine", "--folder", kept)
    assert code == 2
    assert "campaign.sqlite: has lost " in err
    assert "put back campaign.sqlite-wal" in err
    with pytest.raises(StoreError, match="has lost"):
        run_counting(CampaignRun(made, kept))


def test_folder_that_is_deleted_while_it_runs_is_noticed(tmp_path):
    names = []

    def delete(happening, job):
        if happening == "started" and job.metadata["stage"] == "relax":
            names.append(job.name)
            shutil.rmtree(tmp_path / "run")

    with pytest.raises(StoreError, match=r"campaign.sqlite: was removed or replaced while it was in use"):
        CampaignRun(campaign(tmp_path, "PairPotentialRelaxMaker"), tmp_path / "run").run(delete)
    assert len(names) == 1


class LockedStore(SQLiteStore):
    """A store that opens with a password."""

    def __init__(self, path, password, **kwargs):
        if password != "hunter2":
            raise ValueError("wrong password")
        super().__init__(path, "tasks", **kwargs)


@pytest.mark.parametrize("password", ["hunter2", "${TASKS_PASSWORD}"])
def test_password_of_a_store_is_stored_nowhere(tmp_path, monkeypatch, perovskite, password):
    monkeypatch.setenv("TASKS_PASSWORD", "hunter2")
    store = SQLiteStore(str(tmp_path / "known.sqlite"), "tasks")
    store.connect()
    store.update({"uuid": "a", "output": {"structure": perovskite.as_dict()}}, key="uuid")
    store.close()
    source = {"source": "store", "store": {"type": "LockedStore", "path": "known.sqlite", "password": password}}
    relaxation = {"maker": f"{MAKERS}.PairPotentialRelaxMaker"}
    made = Campaign.from_file(write(tmp_path, {**GOOD, "templates": [source], "relaxation": relaxation}))
    summary, _ = run_counting(CampaignRun(made, tmp_path / "run"))
    assert summary.relaxed == 2
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert (tmp_path / "run" / "campaign.sqlite") in files
    assert not [path for path in files if b"hunter2" in path.read_bytes()]
    assert "hunter2" not in json.dumps(made.to_flow(), cls=MontyEncoder)
    assert made.changed_keys(made.content()) == []


@pytest.mark.slow
def test_interrupted_campaign_says_how_to_go_on(screen, tmp_path):
    log = tmp_path / "log"
    relaxation = {"maker": f"{MAKERS}.LoggingRelaxMaker", "kwargs": {"log": str(log)}}
    file = write(tmp_path, {**GOOD, "selection": {"top_k": 16}, "relaxation": relaxation})
    process = subprocess.Popen(
        [*screen, str(file), "-o", str(tmp_path / "run")],
        stderr=subprocess.PIPE, text=True,
        # Whatever runs the tests in the background may have it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    while not log.exists() and process.poll() is None:
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "Run the same command to continue from here." in errors
    assert "Traceback" not in errors


def test_failures_are_recorded_with_their_reason(tmp_path):
    run = CampaignRun(campaign(tmp_path, "FussyRelaxMaker", fails_with="Sr"), tmp_path / "run")
    summary, happened = run_counting(run)
    assert happened["failed"] == 2 * summary.outcomes["translated"]["failed"] > 0
    assert set(run.failures.values()) == {"RuntimeError: no Sr here"}


def test_failed_candidates_run_again_when_asked_to(tmp_path):
    """Once the reason is fixed; what did not fail is not done twice."""
    (tmp_path / "fixed").touch()
    kwargs = {"fails_with": "Sr", "needs": str(tmp_path / "fixed")}
    relaxation = {"maker": "tests.remote.makers.MendableRelaxMaker", "kwargs": kwargs}
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
    assert counts["done"] == 3 * n_failed
    assert counts["failed"] == 0
    timeless = {"translation_seconds": None}
    assert summary.model_copy(update=timeless) == expected.model_copy(update=timeless)


def test_what_another_folder_has_is_reused(tmp_path):
    def made(name, top_k):
        relaxation = {"maker": f"{MAKERS}.PairPotentialRelaxMaker"}
        content = {**GOOD, "name": name, "selection": {"per_composition": 1, "top_k": top_k}, "relaxation": relaxation}
        (tmp_path / f"{name}.files").mkdir()
        return Campaign.from_file(write(tmp_path / f"{name}.files", content))

    run_counting(CampaignRun(made("one", 1), tmp_path / "one"))
    run = CampaignRun(made("two", 2), tmp_path / "two", reuse=[tmp_path / "one"])
    summary, _ = run_counting(run)
    assert (summary.selected, summary.relaxed, summary.reused) == (2, 2, 1)
    with run.folder.opened() as folder:
        assert sorted(str(item.reused_from) for item in folder.results().comparisons()) == ["None", "one"]
    with pytest.raises(CampaignError, match="no campaign was run in this folder"):
        CampaignRun(made("three", 2), tmp_path / "three", reuse=[tmp_path / "nowhere"]).run(lambda *_: None)


def test_changed_campaign_is_refused_and_named(tmp_path):
    run_counting(CampaignRun(campaign(tmp_path, "PairPotentialRelaxMaker"), tmp_path / "run"))
    with pytest.raises(CampaignError, match="relaxation changed since"):
        run_counting(CampaignRun(campaign(tmp_path, "PairPotentialRelaxMaker", steps=7), tmp_path / "run"))


def test_wrong_settings_of_relaxations_that_all_failed_can_be_corrected(tmp_path):
    """Candidates and translations stay, the relaxations are made again, and old failures are in no table."""
    failing = campaign(tmp_path, "FussyRelaxMaker", fails_with="O")
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
    relaxation = {"maker": f"{MAKERS}.PairPotentialRelaxMaker"}
    made = Campaign.from_file(write(tmp_path, {**GOOD, "model": "broken", "relaxation": relaxation}))
    with pytest.raises(CampaignError, match="weights"):
        run_counting(CampaignRun(made, tmp_path / "run"))
    made = Campaign.from_file(write(tmp_path, {**GOOD, "model": "models/tiny", "relaxation": relaxation}))
    summary, _ = run_counting(CampaignRun(made, tmp_path / "run"))
    assert summary.relaxed == 2
    with pytest.raises(CampaignError, match="model changed since"):
        run_counting(CampaignRun(made.model_copy(update={"model": str(tmp_path / "broken")}), tmp_path / "run"))


def test_a_moved_folder_is_the_same_campaign(tmp_path, tiny_model, perovskite):
    (tmp_path / "here" / "crystals").mkdir(parents=True)
    perovskite.to(str(tmp_path / "here" / "crystals" / "a.cif"))
    shutil.move(tiny_model.path, tmp_path / "here" / "tiny")
    content = {
        **GOOD,
        "templates": [{"source": "files", "path": "crystals"}],
        "model": "tiny",
        "relaxation": {"maker": f"{MAKERS}.PairPotentialRelaxMaker"},
    }
    file = write(tmp_path / "here", content)
    first, _ = run_counting(CampaignRun(Campaign.from_file(file), tmp_path / "here" / "run"))
    (tmp_path / "here").rename(tmp_path / "there")
    file = tmp_path / "there" / file.name
    second, happened = run_counting(CampaignRun(Campaign.from_file(file), tmp_path / "there" / "run"))
    assert second == first
    assert happened["done"] == 0
    perovskite.scale_lattice(70).to(str(tmp_path / "there" / "crystals" / "a.cif"))
    with pytest.raises(CampaignError, match="templates changed since"):
        run_counting(CampaignRun(Campaign.from_file(file), tmp_path / "there" / "run"))


def test_maker_of_a_module_beside_the_campaign_file(screen, tmp_path):
    (tmp_path / "own_makers_of_a_test.py").write_text(
        "from dataclasses import dataclass\n"
        f"from {MAKERS} import PairPotentialRelaxMaker\n"
        "@dataclass\n"
        "class OwnMaker(PairPotentialRelaxMaker):\n"
        "    pass\n"
    )
    file = write(tmp_path, {**GOOD, "relaxation": {"maker": "own_makers_of_a_test.OwnMaker"}})
    command = [*screen, str(file), "-o", str(tmp_path / "run")]
    for _ in range(2):
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path.parent)
        assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["relaxed"] == 2


def test_one_process_at_a_time(tmp_path):
    made = campaign(tmp_path, "PairPotentialRelaxMaker")

    def intrude(happening, job):
        with pytest.raises(StoreError, match="another process"):
            CampaignRun(made, tmp_path / "run").run(lambda *_: None)
        seen.append(happening)

    seen = []
    CampaignRun(made, tmp_path / "run").run(intrude)
    assert seen


def test_unwritable_folder(tmp_path):
    with pytest.raises(StoreError, match="cannot be written"):
        CampaignRun(campaign(tmp_path, "PairPotentialRelaxMaker"), tmp_path / "campaign.yaml").run(lambda *_: None)


def test_broken_enumeration_says_why(tmp_path):
    (tmp_path / "crystals").mkdir()
    (tmp_path / "crystals" / "a.cif").write_text("nonsense")
    path = write(tmp_path, {**GOOD, "templates": [{"source": "files", "path": "crystals"}]})
    with pytest.raises(CampaignError, match=r"a\.cif: not readable"):
        CampaignRun(Campaign.from_file(path), tmp_path / "run").run(lambda *_: None)


def test_relative_paths_and_model_folder(tmp_path, tiny_model, perovskite, monkeypatch):
    """From the command line paths are relative, and jobs run in folders of their own."""
    (tmp_path / "crystals").mkdir()
    perovskite.to(str(tmp_path / "crystals" / "a.cif"))
    store = SQLiteStore(str(tmp_path / "known.sqlite"), "tasks")
    store.connect()
    store.update({"uuid": "b", "output": {"structure": perovskite.copy().scale_lattice(70).as_dict()}}, key="uuid")
    templates = [
        {"source": "files", "path": "crystals"},
        {"source": "store", "store": {"type": "SQLiteStore", "path": "known.sqlite", "collection_name": "tasks"}},
    ]
    write(tmp_path, {**GOOD, "templates": templates, "model": "models/tiny", "relaxation": None})
    monkeypatch.chdir(tmp_path)
    summary, _ = run_counting(CampaignRun(Campaign.from_file(Path("campaign.yaml")), Path("run")))
    assert summary.counts.templates == 2
    assert summary.counts.unique == summary.counts.duplicates == 4
    assert "tiny" in summary.versions


def test_failed_stage_is_run_again_when_it_was_fixed(tmp_path, perovskite):
    (tmp_path / "crystals").mkdir()
    (tmp_path / "crystals" / "a.cif").write_text("nonsense")
    relaxation = {"maker": f"{MAKERS}.PairPotentialRelaxMaker"}
    content = {**GOOD, "templates": [{"source": "files", "path": "crystals"}], "relaxation": relaxation}
    made = Campaign.from_file(write(tmp_path, content))
    with pytest.raises(CampaignError, match="give the same command again"):
        run_counting(CampaignRun(made, tmp_path / "run"))
    perovskite.to(str(tmp_path / "crystals" / "a.cif"))
    summary, happened = run_counting(CampaignRun(made, tmp_path / "run"))
    assert summary.relaxed == 2
    assert happened["failed"] == 0


def test_broken_translation_is_run_again_without_enumerating_anew(tmp_path, tiny_model):
    relaxation = {"maker": f"{MAKERS}.PairPotentialRelaxMaker"}
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


def test_files_and_tables(tmp_path):
    run = CampaignRun(campaign(tmp_path, "PairPotentialRelaxMaker"), tmp_path / "run")
    summary, _ = run_counting(run)
    with run.folder.opened() as folder:
        comparisons = folder.results().comparisons()
        paths = write_files(folder.path, summary, comparisons, folder.results().chunks())
    names = {path.name for path in paths}
    assert {"summary.json", "candidates.csv", "relaxed"} <= names
    table = pd.read_csv(run.folder.path / "candidates.csv")
    assert len(table) == summary.translated
    assert table["formation_energy_per_atom"].is_monotonic_increasing
    assert set(table["candidate_id"][: summary.selected]) == {item.candidate_id for item in comparisons}
    assert len(list((run.folder.path / "relaxed").glob("*.cif"))) == 3
    assert ("savings.png" in names) == bool(summary.savings)

    from rich.console import Console

    console = Console(width=80, file=io.StringIO())
    console.print(full_report(summary, comparisons))
    text = console.file.getvalue()
    for comparison in comparisons:
        assert comparison.reduced_formula in text
    assert "an interatomic potential has none" in " ".join(text.split())


def test_potential_that_is_not_installed_is_told_before_the_first_job(tmp_path, monkeypatch):
    relaxation = {
        "starts": ["unrelaxed", "mlip"],
        "mlip": {
            "maker": "atomate2.forcefields.jobs.ForceFieldRelaxMaker",
            "kwargs": {"force_field_name": "MACE-MP-0"},
        },
    }
    made = Campaign.from_file(write(tmp_path, {**GOOD, "relaxation": relaxation}))
    known = engines.find_spec
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "mace" else known(name))
    with pytest.raises(CampaignError, match=r"relaxation.mlip: MACE-MP-0: not installed here; pip install mace-torch"):
        made.run(tmp_path / "run")
    assert not (tmp_path / "run" / "jobs").exists()


@pytest.mark.slow
def test_small_campaign_with_chgnet_from_the_command_line(tmp_path):
    """The real thing in small: translated starts relaxed with CHGNet end where unrelaxed ones do, mlip starts too."""
    relaxation = {**GOOD.get("relaxation", {}), "starts": ["unrelaxed", "translated", "mlip"]}
    selection = {"top_k": 3, "per_composition": 1}
    file = write(tmp_path, yaml.safe_dump({**GOOD, "selection": selection, "relaxation": relaxation}))
    command = [sys.executable, "-m", "cryslator_flows.cli.main", "screen", str(file), "-o", str(tmp_path / "run")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["engines"] == ["CHGNet"]
    assert summary["relaxed"] == summary["selected"] >= 1
    savings = {item["start"]: item for item in summary["savings"]}
    assert {item["quantity"] for item in savings.values()} == {"ionic steps"}
    # It was relaxed with CHGNet before.
    assert savings["mlip"]["mean"] <= 2
    assert (tmp_path / "run" / "savings.png").stat().st_size > 10_000
    assert "Funnel of mine" in result.stdout
    assert "CHGNet will run" not in result.stdout
