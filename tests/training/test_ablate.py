import json

import pytest
import yaml

from cryslator_flows.errors import DataError
from cryslator_flows.training.ablate import ablate, vary
from tests.training.test_evaluate import pair
from tests.training.test_property import write_recipe

PLAN = {
    "note": "Small ones.",
    "reading": "No difference.",
    "network": {"width": 24},
    "fit": {"epochs": 2},
    "variants": [
        {"variant": "base", "passes": [1, 2]},
        {"variant": "no feature translation", "fit": {"weights": {"feature": 0.0}}},
        {"variant": "Cartesian", "network": {"cartesian": True}},
        {"variant": "adversarial, fewer pairs", "fit": {"weights": {"adversarial": 0.05}, "pairs": 4}},
    ],
}


@pytest.fixture
def recipe(tmp_path, perovskite):
    rows = []
    for number in range(8):
        larger = perovskite.copy()
        larger.scale_lattice(perovskite.volume * (1 + 0.02 * number))
        rows.append(pair(larger, perovskite, f"t{number}"))
    return write_recipe(tmp_path, rows)


@pytest.mark.slow
def test_every_variant_gets_its_row_and_is_fitted_once(tmp_path, recipe):
    (tmp_path / "ablations.yaml").write_text(yaml.safe_dump(PLAN))
    seen = []
    rows = ablate(tmp_path / "ablations.yaml", recipe, tmp_path / "runs", lambda name, progress: seen.append(name))
    names = ["base, passes: 1", "base, passes: 2", *(row["variant"] for row in PLAN["variants"][1:])]
    assert [row["variant"] for row in rows] == names
    assert len(seen) == 8
    assert rows[0]["volume_error"] != rows[1]["volume_error"]
    written = json.loads((tmp_path / "ablations.json").read_text())
    assert written["rows"] == rows
    assert (written["note"], written["reading"]) == ("Small ones.", "No difference.")
    again = ablate(tmp_path / "ablations.yaml", recipe, tmp_path / "runs", lambda name, progress: seen.append(name))
    assert again == rows
    assert len(seen) == 8


def test_changes_build_on_each_other(recipe):
    varied = vary(recipe, ({"width": 24}, {"epochs": 2}), ({}, {"weights": {"feature": 0.0}}))
    assert varied.network.width == 24
    assert varied.network.vectors == recipe.network.vectors
    assert (varied.fit.epochs, varied.fit.weights.feature) == (2, 0)
    assert varied.fit.weights.shift == recipe.fit.weights.shift
    assert varied.train == recipe.train


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variants": [{"variant": "a", "network": {"widht": 3}}]}, "widht"),
        ({"variants": []}, "variants"),
        ({"variant": []}, "did you mean 'variants'"),
    ],
)
def test_a_wrong_plan_is_one_clear_error(tmp_path, recipe, change, words):
    (tmp_path / "ablations.yaml").write_text(yaml.safe_dump({**PLAN, **change}))
    with pytest.raises(DataError) as caught:
        ablate(tmp_path / "ablations.yaml", recipe, tmp_path / "runs", lambda name, progress: None)
    assert words in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_plan_that_is_no_yaml(tmp_path, recipe):
    (tmp_path / "ablations.yaml").write_text("a: [")
    with pytest.raises(DataError, match="cannot be read as YAML"):
        ablate(tmp_path / "ablations.yaml", recipe, tmp_path / "runs", lambda name, progress: None)
