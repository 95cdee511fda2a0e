"""The published results of workflows/adapt."""

import json
import shutil
import subprocess

from cryslator_flows.documents.adaptation import Adaptation
from tests.conftest import ROOT

FOLDER = ROOT / "workflows/adapt"


def test_published_results_are_those_of_the_adaptations(python, tmp_path):
    shutil.copytree(FOLDER, tmp_path / "adapt")
    subprocess.run([python, tmp_path / "adapt/measure.py"], check=True)
    assert (tmp_path / "adapt/RESULTS.md").read_text() == (FOLDER / "RESULTS.md").read_text()
    stored = json.loads((FOLDER / "adaptations.json").read_text())
    assert [*stored] == ["sulfides", "halides", "heuslers"]
    for space, found in stored.items():
        told = Adaptation.model_validate(found)
        assert told.n_sampled == told.n_train + told.n_held_out + sum(told.dropped.values())
        assert (
            (told.kept is None)
            == (told.after.energy_error < told.before.energy_error)
            == ("adapted" in told.model_name)
        )
        assert f"| {space} | after | {told.after.energy_error:.3f} |" in (FOLDER / "RESULTS.md").read_text()
