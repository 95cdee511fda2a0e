"""The measurement of workflows/fine-tuning, on small salts, and its published results."""

import gzip
import importlib
import json
import shutil
import subprocess
import sys

import pytest
import yaml

from cryslator_flows.translator.model_folder import ModelFolder
from tests.conftest import ROOT
from tests.training.test_tune import salt
from tests.training.test_tune import write as write_pairs


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
        assert " -> ".join(f"{mae:.3f}" for mae in means) in (ROOT / "docs/measurements.md").read_text()
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
    monkeypatch.delitem(sys.modules, "measure", raising=False)
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
