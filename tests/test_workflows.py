"""What lies in workflows/ runs as it is."""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from importlib.util import find_spec

import pytest
import yaml
from jobflow_remote.config.base import Project
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core import Lattice, Structure
from ruamel.yaml import YAML

from cryslator_flows.campaign.file import Campaign
from cryslator_flows.campaign.remote import open_project
from cryslator_flows.campaign.stages import RemoteSettings
from cryslator_flows.campaign.submit import missing_ledgers, stage_configs
from cryslator_flows.relaxation.gpaw import LOG
from cryslator_flows.schemas import STAGES
from cryslator_flows.translator.recipe import Recipe
from tests.conftest import ROOT
from tests.translator.test_evaluate import pair


@pytest.mark.slow
def test_any_property(tmp_path, perovskite):
    larger = perovskite.copy()
    larger.scale_lattice(perovskite.volume * 1.1)
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(pair(larger, perovskite, name)) for name in "aab"))
    folder = ROOT / "workflows/any-property"
    command = [sys.executable, folder / "add_electrostatic_energy.py", tmp_path / "in.jsonl", tmp_path / "out.jsonl.gz"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "2 of 2 targets have a value" in result.stdout
    # A pure change of size: the Ewald energy goes with one over the length.
    difference = float(result.stdout.split("relaxed crystal: ")[1].split()[0])
    with gzip.open(tmp_path / "out.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    perovskite.add_oxidation_state_by_element({"Ca": 2, "Ti": 4, "O": -2})
    expected = EwaldSummation(perovskite).total_energy / 5
    assert difference == pytest.approx(abs(expected) * (1 - 1.1 ** (-1 / 3)), abs=0.01)
    recipe = Recipe.from_file(folder / "recipe.yaml")
    assert [row[recipe.target] for row in rows] == pytest.approx([expected] * 3, rel=1e-4)


PROJECTS = sorted(ROOT.glob("workflows/jobflow-remote/*.yaml"))
CAMPAIGNS = [path for path in ROOT.glob("workflows/**/*.yaml") if path.stem != "recipe" and path not in PROJECTS]


@pytest.mark.parametrize("path", CAMPAIGNS, ids=str)
def test_campaigns_make_flows(path):
    assert Campaign.from_file(path).to_flow().name == Campaign.from_file(path).name


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.stem)
def test_jobflow_remote_projects(path):
    """jobflow-remote accepts them as its command line reads them, and Slurm gets all the resources they name."""
    project = Project.model_validate(YAML().load(path))
    assert project.name == path.stem
    assert "data" in project.get_jobstore().additional_stores
    for worker in project.workers.values():
        script = worker.get_scheduler_io().get_submission_script("run", options=worker.resources)
        assert all(str(value) in script for value in (worker.resources or {}).values())


def test_the_cluster_has_what_the_docs_submit_to(tmp_path, monkeypatch):
    shutil.copy(ROOT / "workflows/jobflow-remote/cluster.yaml", tmp_path)
    monkeypatch.setattr("jobflow_remote.SETTINGS.projects_folder", str(tmp_path))
    page = (ROOT / "docs/jobflow-remote.md").read_text()
    (block,) = re.findall(r"^```yaml\n# a part of a campaign file\n(.*?)^```", page, flags=re.M | re.S)
    settings = RemoteSettings.model_validate(yaml.safe_load(block)["jobflow_remote"])
    project = open_project(settings.project)
    project.check_data_store()
    for stage in STAGES:
        project.check_stage(stage, settings.stage(stage))
    campaign = Campaign.from_file(ROOT / "workflows/perovskites-vasp.yaml")
    configs = stage_configs(campaign, project, settings)
    assert [configs[stage]["worker"] for stage in STAGES] == ["small", "gpu", "small", "cpu", "small", "gpu", "small"]
    assert list(missing_ledgers(campaign.to_maker(), project, configs)) == []


def test_published_results_are_those_of_the_rows(tmp_path):
    folder = ROOT / "workflows/dft-savings"
    shutil.copy(folder / "results.jsonl", tmp_path)
    subprocess.run([sys.executable, folder / "report.py", tmp_path / "results.jsonl"], check=True)
    assert (tmp_path / "RESULTS.md").read_text() == (folder / "RESULTS.md").read_text()
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert Counter(row["start"] for row in rows).total() == 3 * len({row["candidate_id"] for row in rows})
    assert all(row["ionic_steps"] == len(row["electronic_steps"]) for row in rows if row["electronic_steps"])


def test_published_rounds_are_those_of_the_rows(tmp_path):
    """And N most stable candidates are not found before N relaxations, whichever way."""
    folder = ROOT / "workflows/rounds"
    shutil.copytree(folder, tmp_path / "rounds")
    subprocess.run([sys.executable, tmp_path / "rounds/report.py"], check=True)
    page = (tmp_path / "rounds/RESULTS.md").read_text()
    assert page == (folder / "RESULTS.md").read_text()
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    ways = [name for name in rows[0] if name.startswith("rounds")]
    assert all(sorted(row[way] for row in rows) == list(range(1, len(rows) + 1)) for way in ways)
    table = re.findall(r"^\| (\d+) \| ([\d.]+) \(([\d, ]+)\) \| (\d+) \| ([\d.]+) \|$", page, flags=re.M)
    assert [int(row[0]) for row in table] == [5, 10, 20]
    for number, mean, each, one_shot, random in table:
        seeds = [int(value) for value in each.split(", ")]
        assert len(seeds) == len(ways)
        assert float(mean) == pytest.approx(sum(seeds) / len(seeds), abs=0.05)
        assert all(int(number) <= float(value) <= len(rows) for value in (*seeds, one_shot, random))


def run_measurement(folder):
    command = [sys.executable, ROOT / "workflows/dft-savings/measure.py", "--campaign", folder / "campaign.yaml"]
    arguments = "--runs", folder / "runs", "--processes", "1"
    return subprocess.Popen([*command, *arguments], cwd=folder, start_new_session=True)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gpaw") is None and "CI" not in os.environ, reason="GPAW is not installed: make gpaw")
def test_dft_savings_on_one_crystal_resumes_after_a_kill(tmp_path):
    """The flow of the measurement with the real engine: three starts of CaO, made from MgO."""
    lattice = Lattice([[0, 2.105, 2.105], [2.105, 0, 2.105], [2.105, 2.105, 0]])
    Structure(lattice, ["Mg", "O"], [[0, 0, 0], [0.5] * 3]).to(str(tmp_path / "MgO.vasp"), fmt="poscar")
    campaign = {
        "name": "one-crystal",
        "templates": [{"source": "files", "path": "MgO.vasp"}],
        "substitutions": [{"kind": "maps", "maps": [{"Mg": "Ca"}]}],
        "relaxation": {
            "maker": "gpaw",
            "kwargs": {"kspacing": 1.6, "calculator_kwargs": {"mode": {"name": "pw", "ecut": 340}, "xc": "PBE"}},
            "starts": ["unrelaxed", "translated", "mlip"],
        },
    }
    (tmp_path / "campaign.yaml").write_text(json.dumps(campaign))
    process = run_measurement(tmp_path)
    while process.poll() is None and len(list(tmp_path.rglob(LOG))) < 2:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(tmp_path.rglob("results.jsonl"))
    first = min(tmp_path.rglob(LOG), key=lambda path: path.stat().st_mtime)
    finished = first.read_text()
    assert run_measurement(tmp_path).wait() == 0
    assert first.read_text() == finished
    rows = [json.loads(line) for line in (tmp_path / "runs/results.jsonl").read_text().splitlines()]
    assert [row["start"] for row in rows] == ["unrelaxed", "translated", "mlip"]
    logs = [path.read_text() for path in tmp_path.rglob(LOG)]
    counted = [[int(line.split()[2]) for line in log.splitlines() if "Converged in" in line] for log in logs]
    assert all(row["electronic_steps"] in counted for row in rows)
    assert all(row["converged"] and row["space_group"] == "Fm-3m" for row in rows)
    assert [row["same_minimum"] for row in rows] == [None, True, True]
    # Every start was put on the mesh of the unrelaxed cell.
    assert len({row["n_kpoints"] for row in rows}) == 1
    assert run_measurement(tmp_path).wait() == 0
    assert len(list(tmp_path.rglob(LOG))) == len(logs)
    scripts = ROOT / "workflows/dft-savings"
    command = [sys.executable, scripts / "report.py", tmp_path / "runs/results.jsonl"]
    subprocess.run([*command, "--campaign", tmp_path / "campaign.yaml"], check=True)
    page = (tmp_path / "runs/RESULTS.md").read_text()
    assert "| electronic steps | mlip | 1 |" in page
    assert "Not finished" not in page
    structures = "--structures", tmp_path / "runs/structures.json.gz", "--runs", tmp_path / "statics"
    command = [sys.executable, scripts / "properties.py", "--campaign", tmp_path / "campaign.yaml", *structures]
    subprocess.run([*command, "--processes", "1"], cwd=tmp_path, check=True)
    assert "| band gap [eV] | 1 |" in (tmp_path / "runs/PROPERTIES.md").read_text()
    assert (tmp_path / "runs/properties.png").exists()
