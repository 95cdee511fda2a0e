"""The measurement of workflows/dft-savings, on one crystal, and its published results."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from pymatgen.core import Composition, Lattice, Structure

from cryslator_flows.engines.gpaw import LOG
from tests.conftest import ROOT
from tests.support.waiting import wait_for

FOLDER = ROOT / "workflows/dft-savings"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_published_results_are_those_of_the_rows(python, tmp_path):
    folder = ROOT / "workflows/dft-savings"
    shutil.copy(folder / "results.jsonl", tmp_path)
    subprocess.run([python, folder / "report.py", tmp_path / "results.jsonl"], check=True)
    assert (tmp_path / "RESULTS.md").read_text() == (folder / "RESULTS.md").read_text()
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert Counter(row["start"] for row in rows).total() == 3 * len({row["candidate_id"] for row in rows})
    assert all(row["ionic_steps"] == len(row["electronic_steps"]) for row in rows if row["electronic_steps"])


def made_row(start, steps, potential=None, **about):
    """Return a row of a relaxation that took some ionic steps of ten electronic ones each."""
    known = {
        "engine": "GPAW", "start": start, "electronic_steps": [10] * steps, "ionic_steps": steps, "n_kpoints": 4,
        "converged": True, "energy_per_atom": -1.0, "wall_time": 1.0, "error": None, "energy_difference": 0.0,
        "same_minimum": start != "unrelaxed", "outcome": None if start == "unrelaxed" else "same minimum",
        "potential_steps": potential, "potential_seconds": potential, "potential_converged": True,
        "translation": {"model_name": "cryslator-universal", "model_version": "1a2b"}, "translation_seconds": 0.1,
    }  # fmt: skip
    return known | about


def test_page_of_protocol_2_judges_the_targets(python, tmp_path):
    taken = {"unrelaxed": (10,), "scaled": (8,), "translated": (5,), "mlip": (4, 20), "translated_mlip": (5, 9)}
    rows = []
    for line in lines(FOLDER / "candidates-2.jsonl")[:-1]:
        item = line["candidate"]
        about = {"candidate_id": item["candidate_id"], "template_id": item["template_id"], "space": line["space"]}
        for optimizer, starts in line["runs"].items():
            about |= {"optimizer": optimizer, "formula": item["reduced_formula"]}
            rows += [made_row(start, *taken[start], **about) for start in starts]
    lost = {"electronic_steps": None, "ionic_steps": None, "n_kpoints": None, "energy_per_atom": None}
    rows[1] |= lost | {"converged": False, "same_minimum": False, "outcome": "failed", "error": "stopped"}
    (tmp_path / "results-2.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    first = [row for row in lines(FOLDER / "results.jsonl") if row["start"] == "translated"]
    again = [made_row("translated", 7) | row | {"electronic_steps": [10] * 7} for row in first]
    (tmp_path / "results-1-again.jsonl").write_text("".join(json.dumps(row) + "\n" for row in again))
    subprocess.run([python, FOLDER / "report_2.py", tmp_path / "results-2.jsonl"], check=True)
    page = (tmp_path / "RESULTS-2.md").read_text()
    targets = [line.strip("| ").split(" | ")[1:] for line in page.splitlines() if line.endswith(("yes |", "no |"))]
    saved = 100 * (1 - 22 * 70 / sum(sum(row["electronic_steps"]) for row in lines(FOLDER / "results.jsonl")
                                     if row["start"] == "unrelaxed"))  # fmt: skip
    assert targets == [
        [f"{saved:.1f}", "yes"], ["50.0", "yes"], ["50.0", "yes"], ["0.0", "yes"], ["10.0", "no"], ["45.0", "yes"],
    ]  # fmt: skip
    assert "steps unknown, failed" in page
    assert "CaMg3Se4 (BFGS), CaMg3Se4 (CG) are still to be run" in page
    assert (tmp_path / "savings-2.png").exists()


def test_published_results_of_protocol_1_again_are_those_of_the_rows(python, tmp_path):
    shutil.copy(FOLDER / "results-1-again.jsonl", tmp_path)
    subprocess.run([python, FOLDER / "report_again.py", tmp_path / "results-1-again.jsonl"], check=True)
    assert (tmp_path / "RESULTS-1-AGAIN.md").read_text() == (FOLDER / "RESULTS-1-AGAIN.md").read_text()
    rows = lines(tmp_path / "results-1-again.jsonl")
    assert {row["candidate_id"] for row in rows} == {row["candidate_id"] for row in lines(FOLDER / "results.jsonl")}
    # The saving, counted in another way.
    before = sum(sum(row["electronic_steps"]) for row in lines(FOLDER / "results.jsonl") if row["start"] == "unrelaxed")
    saved = 1 - sum(sum(row["electronic_steps"]) for row in rows) / before
    assert (
        f"| translated, cryslator-universal | 22 | 151.8 | 98.5 | {saved:+.1%} |"
        in (FOLDER / "RESULTS-1-AGAIN.md").read_text()
    )
    assert f"saving {saved:.1%}" in (ROOT / "README.md").read_text()


@pytest.mark.skipif(not (FOLDER / "results-2.jsonl").exists(), reason="protocol 2 is not measured yet")
def test_published_results_of_protocol_2_are_those_of_the_rows(python, tmp_path):
    for name in ("results-2.jsonl", "results-1-again.jsonl"):
        shutil.copy(FOLDER / name, tmp_path)
    subprocess.run([python, FOLDER / "report_2.py", tmp_path / "results-2.jsonl"], check=True)
    assert (tmp_path / "RESULTS-2.md").read_text() == (FOLDER / "RESULTS-2.md").read_text()
    versions = {row["translation"]["model_version"] for row in lines(tmp_path / "results-2.jsonl")}
    assert len(versions) == 1


def test_drawn_candidates_keep_the_rules():
    drawn = lines(FOLDER / "candidates-2.jsonl")
    assert Counter(line["space"] for line in drawn) == {
        "X-Mn-O": 9, "oxides": 15, "chalcogenides": 4, "halides": 4, "nitrides": 4, "intermetallics": 4,
    }  # fmt: skip
    candidates = [line["candidate"] for line in drawn]
    assert all(2 <= len(item["structure"]["sites"]) <= 14 for item in candidates)
    for different in ("reduced_formula", "template_id", "candidate_id"):
        assert len({item[different] for item in candidates}) == len(drawn)
    assert not {item["reduced_formula"] for item in candidates} & {
        row["formula"] for row in lines(FOLDER / "results.jsonl")
    }
    assert sum("CG" in line["runs"] for line in drawn) == 14
    assert [line["seconds_per_step"] for line in drawn] == sorted(line["seconds_per_step"] for line in drawn)


SPACES = """
seed: {seed}
states: {{Ti: [4], Zr: [4], Si: [4], Sn: [2, 4], Ca: [2], Na: [1], O: [-2]}}
spaces:
  - name: oxides
    kind: oxides
    count: 3
    kspacing: 0.75
    speed: 0.001
    templates: [{{source: aflow, n_elements: 3, max_atoms: 10}}]
    substitutions: [{{kind: roles, cations: [[Ca, Sn, Na], [Ti, Zr, Si, Sn]]}}]
"""


def test_a_draw_is_seeded_and_leaves_out_what_is_known(python, tmp_path):
    def draw(seed, *known):
        (tmp_path / "spaces.yaml").write_text(SPACES.format(seed=seed))
        rows = [{"species": species, "split": split} for species, split in known]
        (tmp_path / "known.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        command = [python, FOLDER / "draw.py", tmp_path / "known.jsonl", "--spaces", tmp_path / "spaces.yaml"]
        subprocess.run([*command, "--candidates", tmp_path / "drawn.jsonl"], check=True)
        return [line["candidate"]["reduced_formula"] for line in lines(tmp_path / "drawn.jsonl")]

    first = draw(1)
    assert len(first) == 3
    assert draw(1) == first
    species = [*Composition(first[0]).get_el_amt_dict()]
    species = [symbol for symbol in species for _ in range(int(Composition(first[0])[symbol]))]
    assert draw(1, (species, "test")) == first
    assert first[0] not in draw(1, (species, "train"))


@pytest.mark.parametrize("seed", range(3))
def test_trial_and_corrector_steps_find_the_minimum(monkeypatch, seed):
    monkeypatch.syspath_prepend(FOLDER)
    from trial_corrector import TrialCorrectorCG

    ends = []
    for optimizer in (BFGS, TrialCorrectorCG):
        crystal = bulk("Cu", a=3.75, cubic=True)
        crystal.rattle(0.1, seed=seed)
        crystal.symbols[0] = "Au"
        crystal.calc = EMT()
        assert optimizer(FrechetCellFilter(crystal), logfile=None).run(fmax=0.005, steps=60)
        ends.append((crystal.get_potential_energy(), crystal.get_volume()))
    assert ends[0] == pytest.approx(ends[1], rel=2e-3, abs=2e-3)


def run_measurement(python, folder, name="runs", *arguments):
    command = [python, FOLDER / "measure.py", "--campaign", folder / "campaign.yaml", "--runs", folder / name]
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
            "relax_elements": False,
            "kwargs": {"kspacing": 1.6, "calculator_kwargs": {"mode": {"name": "pw", "ecut": 340}, "xc": "PBE"}},
            "starts": ["unrelaxed", "translated", "mlip"],
        },
    }
    (tmp_path / "campaign.yaml").write_text(json.dumps(campaign))
    process = run_measurement(sys.executable, tmp_path)
    wait_for(lambda: process.poll() is not None or len(list(tmp_path.rglob(LOG))) >= 2, 600)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(tmp_path.rglob("results.jsonl"))
    first = min(tmp_path.rglob(LOG), key=lambda path: path.stat().st_mtime)
    finished = first.read_text()
    assert run_measurement(python, tmp_path).wait() == 0
    assert first.read_text() == finished
    rows = lines(tmp_path / "runs/results.jsonl")
    assert [row["start"] for row in rows] == ["unrelaxed", "translated", "mlip"]
    assert [row["potential_steps"] is not None for row in rows] == [False, False, True]
    assert {row["translation"]["model_name"] for row in rows} == {"cryslator-universal"}
    logs = [path.read_text() for path in tmp_path.rglob(LOG)]
    counted = [[int(line.split()[2]) for line in log.splitlines() if "Converged in" in line] for log in logs]
    assert all(row["electronic_steps"] in counted for row in rows)
    assert all(row["converged"] and row["space_group"] == "Fm-3m" for row in rows)
    assert [row["same_minimum"] for row in rows] == [None, True, True]
    # Every start was put on the mesh of the unrelaxed cell.
    assert len({row["n_kpoints"] for row in rows}) == 1
    assert run_measurement(python, tmp_path).wait() == 0
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
    check_one_start_again(python, tmp_path, rows)
    check_conjugate_gradients(python, tmp_path)


def check_one_start_again(python, folder, rows):
    """The translated start alone, compared with the end of the former measurement."""
    again = run_measurement(python, folder, "again", "--starts", "translated", "--reference", "runs/results.jsonl")
    assert again.wait() == 0
    (row,) = lines(folder / "again/results.jsonl")
    assert (row["start"], row["outcome"]) == ("translated", "same minimum")
    assert row["electronic_steps"] == rows[1]["electronic_steps"]


def check_conjugate_gradients(python, folder):
    candidate = json.loads(next(folder.glob("runs/*/candidate.json")).read_text())
    drawn = {"space": "oxides", "kspacing": 1.6, "runs": {"CG": ["unrelaxed", "mlip"]}, "candidate": candidate}
    (folder / "drawn.jsonl").write_text(json.dumps(drawn) + "\n")
    assert run_measurement(python, folder, "drawn", "--candidates", "drawn.jsonl").wait() == 0
    rows = lines(folder / "drawn/results.jsonl")
    assert [(row["start"], row["optimizer"], row["space"]) for row in rows] == [
        ("unrelaxed", "CG", "oxides"), ("mlip", "CG", "oxides"),
    ]  # fmt: skip
    assert [row["same_minimum"] for row in rows] == [None, True]
    assert all(row["ionic_steps"] == len(row["electronic_steps"]) for row in rows)
