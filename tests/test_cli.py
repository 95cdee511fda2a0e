import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from pymatgen.core import DummySpecies, Lattice, Structure
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


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_translate_a_file(run, tmp_path, perovskite):
    perovskite.to(str(tmp_path / "a.cif"))
    code, out, _ = run("translate", tmp_path / "a.cif", tmp_path / "out.jsonl")
    assert code == 0
    assert "1 translated, 0 failed" in out
    (row,) = lines(tmp_path / "out.jsonl")
    assert Structure.from_dict(row["structure"]).composition == perovskite.composition
    assert row["formation_energy_per_atom"] < 0 < row["formation_energy_uncertainty"]
    assert "error" not in row


def test_translate_a_batch_goes_on_past_bad_input(run, tmp_path, perovskite, rutile):
    disordered = Structure(Lattice.cubic(4), [{"Fe": 0.5, "Mn": 0.5}], [[0, 0, 0]])
    rows = [perovskite, disordered, Structure(Lattice.cubic(30), ["Fe"], [[0, 0, 0]]), rutile]
    source = tmp_path / "in.jsonl.gz"
    with gzip.open(source, "wt") as file:
        file.write("\n".join(json.dumps(row.as_dict()) for row in rows) + "\nnonsense\n")
    code, out, err = run("translate", source, tmp_path / "out.jsonl")
    assert code == 1
    assert "2 translated, 3 failed" in out
    assert out.endswith("failed 1 disordered failed 1 isolated atom failed 1 not readable as a crystal")
    assert "failed: the last one:" in err
    assert "line 5" in err
    results = lines(tmp_path / "out.jsonl")
    assert ["error" in row for row in results] == [False, True, True, False, True]
    assert results[1]["error"].startswith(f"{source}, line 2, site 0: disordered")
    assert "isolated" in results[2]["error"]
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl.gz", "out.jsonl"}


def test_stopped_translation_leaves_nothing(run, tmp_path, perovskite, monkeypatch):
    (tmp_path / "in.jsonl").write_text(json.dumps(perovskite.as_dict()) + "\n")

    def stopped(self, rows):
        yield next(iter(rows))[0], self.translate(perovskite)
        raise KeyboardInterrupt

    monkeypatch.setattr("cryslator_flows.translator.translator.Translator.translate_labelled", stopped)
    code, _, err = run("translate", tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert code == 130
    assert "Stopped after 1 structures. Nothing was written; run the same command to restart." in err
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_text(""), "empty file"),
        (lambda path: path.write_text("nonsense"), "not readable"),
        (lambda path: None, "no such file"),
        (
            lambda path: Structure(Lattice.cubic(3), ["Cu"], [[0] * 3]).make_supercell([10, 10, 20]).to(str(path)),
            "2000",
        ),
    ],
)
def test_translate_nothing_but_bad_input(run, tmp_path, make, words):
    make(tmp_path / "a.cif")
    code, out, err = run("translate", tmp_path / "a.cif", tmp_path / "out.jsonl")
    assert code == 2
    assert err.count("Error:") == 1
    assert words in err
    assert "a.cif" in err
    assert "Traceback" not in err + out


def test_finished_output_is_not_touched_by_a_failing_run(run, tmp_path):
    (tmp_path / "out.jsonl").write_text("precious")
    assert run("translate", tmp_path / "none.cif", tmp_path / "out.jsonl", "--overwrite")[0] == 2
    assert (tmp_path / "out.jsonl").read_text() == "precious"


def test_output_is_never_the_input(run, tmp_path, perovskite, tiny_model):
    folder = tmp_path / "folder"
    folder.mkdir()
    perovskite.to(str(folder / "a.cif"))
    before = (folder / "a.cif").read_text()
    (tmp_path / "link").symlink_to(folder / "a.cif")
    for target in (folder / "a.cif", tmp_path / "link"):
        code, _, err = run("translate", folder / "a.cif", target, "--model", tiny_model.path)
        assert (code, "is read by this command; give another file" in err) == (2, True)
        assert (folder / "a.cif").read_text() == before
    for more in ((), ("--overwrite",)):
        assert run("translate", folder, folder / "out.jsonl", "--model", tiny_model.path, *more)[0] == 0
        assert [row["source"] for row in lines(folder / "out.jsonl")] == [str(folder / "a.cif")]
    assert {path.name for path in folder.iterdir()} == {"a.cif", "out.jsonl"}
    code, _, err = run("translate", tmp_path / ("n" * 300), tmp_path / "out.jsonl")
    assert (code, "nnn: File name too long" in err, "out.jsonl" in err) == (2, True, False)


def test_output_through_links_and_to_devices(run, tmp_path, perovskite, tiny_model):
    perovskite.to(str(tmp_path / "a.cif"))
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "out.jsonl").symlink_to("target.jsonl")
    (tmp_path / "out.jsonl.partial").symlink_to("precious")
    assert run("translate", tmp_path / "a.cif", tmp_path / "out.jsonl", "--model", tiny_model.path)[0] == 0
    assert len(lines(tmp_path / "target.jsonl")) == 1
    assert (tmp_path / "out.jsonl").is_symlink()
    assert (tmp_path / "precious").read_text() == "precious"
    assert run("translate", tmp_path / "a.cif", "/dev/null", "--model", tiny_model.path)[0] == 0
    assert Path("/dev/null").is_char_device()
    code, _, err = run("translate", tmp_path / "a.cif", "/dev/full", "--model", tiny_model.path)
    assert code == 2
    assert "/dev/full: cannot be written (No space left on device); free some space" in err
    for target in ("", ".", tmp_path):
        code, _, err = run("translate", tmp_path / "a.cif", target)
        assert (code, err.count("is a folder with files; give a new folder, or the name of a file")) == (2, 1)
    code, _, err = run("translate", tmp_path / "a.cif", tmp_path / "precious")
    assert (code, "precious: is a file; give a new folder, or end the name in one of .jsonl" in err) == (2, True)


def test_names_are_text(run, tmp_path, perovskite, tiny_model):
    folder = tmp_path / "my[" / "structures]"
    folder.mkdir(parents=True)
    perovskite.to(str(folder / "a.cif"))
    target = tmp_path / "o[bold] :smile: \x1b[2J.jsonl"
    code, out, _ = run("translate", folder / "a.cif", target, "--model", tiny_model.path)
    assert code == 0
    assert out.endswith(r"o[bold] :smile: \x1b[2J.jsonl")
    (folder / "\x1b]0;x\x07.cif").write_text("nonsense")
    code, out, err = run("translate", folder, tmp_path / "x[" / "b].jsonl", "--model", tiny_model.path)
    assert (code, "no folder" in err, "x[/b].jsonl" in err) == (2, True, True)
    code, out, err = run("translate", folder, target, "--model", tiny_model.path, "--overwrite")
    assert code == 1
    assert r"my[/structures]/\x1b]0;x\x07.cif: not readable" in err
    assert "\x1b" not in out + err


def test_every_terminal_and_every_user(tmp_path, perovskite, tiny_model):
    """A terminal of few characters, and a user without home whom the machine does not know, as in containers."""
    (tmp_path / "кристаллы").mkdir()
    perovskite.to(str(tmp_path / "кристаллы" / "a.cif"))
    code = (
        "import pwd\n"
        "def unknown(uid): raise KeyError(f'getpwuid(): uid not found: {uid}')\n"
        "pwd.getpwuid = unknown\n"
        "from cryslator_flows.cli.main import main\n"
        "try: main()\n"
        "finally: import jobflow"
    )
    known = ("PATH", "PYTHONPATH", "OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
    environment = {name: os.environ[name] for name in known if name in os.environ}
    command = [sys.executable, "-c", code, "translate", "кристаллы", "вывод.jsonl", "--model", str(tiny_model.path)]
    ended = subprocess.run(
        command, cwd=tmp_path, env={**environment, "PYTHONIOENCODING": "latin-1"}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert r"1 translated, 0 failed: \u0432\u044b\u0432\u043e\u0434.jsonl" in ended.stdout


def test_a_command_that_is_stopped_says_so_in_one_line(run, monkeypatch):
    def stopped():
        raise KeyboardInterrupt

    monkeypatch.setattr("cryslator_flows.translator.model_folder.list_models", stopped)
    assert run("models") == (130, "", "Stopped. Run the same command to repeat it.")


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


def test_unwritable_output_and_unknown_model(run, tmp_path, perovskite):
    perovskite.to(str(tmp_path / "a.cif"))
    code, _, err = run("translate", tmp_path / "a.cif", tmp_path / "no" / "folder.jsonl")
    assert code == 2
    assert "cannot be written" in err
    code, _, err = run("translate", tmp_path / "a.cif", tmp_path / "out.jsonl", "--model", "nope")
    assert code == 2
    assert "model 'nope': unknown; choose from: " in err


def test_dummy_species_in_a_row(run, tmp_path):
    odd = Structure(Lattice.cubic(4), [DummySpecies("X")], [[0, 0, 0]])
    (tmp_path / "in.jsonl").write_text(json.dumps(odd.as_dict()))
    code, _, err = run("translate", tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert code == 2
    assert "not an element" in err


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


def test_screen_names_the_mistake(run, tmp_path):
    (tmp_path / "c.yaml").write_text("nam: x")
    code, _, err = run("screen", tmp_path / "c.yaml")
    assert code == 2
    assert "c.yaml, line 1, file: unknown key 'nam'; did you mean 'name'?" in err


def test_models_lists_the_released_ones(run):
    code, out, _ = run("models")
    assert code == 0
    assert "cryslator-universal" in out
    assert "eV/atom" in out


COMMANDS = [
    "screen",
    "submit",
    "status",
    "report",
    "serve",
    "export",
    "translate",
    "evaluate",
    "train",
    "calibrate",
    "map",
    "models",
]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help(run, command):
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert "Usage" in out
    if command and command != ["models"]:
        assert "Example" in out


def test_console_script_is_installed():
    result = subprocess.run([Path(sys.executable).with_name("cryslator"), "--help"], capture_output=True, text=True)
    assert result.returncode == 0
    assert "screen" in result.stdout
