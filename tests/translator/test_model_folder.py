"""Model folders that are damaged, hostile, or being replaced."""

import base64
import json
import os
import signal
from pathlib import Path

import pytest

from cryslator_flows.errors import ModelError, StoreError
from cryslator_flows.training.new_model import new_model
from cryslator_flows.training.travel import pack_model, unpack_model
from cryslator_flows.translator.loaded import LoadedModel
from cryslator_flows.translator.model_folder import (
    CALIBRATION,
    CONFIG,
    METRICS,
    MODEL_FILES,
    RECIPE,
    WEIGHTS,
    ModelFolder,
    list_models,
    write_files,
)


@pytest.fixture
def measured(tiny_model):
    """A model whose metrics name its version."""
    write_files(tiny_model.path, {METRICS: json.dumps({"model_version": tiny_model.version()}).encode()})
    return tiny_model


def change_config(model, **numbers):
    path = model.path / CONFIG
    content = json.loads(path.read_text())
    content["network"] |= numbers
    path.write_text(json.dumps(content))


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda model: flip(model.path / WEIGHTS),
        lambda model: flip(model.path / CALIBRATION),
        lambda model: change_config(model, cutoff=5.0),
    ],
)
def test_files_that_are_not_those_of_the_metrics_are_refused(measured, damage):
    LoadedModel(measured)
    before = measured.version()
    damage(measured)
    with pytest.raises(ModelError, match=f"changed after the model was measured .* is of {before}.*install or train"):
        LoadedModel(measured)
    (measured.path / METRICS).unlink()
    assert measured.version() != before


@pytest.mark.parametrize(
    "numbers",
    [
        {"passes": 10**9},
        {"encoder_layers": 10**9},
        {"width": 10**7},
        {"cutoff": 1e6},
        {"cutoff": float("nan")},
        {"neighbors": 0},
        {"radial": 1},
        {"passes": 2.0},
        {"passes": True},
    ],
)
def test_a_network_without_measure_is_refused_before_it_is_built(tiny_model, numbers):
    change_config(tiny_model, **numbers)
    with pytest.raises(ModelError, match=rf"config.json: cannot be read \(.*network.{next(iter(numbers))}: .* is no"):
        LoadedModel(tiny_model)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
@pytest.mark.parametrize("replace", [lambda path: path.symlink_to("/dev/zero"), os.mkfifo])
def test_what_is_no_regular_file_is_not_read(tiny_model, name, replace):
    (tiny_model.path / name).unlink()
    replace(tiny_model.path / name)
    with pytest.raises(ModelError, match=f"{name}: cannot be read \\(not a regular file\\)"):
        LoadedModel(tiny_model)


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "{", "1" * 10_000])
@pytest.mark.parametrize("name", [CONFIG, METRICS])
def test_json_that_is_none_is_named(tiny_model, name, content):
    (tiny_model.path / name).write_text(content)
    with pytest.raises(ModelError, match=name) as caught:
        LoadedModel(tiny_model)
    assert "\n" not in str(caught.value)


def test_one_damaged_model_hides_no_other(run, tiny_model, monkeypatch):
    other = tiny_model.path.with_name("other")
    write_files(other, {name: tiny_model.read(name) for name in MODEL_FILES} | {METRICS: b'{"test": [5]}'})
    (tiny_model.path / WEIGHTS).unlink()
    monkeypatch.setattr("cryslator_flows.settings.SETTINGS.model_dirs", [tiny_model.path.parent])
    code, out, err = run("models")
    assert code == 0
    assert "cryslator-universal" in out
    assert f"left out: {tiny_model.path / WEIGHTS}: cannot be read" in err
    assert f"left out: {other / METRICS}, test: no scores" in err


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def build(folder, content=b"new", before_swap=lambda: None):
    with new_model(folder) as place:
        write_files(place, dict.fromkeys((*MODEL_FILES, RECIPE), content))
        before_swap()


def killed(function):
    """Run a function in a process of its own that ends by SIGKILL."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_kill_while_a_model_is_written_leaves_the_old_one(tmp_path):
    folder = tmp_path / "mine"
    build(folder, b"old")
    (folder / "feature-map.json").write_bytes(b"old")
    (folder / "notes.md").write_bytes(b"own")
    before = content(folder)
    killed(lambda: build(folder, before_swap=die))
    assert content(folder) == before
    assert [*list_models()] == [name for name in list_models() if not name.startswith(".")]
    build(folder)
    # What was drawn of the old weights is gone, and what users wrote is there.
    assert content(folder) == dict.fromkeys((*MODEL_FILES, RECIPE), b"new") | {"notes.md": b"own"}
    assert [*tmp_path.iterdir()] == [folder]


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    build(folder, b"old")
    rename = Path.rename

    def rename_or_die(path, target):
        return die() if path.name == ".mine.partial" else rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename_or_die)
        killed(lambda: build(folder))
    assert not folder.exists()
    with pytest.raises(RuntimeError), new_model(folder):
        raise RuntimeError
    assert set(content(folder).values()) == {b"old"}
    build(folder)
    assert set(content(folder).values()) == {b"new"}


def test_an_error_while_a_model_is_built_leaves_the_old_one(tmp_path):
    folder = tmp_path / "mine"
    build(folder, b"old")

    def fill_the_disk():
        raise OSError(28, "full")

    with pytest.raises(StoreError, match=r"mine: cannot be written \(full\)"):
        build(folder, before_swap=fill_the_disk)
    assert set(content(folder).values()) == {b"old"}
    assert [*tmp_path.iterdir()] == [folder]


def test_two_at_once_and_folders_of_others_are_refused(tmp_path):
    folder = tmp_path / "mine"
    with new_model(folder), pytest.raises(StoreError, match="held by another process; wait until it ends"):
        build(folder)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter-1.tex").write_text("Once")
    with pytest.raises(StoreError, match="thesis: holds files but no model"):
        build(tmp_path / "thesis")
    (tmp_path / "started").mkdir()
    (tmp_path / "started" / RECIPE).write_text("name: started")
    build(tmp_path / "started")
    assert ModelFolder(tmp_path / "started").read(RECIPE) == b"new"


@pytest.mark.parametrize("name", ["../outside", "/outside", "..", ".hidden", "", "a/b"])
def test_a_model_of_a_document_stays_in_its_folder(tiny_model, tmp_path, name):
    packed = pack_model(tiny_model, "base").model_copy(update={"name": name})
    with pytest.raises(ModelError, match="no name of a folder"):
        unpack_model(packed, tmp_path / "inside")
    assert not (tmp_path / "inside").exists()


@pytest.mark.parametrize("damage", ["weights", "config", "missing", "no base64"])
def test_a_damaged_document_writes_nothing(tiny_model, tmp_path, damage):
    packed = pack_model(tiny_model, "base")
    if damage == "weights":
        packed.files[WEIGHTS] = base64.b64encode(b"others").decode()
    elif damage == "config":
        packed.files[CONFIG] = base64.b64encode(tiny_model.read(CONFIG).replace(b"6.0", b"5.0")).decode()
    elif damage == "missing":
        del packed.files[CALIBRATION]
    else:
        packed.files[WEIGHTS] = "?"
    with pytest.raises(ModelError, match="was damaged"):
        unpack_model(packed, tmp_path / "inside")
    assert not (tmp_path / "inside").exists()
