"""The scripts of workflows/universal, on small data."""

import json
import subprocess

import pytest
import torch

from cryslator_flows.training.fit import fit
from cryslator_flows.training.fit_settings import FitConfig
from tests.conftest import ROOT
from tests.training.test_fit import write_prepared

UNIVERSAL = ROOT / "workflows/universal"


def test_a_kept_checkpoint_is_taken_up_again(python, tmp_path):
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
    subprocess.run([python, script, "save", there, kept], check=True)
    subprocess.run([python, script, "load", kept, tmp_path / "second/checkpoint.npz"], check=True)
    assert kept.stat().st_size < 0.7 * there.stat().st_size
    again = fit(tmp_path / "p.npz", tmp_path / "second", lambda progress: None)
    assert [progress.epoch for progress in again.history] == [1, 2, 3]
    for name, value in whole.network.state_dict().items():
        assert torch.allclose(value, again.network.state_dict()[name], atol=0.02), name


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
