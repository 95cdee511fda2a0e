"""The measurement of workflows/paper-xmno, on a miniature archive."""

import json
import shutil
import signal
import subprocess

import pytest
import yaml

from tests.conftest import ROOT
from tests.pairs.miniature import make_pairs, write_xmno
from tests.support.waiting import wait_for

PAPER = ROOT / "workflows/paper-xmno"


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
    translation = data / "runs/cryslator-2023-xmno/translation.npz"
    wait_for(lambda: process.poll() is not None or translation.exists(), 600, 0.05)
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
