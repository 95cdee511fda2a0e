import io
import json
import shutil
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import yaml
from monty.json import MontyEncoder

from cryslator_flows.api import Campaign
from cryslator_flows.engines import by_name as engines
from cryslator_flows.errors import CampaignError, PreflightError, StoreError
from cryslator_flows.report.tables import full_report
from cryslator_flows.report.written import write_files
from cryslator_flows.running.local.run import CampaignRun
from cryslator_flows.screening.hulls import Competition
from cryslator_flows.system.sqlite_store import SQLiteStore
from tests.campaign.test_file import GOOD, write

MAKERS = "tests.flows.makers"


def campaign(tmp_path, maker, **kwargs):
    relaxation = {"relax_elements": False, "maker": f"{MAKERS}.{maker}", "kwargs": kwargs}
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
    relaxation = {"relax_elements": False, "maker": f"{MAKERS}.PairPotentialRelaxMaker"}
    made = Campaign.from_file(write(tmp_path, {**GOOD, "templates": [source], "relaxation": relaxation}))
    summary, _ = run_counting(CampaignRun(made, tmp_path / "run"))
    assert summary.relaxed == 2
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert (tmp_path / "run" / "campaign.sqlite") in files
    assert not [path for path in files if b"hunter2" in path.read_bytes()]
    assert "hunter2" not in json.dumps(made.to_flow(), cls=MontyEncoder)
    assert made.changed_keys(made.content()) == []


def test_what_another_folder_has_is_reused(tmp_path):
    def made(name, top_k):
        relaxation = {"maker": f"{MAKERS}.PairPotentialRelaxMaker"}
        content = {**GOOD, "name": name, "selection": {"per_composition": 1, "top_k": top_k}, "relaxation": relaxation}
        (tmp_path / f"{name}.files").mkdir()
        return Campaign.from_file(write(tmp_path / f"{name}.files", content))

    one, _ = run_counting(CampaignRun(made("one", 1), tmp_path / "one"))
    run = CampaignRun(made("two", 2), tmp_path / "two", reuse=[tmp_path / "one"])
    summary, _ = run_counting(run)
    assert one.element_energies.items() < summary.element_energies.items()
    assert (summary.selected, summary.relaxed, summary.reused) == (2, 2, 1)
    with run.folder.opened() as folder:
        assert sorted(str(item.reused_from) for item in folder.results().comparisons()) == ["None", "one"]
        rows = folder.job_store.query({"metadata.element": {"$ne": None}}, ["metadata"])
        relaxed = {row["metadata"]["element"] for row in rows}
    assert relaxed == summary.element_energies.keys() - one.element_energies.keys()
    with pytest.raises(CampaignError, match="no campaign was run in this folder"):
        CampaignRun(made("three", 2), tmp_path / "three", reuse=[tmp_path / "nowhere"]).run(lambda *_: None)


def test_all_starts_of_another_campaign_are_reused(tmp_path):
    """Controls start from a translated structure, the others do not."""
    maker = f"{MAKERS}.PairPotentialRelaxMaker"
    relaxation = {"maker": maker, "relax_elements": False, "starts": ["unrelaxed", "translated", "mlip"]}
    relaxation |= {"mlip": {"maker": maker}, "uncertain_above": None}
    content = {**GOOD, "selection": {"top_k": 2, "controls": 1}, "relaxation": relaxation}
    made = Campaign.from_file(write(tmp_path, content))
    CampaignRun(made, tmp_path / "one").run(lambda *_: None)
    summary = CampaignRun(made, tmp_path / "two", reuse=[tmp_path / "one"]).run(lambda *_: None)
    assert (summary.selected, summary.reused) == (2, 2)


def test_a_moved_folder_is_the_same_campaign(tmp_path, tiny_model, perovskite):
    (tmp_path / "here" / "crystals").mkdir(parents=True)
    perovskite.to(str(tmp_path / "here" / "crystals" / "a.cif"))
    shutil.move(tiny_model.path, tmp_path / "here" / "tiny")
    content = {
        **GOOD,
        "templates": [{"source": "files", "path": "crystals"}],
        "model": "tiny",
        "relaxation": {"relax_elements": False, "maker": f"{MAKERS}.PairPotentialRelaxMaker"},
    }
    file = write(tmp_path / "here", content)
    first, _ = run_counting(CampaignRun(Campaign.from_file(file), tmp_path / "here" / "run"))
    (tmp_path / "here").rename(tmp_path / "there")
    file = tmp_path / "there" / file.name
    second, happened = run_counting(CampaignRun(Campaign.from_file(file), tmp_path / "there" / "run"))
    assert second == first
    assert happened["done"] == 0
    perovskite.scale_lattice(70).to(str(tmp_path / "there" / "crystals" / "a.cif"))
    with pytest.raises(CampaignError, match=r"templates \(changed: crystals/a.cif\) changed since"):
        run_counting(CampaignRun(Campaign.from_file(file), tmp_path / "there" / "run"))


def test_maker_of_a_module_beside_the_campaign_file(screen, tmp_path):
    (tmp_path / "own_makers_of_a_test.py").write_text(
        "from dataclasses import dataclass\n"
        f"from {MAKERS} import PairPotentialRelaxMaker\n"
        "@dataclass\n"
        "class OwnMaker(PairPotentialRelaxMaker):\n"
        "    pass\n"
    )
    file = write(tmp_path, {**GOOD, "relaxation": {"relax_elements": False, "maker": "own_makers_of_a_test.OwnMaker"}})
    command = [*screen, str(file), "-o", str(tmp_path / "run")]
    for _ in range(2):
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path.parent)
        assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["relaxed"] == 2


def test_one_process_at_a_time(tmp_path):
    made = campaign(tmp_path, "PairPotentialRelaxMaker")

    def intrude(happening, job):
        if happening in seen:
            return
        with pytest.raises(StoreError, match="another process"):
            CampaignRun(made, tmp_path / "run").run(lambda *_: None)
        seen.append(happening)

    seen = []
    CampaignRun(made, tmp_path / "run").run(intrude)
    assert seen == ["queued", "started", "done"]


def test_unwritable_folder(tmp_path):
    with pytest.raises(PreflightError, match="cannot be written"):
        CampaignRun(campaign(tmp_path, "PairPotentialRelaxMaker"), tmp_path / "campaign.yaml").run(lambda *_: None)


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


def test_files_and_tables(tmp_path):
    run = CampaignRun(campaign(tmp_path, "PairPotentialRelaxMaker"), tmp_path / "run")
    summary, _ = run_counting(run)
    with run.folder.opened() as folder:
        comparisons = folder.results().comparisons()
        chosen = folder.results().selected()
        paths = write_files(folder.path, summary, comparisons, folder.results().chunks(), Competition({}), chosen)
    names = {path.name for path in paths}
    assert {"summary.json", "candidates.csv", "relaxed"} <= names
    table = pd.read_csv(run.folder.path / "candidates.csv")
    assert len(table) == summary.translated
    assert table["formation_energy_per_atom"].is_monotonic_increasing
    assert set(table["candidate_id"][: summary.selected]) == {item.candidate_id for item in comparisons}
    assert table["candidate_id"][table["selected"]].tolist() == chosen
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
def test_small_campaign_with_chgnet_from_the_command_line(screen, tmp_path):
    """The real thing in small: translated starts relaxed with CHGNet end where unrelaxed ones do, mlip starts too."""
    relaxation = {**GOOD.get("relaxation", {}), "starts": ["unrelaxed", "translated", "mlip"]}
    selection = {"top_k": 3, "per_composition": 1}
    file = write(tmp_path, yaml.safe_dump({**GOOD, "selection": selection, "relaxation": relaxation}))
    command = [*screen, str(file), "-o", str(tmp_path / "run")]
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
