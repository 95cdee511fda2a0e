"""The script and recipe of workflows/any-property."""

import gzip
import json
import subprocess

import pytest
from pymatgen.analysis.ewald import EwaldSummation

from cryslator_flows.training.recipe import Recipe
from tests.conftest import ROOT
from tests.training.test_evaluate import pair


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
