import json
import subprocess
import sys
import zipfile

import pytest

from cryslator_flows.translator.pretrained import CARD, CONFIG, METRICS, RECIPE, WEIGHTS, ModelFolder, list_models
from cryslator_flows.translator.recipe import Recipe
from cryslator_flows.translator.train import model_card
from tests.conftest import ROOT

MODELS = [path.parent for path in sorted(ROOT.glob(f"models/*/{CONFIG}"))]


@pytest.mark.slow
def test_wheel_carries_the_models(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert f"cryslator_flows/models/cryslator-oxides/{WEIGHTS}" in archive.namelist()
        assert not [name for name in archive.namelist() if name.startswith(("tests", "models"))]
        archive.extractall(tmp_path / "site")
    code = "import cryslator_flows; print(cryslator_flows.Translator.from_pretrained().name, cryslator_flows.__file__)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "site", capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["cryslator-oxides", str(tmp_path / "site/cryslator_flows/__init__.py")]


def test_default_model_is_found():
    assert "cryslator-oxides" in list_models()


@pytest.mark.parametrize("folder", MODELS, ids=lambda path: path.name)
def test_model_folder_is_complete_and_consistent(folder):
    model = ModelFolder(folder)
    assert {path.name for path in folder.iterdir()} == {CARD, CONFIG, METRICS, RECIPE, WEIGHTS}
    assert model.config().name == folder.name
    metrics = json.loads((folder / METRICS).read_text())
    assert metrics["model_version"] == model.version()
    assert metrics["parameters"] == sum(weight.numel() for name, weight in model.network().named_parameters())
    recipe = Recipe.from_file(folder / RECIPE)
    assert recipe.name == folder.name
    assert (folder / CARD).read_text() == model_card(folder.name, metrics, recipe.card)


def test_released_model_beats_the_baselines_by_its_own_metrics():
    test = json.loads((ROOT / "models/cryslator-oxides" / METRICS).read_text())["test"]["structures"]
    for baseline in ("input copied", "volume only"):
        assert test["cryslator-oxides"]["volume_error"] < test[baseline]["volume_error"]
        assert test["cryslator-oxides"]["displacement"] < test[baseline]["displacement"]
        assert test["cryslator-oxides"]["strict_match"] > test[baseline]["strict_match"]
