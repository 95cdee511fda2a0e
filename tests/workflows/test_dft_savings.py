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
from pymatgen.core import Lattice, Structure

from cryslator_flows.engines.gpaw import LOG
from tests.conftest import ROOT
from tests.support.waiting import wait_for


def test_published_results_are_those_of_the_rows(python, tmp_path):
    folder = ROOT / "workflows/dft-savings"
    shutil.copy(folder / "results.jsonl", tmp_path)
    subprocess.run([python, folder / "report.py", tmp_path / "results.jsonl"], check=True)
    assert (tmp_path / "RESULTS.md").read_text() == (folder / "RESULTS.md").read_text()
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert Counter(row["start"] for row in rows).total() == 3 * len({row["candidate_id"] for row in rows})
    assert all(row["ionic_steps"] == len(row["electronic_steps"]) for row in rows if row["electronic_steps"])


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
            "relax_elements": False,
            "kwargs": {"kspacing": 1.6, "calculator_kwargs": {"mode": {"name": "pw", "ecut": 340}, "xc": "PBE"}},
            "starts": ["unrelaxed", "translated", "mlip"],
        },
    }
    (tmp_path / "campaign.yaml").write_text(json.dumps(campaign))
    process = run_measurement(tmp_path)
    wait_for(lambda: process.poll() is not None or len(list(tmp_path.rglob(LOG))) >= 2, 600)
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
