import json

import numpy as np
import pytest
from pymatgen.core import Structure

from cryslator_flows.errors import DataError, ModelError, StructureError
from cryslator_flows.training.prepare import prepare
from cryslator_flows.training.recipe import Recipe
from cryslator_flows.training.train import train
from cryslator_flows.translator.property_predictor import PropertyPredictor
from cryslator_flows.translator.translator import Translator
from tests.training.test_evaluate import pair

SHAPE = {"width": 16, "vectors": 4, "encoder_layers": 1, "translator_layers": 1, "neighbors": 8, "radial": 4}


def write_recipe(folder, rows, held=None, **fields):
    """Files of pairs to train on and of those held back; by default the same crystals with another element."""
    held = held or [{**row, "species": ["Zr" if name == "Ti" else name for name in row["species"]]} for row in rows]
    for name, part in (("train", rows), ("val", held)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)))
    content = {
        "name": "mine", "train": "train.jsonl", "val": "val.jsonl", "test": "val.jsonl", "network": SHAPE,
        "fit": {
            "epochs": 120, "batch_size": 8, "learning_rate": 0.01, "warmup_steps": 20, "ema_decay": 0.9, "threads": 1,
        },
    } | fields  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(content))
    return Recipe.from_file(folder / "recipe.yaml")


@pytest.mark.slow
def test_another_column_is_learnt_from_the_unrelaxed_structure(tmp_path, perovskite):
    """The density of the relaxed crystal, which pymatgen computes, from a structure of the wrong size."""
    rng = np.random.default_rng(0)
    rows = []
    for number, element in enumerate(["Mg", "Ca", "Sr", "Ba", "Cd"] * 8):
        relaxed = perovskite.copy()
        relaxed.replace_species({"Ca": element})
        unrelaxed = relaxed.copy()
        unrelaxed.scale_lattice(relaxed.volume * rng.uniform(0.8, 1.2))
        rows.append({**pair(unrelaxed, relaxed, f"t{number}", None), "density": float(relaxed.density)})
    recipe = write_recipe(tmp_path, rows[10:], rows[:10], target="density", unit="g/cm^3", split_by="crystal")
    model = train(recipe, tmp_path / "recipe.yaml", tmp_path / "mine", tmp_path / "run", lambda _: None, lambda _: None)
    predictor = PropertyPredictor.from_pretrained(model.path)
    structures = [Structure(row["unrelaxed"]["lattice"], row["species"], row["unrelaxed"]["frac"]) for row in rows]
    found = predictor.predict_many(structures)
    truth = np.array([row["density"] for row in rows])
    values = np.array([prediction.value for prediction in found])
    assert np.abs(values - truth).mean() < 0.3 * np.abs(truth - truth.mean()).mean()
    assert {(prediction.target, prediction.unit) for prediction in found} == {("density", "g/cm^3")}
    assert all(0 < prediction.uncertainty < prediction.uncertainty_90 for prediction in found)
    assert "MAE (g/cm^3)" in (model.path / "README.md").read_text()
    # It is not a model of formation energies, and says so.
    with pytest.raises(ModelError, match=r"predicts 'density'.*PropertyPredictor"):
        Translator.from_pretrained(model.path)


def test_a_column_that_is_not_there_is_named(tmp_path, perovskite):
    recipe = write_recipe(tmp_path, [pair(perovskite, perovskite)], target="band_gap")
    with pytest.raises(DataError, match=r"train\.jsonl: no pair has a number under 'band_gap'"):
        prepare(recipe, tmp_path / "p.npz")
    recipe = write_recipe(tmp_path, [{**pair(perovskite, perovskite), "band_gap": "wide"}], target="band_gap")
    with pytest.raises(DataError, match="band_gap of a: 'wide' is not a number"):
        prepare(recipe, tmp_path / "p.npz")


def test_bad_structure_is_named(tiny_model, perovskite):
    predictor = PropertyPredictor.from_pretrained(tiny_model.path)
    assert len(predictor.predict_many([perovskite] * 3)) == 3
    assert predictor.predict_many([]) == []
    with pytest.raises(StructureError, match=r"structures\[1\]"):
        predictor.predict_many([perovskite, Structure(np.eye(3) * 4, ["Fe"], [[np.nan, 0, 0]])])
