"""Files of a recipe become one tensor file, which is made anew only if something changed."""

import json

import pytest

from cryslator_flows.errors import DataError
from cryslator_flows.training.prepare import prepare
from cryslator_flows.training.recipe import Recipe
from cryslator_flows.training.tensors import load_arrays
from tests.training.test_evaluate import pair


@pytest.fixture
def crystal(perovskite):
    def make(cation, target=None, **columns):
        relaxed = perovskite.copy()
        relaxed.replace_species({"Ca": cation})
        return {**pair(relaxed, relaxed, target or cation), **columns}

    return make


def write(folder, **parts):
    for name, rows in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def recipe(tmp_path, crystal):
    write(tmp_path, train=[crystal("Ca"), crystal("Sr")], val=[crystal("Ba")], test=[crystal("Mg")])
    return Recipe(name="r", **{name: [tmp_path / f"{name}.jsonl"] for name in ("train", "val", "test")})


def relaxed(cation, **columns):
    return {
        "species": [cation, "Ti", "O", "O", "O"],
        "lattice_parameters": [4, 4, 4, 90, 90, 90],
        "frac": [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
        **columns,
    }


@pytest.mark.parametrize(
    ("cation", "columns", "words"),
    [
        ("Ba", {}, "target's formula BaTiO3 is one of the validation pairs"),
        ("Mg", {}, "target's formula TiMgO3|target's formula MgTiO3 is one of the test pairs"),
        ("Sr", {"template": "Mg"}, "template Mg is a target of the test pairs"),
        ("Sr", {"template_formula": "Ba2Ti2O6"}, "template_formula Ba2Ti2O6 is a target of the validation pairs"),
    ],
)
def test_a_training_line_that_leaks_is_refused(tmp_path, recipe, crystal, cation, columns, words):
    write(tmp_path, train=[crystal("Ca"), crystal(cation, "x", **columns)])
    with pytest.raises(DataError, match=rf"train.jsonl, line 2: the ({words}).*; remove the pair"):
        prepare(recipe, tmp_path / "p.npz")


def test_rows_of_another_part_are_no_leaks(tmp_path, recipe, crystal):
    rows = [crystal("Ca", split="train"), crystal("Ba", split="val"), crystal("Mg", split="test")]
    write(tmp_path, all=rows)
    recipe = Recipe(name="r", **{name: [tmp_path / "all.jsonl"] for name in ("train", "val", "test")})
    prepare(recipe, tmp_path / "p.npz")
    write(tmp_path, all=[*rows, crystal("Ba", split="train")])
    with pytest.raises(DataError, match=r"all.jsonl, line 4: the target's formula"):
        prepare(recipe, tmp_path / "p.npz")


def test_the_split_of_a_publication_shares_formulas_but_no_crystals(tmp_path, recipe, crystal):
    recipe.split_by = "crystal"
    write(tmp_path, train=[crystal("Ca"), crystal("Mg", "another")])
    prepare(recipe, tmp_path / "p.npz")
    write(tmp_path, train=[crystal("Ca"), crystal("Mg")])
    with pytest.raises(DataError, match=r"line 2: the target Mg is one of the test pairs"):
        prepare(recipe, tmp_path / "p.npz")


def test_a_relaxed_crystal_that_leaks_is_refused(tmp_path, recipe):
    recipe.relaxed = tmp_path / "relaxed.jsonl"
    write(tmp_path, relaxed=[relaxed("Sr"), relaxed("Ba", split="val")])
    prepare(recipe, tmp_path / "p.npz")
    assert len(load_arrays(tmp_path / "p.npz")["relaxed/n_atoms"]) == 1
    write(tmp_path, relaxed=[relaxed("Sr"), relaxed("Ba")])
    with pytest.raises(DataError, match=r"relaxed.jsonl, line 2: formula BaTiO3 is one of the validation pairs"):
        prepare(recipe, tmp_path / "p.npz")


def test_pairs_that_are_split_here_lose_those_that_leak(tmp_path, crystal):
    cations = ["Ca", "Sr", "Ba", "Mg", "Cd", "Pb"]
    recipe = Recipe(name="r", pairs=tmp_path / "pairs.jsonl", shares=(0.5, 0.25, 0.25))
    write(tmp_path, pairs=[crystal(cation) for cation in cations])
    prepare(recipe, tmp_path / "p.npz")
    before = load_arrays(tmp_path / "p.npz")
    write(tmp_path, pairs=[crystal(cation, template_formula=f"{other}TiO3") for cation in cations for other in cations])
    prepare(recipe, tmp_path / "p.npz")
    after = load_arrays(tmp_path / "p.npz")
    assert int(after["left_out"]) > int(before["left_out"]) == 0
    assert len(after["train/n_atoms"]) + int(after["left_out"]) == 6 * len(before["train/n_atoms"])


def test_every_element_has_a_volume(tmp_path, recipe, perovskite):
    """Few crystals of equal composition leave the volumes of their elements open."""
    prepare(recipe, tmp_path / "p.npz")
    volumes = load_arrays(tmp_path / "p.npz")["elements/volumes"]
    assert volumes.min() >= 1
    for cation in (20, 38):
        assert float(volumes[cation] + volumes[22] + 3 * volumes[8]) == pytest.approx(perovskite.volume, rel=1e-3)


def test_validation_pairs_without_a_number_are_named(tmp_path, recipe, crystal):
    write(tmp_path, val=[crystal("Ba", formation_energy_per_atom=None)])
    with pytest.raises(DataError, match=r"val.jsonl: no pair has a number"):
        prepare(recipe, tmp_path / "p.npz")


@pytest.mark.parametrize("value", [1e8, float("inf"), float("nan"), True])
def test_a_target_of_no_use_is_named(tmp_path, recipe, crystal, value):
    write(tmp_path, train=[crystal("Ca", stiffness=value)])
    with pytest.raises(DataError, match=r"stiffness of Ca: .* is not a number up to 10000; .*another unit"):
        prepare(recipe.model_copy(update={"target": "stiffness"}), tmp_path / "p.npz")


def test_the_same_recipe_and_files_are_not_prepared_again(tmp_path, recipe, crystal, monkeypatch):
    path = tmp_path / "p.npz"
    prepare(recipe, path)
    made = path.stat().st_ino
    with monkeypatch.context() as patch:
        patch.setattr("cryslator_flows.training.prepare.read_training", None)
        prepare(recipe, path)
    assert path.stat().st_ino == made

    def changed(recipe):
        before = path.read_bytes(), path.stat().st_ino
        prepare(recipe, path)
        assert path.stat().st_ino != before[1]
        return path.read_bytes() != before[0]

    write(tmp_path, train=[crystal("Ca"), crystal("Sr", formation_energy_per_atom=-9.0)])
    assert changed(recipe)
    write(tmp_path, test=[crystal("Pb")])
    assert changed(recipe)
    assert changed(recipe.model_copy(update={"target": "formation_energy_per_atom", "shares": (0.7, 0.2, 0.1)}))
    path.write_bytes(path.read_bytes()[:-100])
    assert changed(recipe)
    monkeypatch.setattr("cryslator_flows.training.prepare.version", lambda package: "next")
    assert changed(recipe)
