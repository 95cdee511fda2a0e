"""The commands train and evaluate."""

import gzip
import json

import pytest
import torch
import yaml
from safetensors.torch import save

from cryslator_flows.translator.model_folder import (
    CALIBRATION,
    FORMATION_ENERGY,
    METRICS,
    MODEL_FILES,
    WEIGHTS,
    ModelFolder,
    list_models,
    version_of,
    write_files,
)
from tests.training.test_evaluate import pair


def test_damaged_pairs_are_named(run, tmp_path, perovskite):
    write_pairs(tmp_path / "pairs.jsonl", perovskite, 3)
    packed = bytearray(gzip.compress((tmp_path / "pairs.jsonl").read_bytes()))
    for place in (12, len(packed) // 2, len(packed) - 6):
        damaged = packed.copy()
        damaged[place] ^= 0xFF
        (tmp_path / "pairs.jsonl.gz").write_bytes(damaged)
        code, _, err = run("evaluate", tmp_path / "pairs.jsonl.gz")
        assert (code, err.count("Error:"), "pairs.jsonl.gz" in err) == (2, 1, True)


def test_scores_do_not_replace_the_pairs(run, tmp_path, perovskite):
    write_pairs(tmp_path / "pairs.jsonl", perovskite, 3)
    before = (tmp_path / "pairs.jsonl").read_text()
    code, _, err = run("evaluate", tmp_path / "pairs.jsonl", "--json", tmp_path / "pairs.jsonl")
    assert (code, "is read by this command" in err) == (2, True)
    assert (tmp_path / "pairs.jsonl").read_text() == before


def write_pairs(path, perovskite, count=12, cation="Ca"):
    relaxed = perovskite.copy()
    relaxed.replace_species({"Ca": cation})
    rows = []
    for number in range(count):
        larger = relaxed.copy()
        larger.scale_lattice(perovskite.volume * (1.05 + 0.01 * number))
        rows.append(pair(larger, relaxed, target=f"t{number}"))
    path.write_text("\n".join(map(json.dumps, rows)))


def write_parts(folder, perovskite):
    """Files of a formula each, as fields of a recipe."""
    names = {"train": "Ca", "val": "Sr", "test": "Ba"}
    for name, cation in names.items():
        write_pairs(folder / f"{name}.jsonl", perovskite, cation=cation)
    return {name: f"{name}.jsonl" for name in names}


def test_evaluate_prints_and_writes(run, tmp_path, perovskite):
    write_pairs(tmp_path / "pairs.jsonl", perovskite, 3)
    code, out, _ = run("evaluate", tmp_path / "pairs.jsonl", "--json", tmp_path / "scores.json")
    assert code == 0
    for word in ("3 targets", "input copied", "volume only", "cryslator-universal", "MAE", "within the 90 % interval"):
        assert word in out
    scores = json.loads((tmp_path / "scores.json").read_text())
    copied = scores[0]["scores"][0]
    assert (copied["method"], copied["input"]) == ("input copied", "unrelaxed")
    assert copied["structure"]["volume_error"] == pytest.approx(0.06, abs=1e-6)
    (tmp_path / "bad.jsonl").write_text("{}")
    code, _, err = run("evaluate", tmp_path / "bad.jsonl")
    assert code == 2
    assert "bad.jsonl, line 1, target" in err


def test_train_from_recipe_to_model_and_again(run, tmp_path, perovskite):
    recipe = {
        "name": "mine", **write_parts(tmp_path, perovskite),
        "network": {"width": 16, "vectors": 8, "encoder_layers": 1, "translator_layers": 1, "radial": 6},
        "fit": {"epochs": 2, "batch_size": 4, "threads": 1},
        "card": {"aim": "To test.", "licence": "MIT"},
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command = "train", tmp_path / "recipe.yaml", "-o", tmp_path / "models/mine", "--run-dir", tmp_path / "run"
    code, _, err = run(*command)
    assert code == 0, err
    assert "epoch 2" in err
    model = ModelFolder(tmp_path / "models/mine")
    assert model.config().elements == ["O", "Ca", "Ti"]
    assert model.metrics()["test"][0]["n_targets"] == 12
    card = (model.path / "README.md").read_text()
    assert "To test." in card
    assert f"Version `{model.version()}`" in card
    version = model.version()
    code, _, err = run(*command)  # nothing left to do: the same model again
    assert (code, ModelFolder(model.path).version()) == (0, version)
    assert "epoch" not in err
    perovskite.to(str(tmp_path / "a.cif"))
    assert run("translate", tmp_path / "a.cif", tmp_path / "o.jsonl", "--model", model.path)[0] == 0

    # A model of an older version has no counts of training crystals.
    weights, before = model.read(WEIGHTS), model.calibration()
    old = {name: value for name, value in model.tensors(CALIBRATION).items() if not name.startswith("seen")}
    write_files(model.path, {CALIBRATION: save(old)})
    stated = {**model.metrics(), "model_version": version_of({name: model.read(name) for name in MODEL_FILES})}
    write_files(model.path, {METRICS: json.dumps(stated).encode()})
    again = "translate", tmp_path / "a.cif", tmp_path / "again.jsonl", "--model", model.path
    code, _, err = run(*again)
    assert code == 2
    assert f"lacks 'seen.elements'; run `cryslator calibrate {model.path} --data DIR`" in err
    code, out, err = run("calibrate", model.path, "--data", tmp_path)
    assert code == 0, err
    assert f"version {model.version()}" in out
    after = model.calibration()
    assert model.read(WEIGHTS) == weights
    assert torch.equal(after.seen.elements, before.seen.elements)
    assert torch.equal(after.known, before.known)
    assert torch.allclose(after.quantiles, before.quantiles, rtol=0.01)
    assert f"Version `{model.version()}`" in (model.path / "README.md").read_text()
    assert model.metrics()["test"][0]["models"] == {"mine": model.version()}
    assert model.metrics()["training"] == stated["training"]
    assert run(*again)[0] == 0
    write_pairs(tmp_path / "train.jsonl", perovskite, cation="Li")
    code, _, err = run("calibrate", model.path, "--data", tmp_path)
    assert code == 2
    assert "trained on Ca, O, Ti, but the training pairs have Li, O, Ti" in err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fit": {"epochs": 0}}, "epochs: 0 is not at least 1"),
        ({"fit": {"batch_size": 0}}, "batch_size: 0 is not at least 1"),
        ({"fit": {"pairs": 0}}, "pairs: 0 is not at least 1"),
        ({"fit": {"warmup_steps": 0}}, "warmup_steps: 0 is not at least 1"),
        ({"fit": {"minutes": 0}}, "minutes: 0.0 is not above 0"),
        ({"fit": {"denoising_share": 1.0}}, "denoising_share: 1.0 is not from 0 to below 1"),
        ({"reference": {"network": {"feature": 200}}}, "network.feature: 200 is not a square number"),
        ({"reference": {"network": {"feature": 9}}}, "network.feature: 9 is not a square number"),
    ],
)
def test_settings_that_cannot_be_fitted_are_refused(run, tmp_path, perovskite, change, words):
    recipe = {"name": "mine", **write_parts(tmp_path, perovskite), **change}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    code, _, err = run("train", tmp_path / "recipe.yaml", "-o", tmp_path / "mine", "--run-dir", tmp_path / "run")
    assert (code, "recipe.yaml" in err, words in err) == (2, True, True), err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_reference_is_trained_evaluated_beside_the_others_and_mapped(run, tmp_path, perovskite, monkeypatch):
    write_pairs(tmp_path / "pairs.jsonl", perovskite)
    small = {"width": 8, "layers": 1, "feature": 16, "channels": 2, "cell_width": 8, "cell_layers": 1,
             "position_width": 8, "position_layers": 1}  # fmt: skip
    minutes = dict.fromkeys(["energy_minutes", "translation_minutes", "cell_minutes", "position_minutes"], 0.01)
    recipe = {
        "name": "paper", **write_parts(tmp_path, perovskite),
        "relaxed": "relaxed.jsonl", "reference": {"network": small, "fit": {**minutes, "threads": 1}},
        "card": {"deviations": ["Smaller."]},
    }  # fmt: skip
    alone = {"species": [site.specie.symbol for site in perovskite], "frac": perovskite.frac_coords.tolist(),
             "lattice_parameters": perovskite.lattice.parameters, "formation_energy_per_atom": -3.0}  # fmt: skip
    (tmp_path / "relaxed.jsonl").write_text("\n".join([json.dumps(alone)] * 4))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    folder = tmp_path / "models/paper"
    code, _, err = run("train", tmp_path / "recipe.yaml", "-o", folder, "--run-dir", tmp_path / "run")
    assert code == 0, err
    assert "translation epoch 1" in err
    card = (folder / "README.md").read_text()
    assert "| energy-R+U |" in card
    assert "- Smaller." in card

    monkeypatch.setattr("cryslator_flows.settings.SETTINGS.model_dirs", [folder.parent])
    energies = {name: model for name, model in list_models().items() if model.config().target == FORMATION_ENERGY}
    code, out, err = run("evaluate", tmp_path / "pairs.jsonl", "--all", "--json", tmp_path / "scores.json")
    assert code == 0, err
    for word in ("intermediate input", "relaxed input", "GCN_R", "GCN_R+U", "paper", *energies):
        assert word in out
    (scores,) = json.loads((tmp_path / "scores.json").read_text())
    kinds = [model.config().model_type for model in energies.values()]
    assert len(scores["models"]) == len(kinds) >= 2
    assert len(scores["scores"]) == 3 * (2 + len(kinds) + 3 * kinds.count("cryslator-2023"))

    code, out, err = run("map", tmp_path / "pairs.jsonl", "--model", "paper")
    assert code == 0, err
    assert "nearest_is_own" in out
    assert "feature-map.png" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"name": "a", "train": "x.jsonl", "val": "x.jsonl", "trian": 1}, "did you mean 'train'"),
        ({"name": "a", "val": "x.jsonl"}, "no pairs: name files under train and val"),
        ({"name": "a", "train": "x.jsonl", "val": "x.jsonl"}, "x.jsonl: cannot be read"),
        ({"name": "a", "train": "x.jsonl", "val": "x.jsonl", "fit": {"epoch": 1}}, "fit.epoch"),
        (
            {"name": "a", "train": "x.jsonl", "val": "x.jsonl", "network": {"passes": 10**9}},
            "network.passes: 1000000000 is not a whole number from 1 to 20",
        ),
        ({"name": "a", "train": "x.jsonl", "val": "x.jsonl", "fit": {"weights": {"enrgy": 1}}}, "fit.weights.enrgy"),
        ({"name": "a", "train": "empty.jsonl", "val": "empty.jsonl"}, "empty.jsonl: no pairs"),
    ],
)
def test_mistakes_in_a_recipe(run, tmp_path, content, words):
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    code, _, err = run("train", tmp_path / "recipe.yaml", "-o", tmp_path / "m", "--run-dir", tmp_path / "r")
    assert code == 2
    assert words in err
