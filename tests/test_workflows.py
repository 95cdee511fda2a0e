"""What lies in workflows/ runs as it is."""

import gzip
import importlib
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
from random import Random

import pytest
import torch
import yaml
from jobflow_remote.config.base import Project
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core import Lattice, Structure
from ruamel.yaml import YAML

from cryslator_flows.api import Campaign
from cryslator_flows.campaign.remote_settings import RemoteSettings
from cryslator_flows.crystals.substitution import is_charge_balanced, substitute
from cryslator_flows.documents.stages import STAGES
from cryslator_flows.engines.gpaw import LOG
from cryslator_flows.running.remote.project import open_project
from cryslator_flows.running.remote.submit import missing_ledgers, stage_configs
from cryslator_flows.training.fit import fit
from cryslator_flows.training.fit_settings import FitConfig
from cryslator_flows.training.recipe import Recipe
from cryslator_flows.training.records import PairRecord
from cryslator_flows.translator.model_folder import ModelFolder
from tests.conftest import ROOT
from tests.pairs.miniature import make_pairs, write_xmno
from tests.training.test_evaluate import pair
from tests.training.test_fit import write_prepared
from tests.training.test_tune import salt
from tests.training.test_tune import write as write_pairs


@pytest.mark.slow
def test_any_property(python, tmp_path, perovskite):
    larger = perovskite.copy()
    larger.scale_lattice(perovskite.volume * 1.1)
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(pair(larger, perovskite, name)) for name in "aab"))
    folder = ROOT / "workflows/any-property"
    command = [python, folder / "add_electrostatic_energy.py", tmp_path / "in.jsonl", tmp_path / "out.jsonl.gz"]
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
PAPER, UNIVERSAL = ROOT / "workflows/paper-xmno", ROOT / "workflows/universal"
RECIPES = sorted({*ROOT.glob("workflows/**/recipe.yaml"), *PAPER.glob("*.yaml"), *UNIVERSAL.glob("*.yaml")})
CAMPAIGNS = [path for path in ROOT.glob("workflows/**/*.yaml") if path not in (*RECIPES, *PROJECTS)]


@pytest.mark.parametrize("path", RECIPES, ids=str)
def test_recipes_are_read(path):
    recipe = Recipe.from_file(path)
    assert path.stem in (recipe.name, "recipe")


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


def small_recipes(folder):
    """The recipes of the paper's data with networks and times of a test."""
    changes = {
        "cryslator-xmno": {
            "network": {"width": 16, "vectors": 8, "encoder_layers": 1, "translator_layers": 1},
            "fit": {"epochs": 2, "threads": 1},
        },
        "cryslator-2023-xmno": {
            "reference": {
                "network": {
                    "width": 16, "layers": 2, "feature": 64, "channels": 2,
                    "cell_width": 8, "cell_layers": 1, "position_width": 8, "position_layers": 1,
                },
                "fit": {
                    "energy_minutes": 0.02, "translation_minutes": 0.02, "cell_minutes": 0.02, "position_minutes": 0.02,
                    "threads": 1,
                },
            },
        },
    }  # fmt: skip
    folder.mkdir()
    for path in PAPER.glob("*.yaml"):
        (folder / path.name).write_text(json.dumps(yaml.safe_load(path.read_text()) | changes[path.stem]))


@pytest.mark.slow
def test_paper_on_a_miniature_archive(python, tmp_path, run):
    """Two commands from the archive to the table; the second is killed on its way, and given again."""
    write_xmno(tmp_path / "release" / "data", make_pairs(40))
    archive = shutil.make_archive(str(tmp_path / "XMnO"), "zip", tmp_path / "release")
    data = tmp_path / "xmno"
    code, out, _ = run("pairs", "xmno", archive, "-o", data, "--split", "given")
    assert code == 0
    assert "pairs-train.jsonl.gz 32 32 " in out
    small_recipes(tmp_path / "recipes")
    command = [python, PAPER / "reproduce.py", data, "--recipes", tmp_path / "recipes"]
    process = subprocess.Popen(command)
    while process.poll() is None and not (data / "runs/cryslator-2023-xmno/translation.npz").exists():
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    first = data / "runs/cryslator-2023-xmno/energy-R.npz"
    assert not (data / "RESULTS.md").exists()
    written = first.stat().st_mtime_ns
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert first.stat().st_mtime_ns == written
    table = (data / "RESULTS.md").read_text()
    assert table in result.stdout
    rows = {
        tuple(row[:2]): row[2:] for row in (line.strip("| ").split(" | ") for line in table.splitlines()) if row[1:]
    }
    methods = ["input copied", "volume only", "cryslator-2023-xmno", "GCN_R", "GCN_U", "GCN_R+U", "cryslator-xmno"]
    kinds = ["unrelaxed", "intermediate", "relaxed"]
    assert set(rows) == {("input", "method"), *((kind, method) for kind in kinds for method in methods)}
    published = {key: row[1] for key, row in rows.items() if key[1].startswith("GCN") and row[1][0].isdigit()}
    assert published == {("relaxed", "GCN_R"): "0.014", ("unrelaxed", "GCN_R"): "0.84", ("unrelaxed", "GCN_U"): "0.057"}
    assert rows["unrelaxed", "GCN_R+U"][1] == "not published as a number"
    metrics = json.loads((data / "models/cryslator-2023-xmno/metrics.json").read_text())
    assert metrics["training"]["relaxed_crystals"] == 32
    by_name = {(row["input"], row["method"]): row["energy_mae"] for row in metrics["test"][0]["scores"]}
    assert float(rows["relaxed", "GCN_R"][0]) == pytest.approx(by_name["relaxed", "GCN_R"], abs=1e-4)
    assert rows["unrelaxed", "cryslator-2023-xmno"][3] == "84 %"
    # Finished models stay as they are.
    weights = {path: path.stat().st_mtime_ns for path in data.rglob("model.safetensors")}
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout == result.stdout
    assert {path: path.stat().st_mtime_ns for path in data.rglob("model.safetensors")} == weights


def test_paper_without_its_pairs(python, tmp_path):
    result = subprocess.run([python, PAPER / "reproduce.py", tmp_path], capture_output=True, text=True)
    assert result.returncode == 2
    assert "no pairs-train.jsonl.gz in it" in result.stderr
    assert "cryslator pairs xmno" in result.stderr


def test_published_results_are_those_of_the_rows(python, tmp_path):
    folder = ROOT / "workflows/dft-savings"
    shutil.copy(folder / "results.jsonl", tmp_path)
    subprocess.run([python, folder / "report.py", tmp_path / "results.jsonl"], check=True)
    assert (tmp_path / "RESULTS.md").read_text() == (folder / "RESULTS.md").read_text()
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert Counter(row["start"] for row in rows).total() == 3 * len({row["candidate_id"] for row in rows})
    assert all(row["ionic_steps"] == len(row["electronic_steps"]) for row in rows if row["electronic_steps"])


def test_published_rounds_are_those_of_the_rows(python, tmp_path):
    """And N most stable candidates are not found before N relaxations, whichever way."""
    folder = ROOT / "workflows/rounds"
    shutil.copytree(folder, tmp_path / "rounds")
    subprocess.run([python, tmp_path / "rounds/report.py"], check=True)
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


def test_published_results_of_fine_tuning_are_those_of_the_rows(python, tmp_path):
    folder = ROOT / "workflows/fine-tuning"
    shutil.copy(folder / "results.jsonl", tmp_path)
    subprocess.run([python, folder / "report.py", tmp_path / "results.jsonl"], check=True)
    assert (tmp_path / "RESULTS.md").read_text() == (folder / "RESULTS.md").read_text()
    base, *fits = (json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines())
    assert base["pairs"] == 0
    groups = {
        count: [fit for fit in [base, *fits] if fit["pairs"] == count and fit.get("replay", True)]
        for count in (0, 25, 100, 400)
    }
    for part in ("test", "old_test"):
        means = [sum(fit[part]["energy_mae"] for fit in group) / len(group) for group in groups.values()]
        assert " -> ".join(f"{mae:.3f}" for mae in means) in (ROOT / "README.md").read_text()
    assert all(fit["drawn"]["train_pairs"] + fit["drawn"]["val_pairs"] == fit["pairs"] for fit in fits)


@pytest.mark.slow
def test_fine_tuning_is_measured_on_what_was_held_out(python, tmp_path, monkeypatch):
    """The whole script on small salts, with small fits: stopped between two of them, it goes on."""
    for file in ("measure.py", "report.py", "recipe.yaml", "base/recipe.yaml"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "workflows/fine-tuning" / file, tmp_path / file)
    for file, change in (
        ("recipe.yaml", {"tune": {"epochs": 1}}),
        ("base/recipe.yaml", {"fit": {"epochs": 2}, "network": {"width": 16, "vectors": 4, "translator_layers": 1}}),
    ):
        content = yaml.safe_load((tmp_path / file).read_text())
        for key, value in change.items():
            content[key] |= value
        (tmp_path / file).write_text(yaml.safe_dump(content))
    data = tmp_path / "data"
    data.mkdir()
    halves = {"train": ["F", "Cl", "Br"], "val": ["I"], "test": ["At"]}
    for name, anions in halves.items():
        rows = [
            salt(cation, anion, start, substitution={"Na": cation})
            for cation in ("K", "Mn", "Li")
            for anion in anions
            for start in (3.2, 3.8)
        ]
        rows.append(salt("Rb", anions[0], 3.5, substitution={"Mn": "Rb"}))
        write_pairs(data / f"mp_oxide_pairs_{name}.jsonl.gz", rows)
    relaxed = {"species": ["Mn", "F"], "lattice_parameters": [3, 3, 3, 90, 90, 90], "frac": [[0, 0, 0], [0.5] * 3]}
    with gzip.open(data / "mp_oxide_relaxed.jsonl.gz", "wt") as lines:
        lines.writelines(json.dumps({**relaxed, "species": [name, "F"]}) + "\n" for name in ("Mn", "K"))
    monkeypatch.syspath_prepend(tmp_path)
    measure = importlib.import_module("measure")
    runs = tmp_path / "runs"
    monkeypatch.setattr(sys, "argv", ["measure.py", str(data), "--runs", str(runs)])
    for fits in ([(4, 0, True)], [(4, 0, True), (4, 0, False), (6, 1, True)]):
        monkeypatch.setattr(measure, "FITS", fits)
        measure.main()
        rows = [json.loads(line) for line in (runs / "results.jsonl").read_text().splitlines()]
        assert [row["pairs"] for row in rows] == [0, *(fit[0] for fit in fits)]
    assert rows[0]["training_pairs"] == 12
    assert [row["test"]["targets"] for row in rows] == [2] * 4
    assert [row["old_test"]["targets"] for row in rows] == [2] * 4
    assert "Mn" not in ModelFolder(runs / "base").config().elements
    assert "Mn" in ModelFolder(runs / "models/mn-4-seed0").config().elements
    subprocess.run([python, tmp_path / "report.py", runs / "results.jsonl"], check=True)
    assert "**4 pairs** (one seed only)" in (runs / "RESULTS.md").read_text()
    assert (runs / "error.png").stat().st_size > 10_000


def test_published_results_of_grown_pairs_are_those_of_the_rows(python, tmp_path):
    folder = ROOT / "workflows/grown-pairs"
    for name in ("results.jsonl", "counts-0.json", "counts-1.json"):
        shutil.copy(folder / name, tmp_path)
    subprocess.run([python, folder / "report.py", tmp_path / "results.jsonl"], check=True)
    assert (tmp_path / "RESULTS.md").read_text() == (folder / "RESULTS.md").read_text()
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    methods = {row["method"] for row in rows}
    assert len(methods) == 5
    assert len(rows) == len({(row["method"], row["target"]) for row in rows})


def test_drawn_substitutions_are_balanced_and_held_out_formulas_absent(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "workflows/grown-pairs")
    draw = importlib.import_module("draw")
    write_pairs(tmp_path / "pairs.jsonl.gz", [salt("Na", "Cl", split="val"), salt("K", "Cl", split="train")])
    write_pairs(tmp_path / "pairs_test.jsonl.gz", [salt("Rb", "Cl")])
    held_out = draw.held_out_formulas(tmp_path)
    assert held_out == {"NaCl", "RbCl"}
    templates = draw.prototypes(held_out)
    assert len(templates) > 150
    assert not any(template.structure.composition.reduced_formula in held_out for template in templates)
    drawn = [draw.Draw(held_out, Random(1)) for _ in range(2)]
    maps = [[source.maps(template, 2, any_volume=False) for template in templates[:20]] for source in drawn]
    assert maps[0] == maps[1]
    found = [
        substitute(template.structure, mapping)
        for template, of_template in zip(templates, maps[0], strict=False)
        for mapping in of_template
    ]
    assert len(found) > 30
    for structure in found:
        assert structure.composition.reduced_formula not in held_out
        assert is_charge_balanced(structure.composition.reduced_composition.get_el_amt_dict())


def test_pairs_are_grown_exported_and_never_grown_again(tmp_path, monkeypatch):
    """The whole script with a Lennard-Jones crystal in place of the potential."""
    monkeypatch.syspath_prepend(ROOT / "workflows/grown-pairs")
    grow = importlib.import_module("grow")
    maker = "tests.flows.makers.PairPotentialRelaxMaker", {"relax_cell": False}
    monkeypatch.setattr(grow, "POTENTIALS", {grow.POTENTIAL: maker})
    prototypes = grow.prototypes
    monkeypatch.setattr(grow, "prototypes", lambda held_out: prototypes(held_out)[:3])
    write_pairs(tmp_path / "pairs_val.jsonl.gz", [salt("Na", "Cl")])
    runs = tmp_path / "runs"
    grow.grow(tmp_path, runs, passes=1, seed=0)
    counts = grow.export(tmp_path, runs, 0)
    relaxed = (runs / grow.SPENT).read_text()
    grow.grow(tmp_path, runs, passes=1, seed=0)
    assert (runs / grow.SPENT).read_text() == relaxed
    with gzip.open(runs / "grown_pairs_train-0.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    assert counts["targets"] + sum(counts["dropped"].values()) == 3 * grow.PER_TEMPLATE
    assert len({row["target"] for row in rows}) == counts["targets"] > 0
    assert sum("ionic_step" in row for row in rows) == counts["intermediates"] > 0
    assert {row["split"] for row in rows} == {"train"}
    assert not any("formation_energy_per_atom" in row for row in rows)
    assert all(row["template_formula"] for row in rows)
    formula = PairRecord.model_validate(rows[0]).reduced_formula
    monkeypatch.setattr(grow, "held_out_formulas", lambda _: {formula})
    assert grow.export(tmp_path, runs, 0)["dropped"]["a formula of validation or test"] > 0


def run_measurement(folder):
    command = [sys.executable, ROOT / "workflows/dft-savings/measure.py", "--campaign", folder / "campaign.yaml"]
    arguments = "--runs", folder / "runs", "--processes", "1"
    return subprocess.Popen([*command, *arguments], cwd=folder, start_new_session=True)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gpaw") is None and "CI" not in os.environ, reason="GPAW is not installed: make gpaw")
def test_dft_savings_on_one_crystal_resumes_after_a_kill(python, tmp_path):
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
    command = [python, scripts / "report.py", tmp_path / "runs/results.jsonl"]
    subprocess.run([*command, "--campaign", tmp_path / "campaign.yaml"], check=True)
    page = (tmp_path / "runs/RESULTS.md").read_text()
    assert "| electronic steps | mlip | 1 |" in page
    assert "Not finished" not in page
    structures = "--structures", tmp_path / "runs/structures.json.gz", "--runs", tmp_path / "statics"
    command = [python, scripts / "properties.py", "--campaign", tmp_path / "campaign.yaml", *structures]
    subprocess.run([*command, "--processes", "1"], cwd=tmp_path, check=True)
    assert "| band gap [eV] | 1 |" in (tmp_path / "runs/PROPERTIES.md").read_text()
    assert (tmp_path / "runs/properties.png").exists()


def test_a_kept_checkpoint_is_taken_up_again(tmp_path):
    """Half the size, and the fit that goes on from it is nearly the uninterrupted one."""
    config = FitConfig(epochs=3, batch_size=8, warmup_steps=2, threads=1)
    write_prepared(tmp_path / "p.npz", config)
    whole = fit(tmp_path / "p.npz", tmp_path / "whole", lambda progress: None)

    class Stop(Exception):
        pass

    def stop(progress):
        raise Stop

    with pytest.raises(Stop):
        fit(tmp_path / "p.npz", tmp_path / "first", stop)
    script = UNIVERSAL / "keep.py"
    there, kept = tmp_path / "first/checkpoint.npz", tmp_path / "kept.npz"
    subprocess.run([sys.executable, script, "save", there, kept], check=True)
    subprocess.run([sys.executable, script, "load", kept, tmp_path / "second/checkpoint.npz"], check=True)
    assert kept.stat().st_size < 0.7 * there.stat().st_size
    again = fit(tmp_path / "p.npz", tmp_path / "second", lambda progress: None)
    assert [progress.epoch for progress in again.history] == [1, 2, 3]
    for name, value in whole.network.state_dict().items():
        assert torch.allclose(value, again.network.state_dict()[name], atol=0.02), name


def test_widths_are_compared_at_equal_process_time(tmp_path):
    write_prepared(tmp_path / "p.npz", FitConfig(epochs=3, batch_size=8, warmup_steps=2, threads=1))
    rows = tmp_path / "rows.json"
    command = [sys.executable, UNIVERSAL / "compare.py", tmp_path / "p.npz", "--minutes", "0.02", "--widths", "8", "16"]
    subprocess.run([*command, "--rows", rows], check=True)
    rows = json.loads(rows.read_text())
    assert [(row["width"], row["passes"]) for row in rows] == [
        (width, passes) for width in (8, 16) for passes in (1, 2, 3)
    ]
    assert rows[3]["weights"] > rows[0]["weights"]
    assert len({row["energy_mae"] for row in rows}) == 6
