"""The scripts of workflows/universal, on small data."""

import json
import subprocess

import pytest

from cryslator_flows.training.fit_settings import FitConfig
from tests.conftest import ROOT
from tests.training.test_fit import write_prepared

UNIVERSAL = ROOT / "workflows/universal"


def test_widths_are_compared_at_equal_process_time(python, tmp_path):
    write_prepared(tmp_path / "p.npz", FitConfig(epochs=3, batch_size=8, warmup_steps=2, threads=1))
    rows = tmp_path / "rows.json"
    command = [python, UNIVERSAL / "compare.py", tmp_path / "p.npz", "--minutes", "0.02", "--widths", "8", "16"]
    subprocess.run([*command, "--rows", rows], check=True)
    rows = json.loads(rows.read_text())
    assert [(row["width"], row["passes"]) for row in rows] == [
        (width, passes) for width in (8, 16) for passes in (1, 2, 3)
    ]
    assert rows[3]["weights"] > rows[0]["weights"]
    assert len({row["energy_mae"] for row in rows}) == 6


def test_passes_precision_and_an_ensemble_are_compared(python, tmp_path, tiny_model):
    write_prepared(tmp_path / "p.npz", FitConfig(epochs=3, batch_size=8, warmup_steps=2, threads=1))
    rows = tmp_path / "rows.json"
    models = [tiny_model.path, tiny_model.path]
    subprocess.run([python, UNIVERSAL / "choices.py", tmp_path / "p.npz", *models, "--rows", rows], check=True)
    found = {row["kind"]: row["energy_mae"] for row in json.loads(rows.read_text())}
    assert len(found) == 7
    assert found["2 passes, double precision"] == pytest.approx(found["2 passes"], rel=1e-4)
    assert found["1 passes"] != found["2 passes"]
    # Two copies of a model agree with it.
    assert found["2 passes, mean of both models"] == pytest.approx(found["2 passes, older model"], rel=1e-6)
