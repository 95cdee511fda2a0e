import json
import subprocess
import sys
import zipfile

import pytest

from cryslator_flows.training.card import model_card
from cryslator_flows.training.evaluate import Evaluation
from cryslator_flows.training.recipe import Recipe
from cryslator_flows.translator.default_model import DEFAULT_MODEL
from cryslator_flows.translator.model_folder import (
    CALIBRATION,
    CARD,
    CONFIG,
    FEATURE_MAP,
    FEATURE_NUMBERS,
    FORMATION_ENERGY,
    METRICS,
    RECIPE,
    WEIGHTS,
    ModelFolder,
    list_models,
)
from tests.conftest import ROOT

MODELS = [path.parent for path in sorted(ROOT.glob(f"models/*/{CONFIG}"))]


@pytest.mark.slow
def test_wheel_carries_the_models(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert f"cryslator_flows/models/{DEFAULT_MODEL}/{WEIGHTS}" in archive.namelist()
        pages = [path for room in ("report/page", "serving") for path in (ROOT / "cryslator_flows" / room).rglob("*.*")]
        pages = [path for path in pages if path.suffix != ".pyc"]
        assert {str(path.relative_to(ROOT)) for path in pages} <= set(archive.namelist())
        assert not [name for name in archive.namelist() if name.startswith(("tests", "models"))]
        archive.extractall(tmp_path / "site")
    code = "import cryslator_flows; print(cryslator_flows.Translator.from_pretrained().name, cryslator_flows.__file__)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "site", capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == [DEFAULT_MODEL, str(tmp_path / "site/cryslator_flows/__init__.py")]


def test_default_model_is_found():
    assert DEFAULT_MODEL in list_models()


@pytest.mark.parametrize("folder", MODELS, ids=lambda path: path.name)
def test_model_folder_is_complete_and_consistent(folder):
    model = ModelFolder(folder)
    files = {path.name for path in folder.iterdir()}
    assert {CALIBRATION, CARD, CONFIG, METRICS, RECIPE, WEIGHTS} <= files
    assert model.config().name == folder.name
    metrics = json.loads((folder / METRICS).read_text())
    assert metrics["model_version"] == model.version()
    assert metrics["parameters"] == sum(weight.numel() for name, weight in model.network().named_parameters())
    recipe = Recipe.from_file(folder / RECIPE)
    assert recipe.name == folder.name
    assert (folder / CARD).read_text() == model_card(folder, recipe.card)
    # What was drawn and compared belongs to the weights that are here. Models of other properties have no map.
    if model.config().target != FORMATION_ENERGY:
        return
    assert FEATURE_MAP in files
    assert json.loads((folder / FEATURE_NUMBERS).read_text())["model_version"] == model.version()


def test_released_model_beats_the_baselines_by_its_own_metrics():
    metrics = json.loads((ROOT / "models" / DEFAULT_MODEL / METRICS).read_text())
    test = Evaluation.model_validate(metrics["test"][0])
    own = test.score(DEFAULT_MODEL).structure
    for baseline in ("input copied", "volume only"):
        other = test.score(baseline).structure
        assert own.volume_error < other.volume_error
        assert own.displacement < other.displacement
        assert own.strict_match > other.strict_match
