import json
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from cryslator_flows.errors import DataError
from cryslator_flows.training.checkpoint import sole_training
from cryslator_flows.training.fit import Fit, fit
from cryslator_flows.training.fit_settings import FitConfig
from cryslator_flows.training.loss import loss_terms, measure_scales
from cryslator_flows.training.tensors import to_arrays
from cryslator_flows.training.validation import validate
from cryslator_flows.translator.geometry import shift_between, strain_between
from cryslator_flows.translator.network import Network, NetworkConfig
from tests.training.test_tensors import random_pairs

SHAPE = NetworkConfig(width=24, vectors=8, encoder_layers=1, translator_layers=1, neighbors=10, radial=6)


def arrays(pairs, val):
    numbers = {
        "elements/table": np.random.default_rng(0).normal(size=(119, 7)).astype(np.float32),
        "elements/radii": np.ones(119, dtype=np.float32),
        "elements/volumes": np.full(119, 15.0, dtype=np.float32),
    }
    return {
        **{name: torch.from_numpy(value) for name, value in numbers.items()},
        **{
            name: torch.from_numpy(value)
            for prefix, part in (("train", pairs), ("val", val), ("relaxed", val))
            for name, value in to_arrays(part, prefix).items()
        },
    }


def write_prepared(path, config, pairs=None):
    pairs = pairs or random_pairs(0, count=24)
    settings = json.dumps({"network": asdict(SHAPE), "fit": asdict(config)}).encode()
    content = {name: value.numpy() for name, value in arrays(pairs, random_pairs(1, count=6)).items()}
    np.savez(path, **content, settings=np.frombuffer(settings, dtype=np.uint8))


def test_perfect_prediction_has_no_error():
    """A network that says the truth has zero loss in every structural term."""
    pairs = random_pairs(4)
    scales = measure_scales(pairs)

    class Oracle(Network):
        def forward(self, crystals):
            return replace(
                super().forward(crystals),
                strain=strain_between(crystals.lattices, pairs.relaxed_lattices),
                shift=shift_between(crystals, pairs.relaxed),
                energy=pairs.energy,
            )

    oracle = Oracle(SHAPE)
    terms = loss_terms(oracle, Network(SHAPE), pairs.unrelaxed, pairs, scales)
    for name in ("volume", "shape", "shift", "distance"):
        assert terms[name].item() == pytest.approx(0, abs=1e-4)
    metrics = validate(oracle, pairs)
    assert metrics["energy_mae"] == 0
    assert metrics["volume_error"] == pytest.approx(0, abs=1e-5)
    assert metrics["displacement"] == pytest.approx(0, abs=1e-5)


@pytest.mark.slow
def test_learns_a_small_set_by_heart():
    pairs = random_pairs(0, count=16)
    config = FitConfig(epochs=150, batch_size=8, warmup_steps=20, ema_decay=0.98, denoising_share=0.0, threads=1)
    state = Fit(arrays(pairs, pairs), SHAPE, config, "cpu")
    first = state.run_epoch()
    while state.done < 1:
        last = state.run_epoch()
    assert last.validation["energy_mae"] < 0.4 * first.validation["energy_mae"]
    assert last.validation["volume_error"] < 0.4 * first.validation["volume_error"]
    assert last.loss["shift"] < 0.85 * first.loss["shift"]


def test_unknown_energies_are_left_out():
    pairs = replace(random_pairs(0), energy=torch.full((4,), float("nan")))
    network = Network(SHAPE)
    terms = loss_terms(network, network, pairs.unrelaxed, pairs, measure_scales(pairs))
    assert all(torch.isfinite(term) for term in terms.values())
    assert terms["energy"] == 0


def test_crystals_of_another_functional_teach_energies_alone():
    """The structural terms are those of the settled crystals, whatever the others look like."""
    pairs = random_pairs(0)
    settled = torch.tensor([True, False, True, False])
    pairs, network = replace(pairs, settled=settled), Network(SHAPE)
    scales = measure_scales(pairs)
    terms = loss_terms(network, network, pairs.unrelaxed, pairs, scales)
    alone = pairs.take(torch.nonzero(settled).flatten())
    expected = loss_terms(network, network, alone.unrelaxed, alone, scales)
    for name in ("volume", "shape", "shift", "distance", "feature"):
        assert terms[name].item() == pytest.approx(expected[name].item(), rel=1e-4), name
    assert terms["energy"].item() != pytest.approx(expected["energy"].item(), rel=1e-4)
    unsettled = replace(pairs, settled=torch.zeros(4, dtype=torch.bool))
    terms = loss_terms(network, network, unsettled.unrelaxed, unsettled, scales)
    assert [terms[name].item() for name in ("volume", "shape", "shift", "distance", "feature")] == [0] * 5


def test_fit_killed_within_an_epoch_is_the_uninterrupted_one(tmp_path, monkeypatch):
    config = FitConfig(epochs=2, batch_size=8, warmup_steps=2, threads=1)
    write_prepared(tmp_path / "p.npz", config)
    whole = fit(tmp_path / "p.npz", tmp_path / "whole", lambda progress: None)
    monkeypatch.setattr("cryslator_flows.training.fit.SAVE_SECONDS", 0.0)

    class Kill(Exception):
        pass

    def kill(done):
        raise Kill

    kills = 0
    while True:
        try:
            parts = fit(tmp_path / "p.npz", tmp_path / "parts", lambda progress: None, kill)
            break
        except Kill:
            kills += 1
    assert kills == whole.step > 2 * 2
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, parts.network.state_dict()[name]), name
    for one, other in zip(whole.history, parts.history, strict=True):
        assert one.loss == pytest.approx(other.loss)
        assert one.validation == other.validation


def test_stopped_and_resumed_fit_is_the_uninterrupted_one(tmp_path):
    config = FitConfig(epochs=3, batch_size=8, warmup_steps=2, threads=1)
    write_prepared(tmp_path / "p.npz", config)
    whole = fit(tmp_path / "p.npz", tmp_path / "whole", lambda progress: None)

    class Stop(Exception):
        pass

    def stop(progress):
        raise Stop

    for _ in range(2):
        with pytest.raises(Stop):
            fit(tmp_path / "p.npz", tmp_path / "parts", stop)
    parts = fit(tmp_path / "p.npz", tmp_path / "parts", lambda progress: None)
    assert parts.epoch == whole.epoch == 3
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, parts.network.state_dict()[name]), name
    lines = (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    # Killed after its last checkpoint, before the metrics.
    (tmp_path / "parts" / "metrics.jsonl").unlink()
    fit(tmp_path / "p.npz", tmp_path / "parts", lambda progress: None)
    assert (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines() == lines


@pytest.mark.parametrize(("relaxed", "share", "steps"), [(0, 0.15, 4), (6, 0.15, 5), (6, 0.0, 4), (9, 0.99, 29)])
def test_epochs_are_passes_over_all_pairs(relaxed, share, steps):
    """Where there are no relaxed crystals, no part of a batch is theirs."""
    parts = arrays(random_pairs(0, count=29), random_pairs(1, count=9))
    parts |= {
        name: torch.from_numpy(value) for name, value in to_arrays(random_pairs(2, count=relaxed), "relaxed").items()
    }
    config = FitConfig(epochs=2, batch_size=8, denoising_share=share, threads=1)
    state = Fit(parts, SHAPE, config, "cpu")
    assert state.steps_per_epoch == len(state.plan(torch.Generator())) == steps
    state.run_epoch()
    assert (state.step, state.done) == (steps, 0.5)


def test_share_of_the_pairs():
    config = FitConfig(pairs=6, threads=1)
    state = Fit(arrays(random_pairs(0, count=24), random_pairs(1, count=8)), SHAPE, config, "cpu")
    assert (len(state.pairs), len(state.relaxed), len(state.validation)) == (6, 2, 8)


def test_time_bound_ends_the_fit(tmp_path):
    config = FitConfig(epochs=10**6, minutes=0.02, batch_size=8, threads=1)
    write_prepared(tmp_path / "p.npz", config)
    state = fit(tmp_path / "p.npz", tmp_path / "run", lambda progress: None)
    assert 0.02 <= state.seconds / 60 < 0.2


def test_checkpoint_of_another_network_is_refused(tmp_path):
    config = FitConfig(epochs=1, batch_size=8, threads=1)
    write_prepared(tmp_path / "p.npz", config)
    fit(tmp_path / "p.npz", tmp_path / "run", lambda progress: None)
    other = Fit(arrays(random_pairs(0), random_pairs(1)), replace(SHAPE, width=32), config, "cpu")
    with pytest.raises(DataError, match=r"another recipe \(network.width: 24 there, 32 here"):
        other.restore(tmp_path / "run" / "checkpoint.npz")
    config = replace(config, learning_rate=0.1)
    other = Fit(arrays(random_pairs(0), random_pairs(1)), SHAPE, config, "cpu")
    with pytest.raises(DataError, match=r"fit.learning_rate: 0.001 there, 0.1 here"):
        other.restore(tmp_path / "run" / "checkpoint.npz")
    other = Fit(arrays(random_pairs(5), random_pairs(1)), SHAPE, replace(config, learning_rate=0.001), "cpu")
    with pytest.raises(DataError, match="other training or validation pairs"):
        other.restore(tmp_path / "run" / "checkpoint.npz")


@pytest.mark.parametrize("column", ["unrelaxed_frac", "unrelaxed_lattices", "relaxed_frac", "settled"])
@pytest.mark.parametrize("part", ["pairs", "validation", "relaxed"])
def test_checkpoint_of_other_data_is_refused(tmp_path, part, column):
    state = Fit(arrays(random_pairs(0), random_pairs(1)), SHAPE, FitConfig(threads=1), "cpu")
    state.save(tmp_path / "c.npz")
    other = Fit(arrays(random_pairs(0), random_pairs(1)), SHAPE, FitConfig(threads=1), "cpu")
    other.restore(tmp_path / "c.npz")
    value = getattr(getattr(other, part), column)
    changed = ~value if value.dtype == torch.bool else value + 0.01
    other = Fit(arrays(random_pairs(0), random_pairs(1)), SHAPE, FitConfig(threads=1), "cpu")
    setattr(other, part, replace(getattr(other, part), **{column: changed}))
    with pytest.raises(DataError, match="other training or validation pairs"):
        other.restore(tmp_path / "c.npz")


def test_checkpoint_with_settings_that_are_gone_goes_on(tmp_path):
    state = Fit(arrays(random_pairs(0), random_pairs(1)), SHAPE, FitConfig(threads=1), "cpu")
    state.step = 7
    state.save(tmp_path / "c.npz")
    content = dict(np.load(tmp_path / "c.npz"))
    row = json.loads(str(content["state"]))
    row["recipe"] |= {"data": "0", "fit": {**row["recipe"]["fit"], "gone": None}}
    np.savez(tmp_path / "c.npz", **{**content, "state": np.array(json.dumps(row))})
    other = Fit(arrays(random_pairs(0), random_pairs(1)), SHAPE, FitConfig(threads=1), "cpu")
    other.restore(tmp_path / "c.npz")
    assert other.step == 7


def cut(path):
    path.write_bytes(path.read_bytes()[:-500])


def flip_in_the_middle(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def rewrite(change, write=np.savez):
    def damage(path):
        content = dict(np.load(path))
        change(content)
        write(path, **content)

    return damage


@pytest.mark.parametrize("file", ["p.npz", "run/checkpoint.npz"])
@pytest.mark.parametrize(
    "damage",
    [
        cut,
        flip_in_the_middle,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\x03\x04 not all of it"),
        lambda path: path.write_bytes(bytes(5000)),
        lambda path: np.save(path.open("wb"), np.zeros(3)),
        rewrite(lambda content: None, np.savez_compressed),
        rewrite(lambda content: content.update(more=np.array([{}], dtype=object))),
    ],
)
def test_damaged_file_is_named(tmp_path, file, damage):
    write_prepared(tmp_path / "p.npz", FitConfig(epochs=1, batch_size=8, threads=1))
    Fit(arrays(random_pairs(0, count=24), random_pairs(1, count=6)), SHAPE, FitConfig(threads=1), "cpu")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/checkpoint.npz").write_bytes((tmp_path / "p.npz").read_bytes())
    damage(tmp_path / file)
    with pytest.raises(DataError, match=rf"{file}: damaged .*remove it") as caught:
        fit(tmp_path / "p.npz", tmp_path / "run", lambda progress: None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("state"),
        lambda content: content.update(state=np.array("[1]")),
        lambda content: content.update(state=np.array("no JSON")),
        lambda content: content.update({"network/energy_head.0.weight": np.zeros(3)}),
    ],
)
def test_checkpoint_with_parts_of_another_shape_is_named(tmp_path, change):
    state = Fit(arrays(random_pairs(0), random_pairs(1)), SHAPE, FitConfig(threads=1), "cpu")
    state.save(tmp_path / "c.npz")
    rewrite(change)(tmp_path / "c.npz")
    with pytest.raises(DataError, match=r"c.npz: damaged checkpoint .*remove it to restart") as caught:
        state.restore(tmp_path / "c.npz")
    assert "\n" not in str(caught.value)


def test_a_second_fit_in_one_folder_is_refused_in_one_line(tmp_path):
    write_prepared(tmp_path / "p.npz", FitConfig(epochs=1, batch_size=8, threads=1))
    command = [sys.executable, "-m", "cryslator_flows.training.fit", tmp_path / "p.npz", tmp_path / "run"]
    with sole_training(tmp_path / "run"):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: {tmp_path}/run/train.lock: held by another process; wait until it ends to train in this folder, or "
        "name another one with --run-dir\n"
    )
    assert [*(tmp_path / "run").iterdir()] == []


def test_a_fit_without_a_finite_score_is_an_error(tmp_path):
    write_prepared(tmp_path / "p.npz", FitConfig(epochs=1, batch_size=8, threads=1))
    rewrite(lambda content: content.update({"elements/volumes": np.zeros(119, dtype=np.float32)}))(tmp_path / "p.npz")
    with pytest.raises(DataError, match=r"no epoch has a finite validation score.*metrics.jsonl"):
        fit(tmp_path / "p.npz", tmp_path / "run", lambda progress: None)
    assert "NaN" in (tmp_path / "run/metrics.jsonl").read_text()


def test_full_disk_leaves_the_last_checkpoint(tmp_path):
    """A limit on the size of files stands for the disk, in a process of its own."""
    write_prepared(tmp_path / "p.npz", FitConfig(epochs=2, batch_size=8, threads=1))
    code = (
        "import resource\n"
        "from pathlib import Path\n"
        "from cryslator_flows.training.fit import fit\n"
        f"here = Path({str(tmp_path)!r})\n"
        "limit = lambda progress: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "fit(here / 'p.npz', here / 'run', limit)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "StoreError" in done.stderr
    assert "checkpoint.npz: cannot be written (File too large); free some space" in done.stderr
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoint.npz", "metrics.jsonl"]
    state = fit(tmp_path / "p.npz", tmp_path / "run", lambda progress: None)
    assert [progress.epoch for progress in state.history] == [1, 2]


def run_with_torch_and_numpy_alone(module, folder):
    """What a module prints on ``p.npz`` of a folder while everything else cannot be imported."""
    blocked = [
        "pymatgen",
        "pydantic",
        "scipy",
        "sklearn",
        "yaml",
        "safetensors",
        "rich",
        "jobflow",
        "pydantic_settings",
    ]
    code = (
        f"import sys, runpy; sys.modules.update(dict.fromkeys({blocked}));"
        f"sys.argv = ['fit', {str(folder / 'p.npz')!r}, {str(folder / 'run')!r}];"
        f"runpy.run_module({module!r}, run_name='__main__')"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_runs_as_a_module_with_torch_and_numpy_alone(tmp_path):
    write_prepared(tmp_path / "p.npz", FitConfig(epochs=1, batch_size=8, threads=1))
    assert run_with_torch_and_numpy_alone("cryslator_flows.training.fit", tmp_path).startswith("epoch 1 ")
    assert (tmp_path / "run" / "checkpoint.npz").exists()
