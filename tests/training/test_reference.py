import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from cryslator_flows.errors import DataError
from cryslator_flows.training.prepare import prepare
from cryslator_flows.training.recipe import Recipe, ReferenceRecipe
from cryslator_flows.training.reference_fit import ReferenceFitConfig, fit_reference
from cryslator_flows.training.tensors import from_arrays, load_arrays
from cryslator_flows.translator.reference.feature_translation import Discriminator
from cryslator_flows.translator.reference.reference_network import ReferenceConfig, ReferenceNetwork
from tests.training.test_evaluate import pair
from tests.training.test_fit import arrays, run_with_torch_and_numpy_alone
from tests.training.test_tensors import random_pairs

SMALL = ReferenceConfig(
    width=16, layers=2, feature=64, channels=2, cell_width=8, cell_layers=1, position_width=8, position_layers=1
)


def write_prepared(path, minutes, count=48):
    fit = ReferenceFitConfig(
        energy_minutes=minutes, translation_minutes=minutes, cell_minutes=minutes, position_minutes=minutes,
        generator_rate=1e-3, discriminator_rate=1e-4, threads=1,
    )  # fmt: skip
    settings = json.dumps({"reference": {"network": asdict(SMALL), "fit": asdict(fit)}}).encode()
    content = arrays(random_pairs(0, count=count), random_pairs(1, count=12))
    content = {name: value.numpy() for name, value in content.items()}
    np.savez(path, **content, settings=np.frombuffer(settings, dtype=np.uint8))
    return content


def count(module):
    return sum(weight.numel() for weight in module.parameters())


def test_sizes_are_those_of_the_paper():
    """Published: 0.49 M for encoder and regressor, 88.05 M for the generator, 1.61 M for the discriminator, 5.05 M for
    the cell predictor."""
    with torch.device("meta"):
        network = ReferenceNetwork(ReferenceConfig())
        discriminator = Discriminator(64)
    assert count(network.baseline("R")) == pytest.approx(0.49e6, rel=0.02)
    assert count(network.generator) == pytest.approx(88.05e6, rel=0.002)
    assert count(network.cell) == pytest.approx(5.05e6, rel=0.02)
    assert discriminator(torch.empty(3, 256, device="meta"), torch.empty(3, 256, device="meta")).shape == (3, 1, 15, 15)


def test_energy_is_read_off_the_translated_feature():
    network = ReferenceNetwork(SMALL).eval()
    crystals = random_pairs(0).unrelaxed
    prediction = network.translate(crystals)
    assert torch.equal(prediction.energy, network.baseline("R").energy(prediction.translated))
    assert prediction.encoded.abs().max() <= 1


def test_relaxed_crystals_are_those_of_the_targets_if_a_recipe_names_none(tmp_path, perovskite):
    larger = perovskite.copy()
    larger.scale_lattice(perovskite.volume * 1.1)
    rows = [pair(larger, perovskite, "a"), pair(perovskite, perovskite, "a"), pair(perovskite, larger, "b")]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    other = perovskite.copy()
    other.replace_species({"Ca": "Sr"})
    (tmp_path / "val.jsonl").write_text(json.dumps(pair(other, other, "c")))
    recipe = Recipe(
        name="r", train=[tmp_path / "pairs.jsonl"], val=[tmp_path / "val.jsonl"], reference=ReferenceRecipe()
    )
    prepare(recipe, tmp_path / "p.npz")
    relaxed = from_arrays(load_arrays(tmp_path / "p.npz"), "relaxed")
    volumes = torch.tensor([perovskite.volume, larger.volume])
    assert torch.allclose(relaxed.unrelaxed.volumes, volumes)
    assert torch.allclose(relaxed.relaxed.volumes, volumes)
    prepare(recipe.model_copy(update={"reference": None}), tmp_path / "p.npz")
    assert len(from_arrays(load_arrays(tmp_path / "p.npz"), "relaxed")) == 0


@pytest.mark.slow
def test_every_stage_learns(tmp_path):
    write_prepared(tmp_path / "p.npz", minutes=0.05)
    seen = []
    network, stages = fit_reference(tmp_path / "p.npz", tmp_path / "run", seen.append)
    names = ["energy-R", "energy-U", "energy-R+U", "translation", "cell", "position"]
    assert [stage.name for stage in stages] == names
    for name in ("energy-R", "translation", "cell"):
        scores = [progress.score for progress in seen if progress.stage == name]
        assert min(scores) < scores[0], name
    # Kept are the weights that were best on the validation pairs.
    with torch.no_grad():
        for stage in stages:
            assert stage.score() == pytest.approx(stage.best, rel=1e-4)
    assert not network.training


def test_finished_stages_are_not_run_again(tmp_path):
    content = write_prepared(tmp_path / "p.npz", minutes=1e-4)
    seen = []
    one, _ = fit_reference(tmp_path / "p.npz", tmp_path / "run", seen.append)
    first = len(seen)
    two, _ = fit_reference(tmp_path / "p.npz", tmp_path / "run", seen.append)
    assert first == len(seen) == 6
    crystals = from_arrays({name: torch.from_numpy(value) for name, value in content.items()}, "val").unrelaxed
    assert torch.equal(one.translate(crystals).energy, two.translate(crystals).energy)


def test_stopped_stage_goes_on(tmp_path):
    write_prepared(tmp_path / "p.npz", minutes=0.02)

    class Stop(Exception):
        pass

    def stop(progress):
        raise Stop

    for _ in range(2):
        with pytest.raises(Stop):
            fit_reference(tmp_path / "p.npz", tmp_path / "run", stop)
    seen = []
    fit_reference(tmp_path / "p.npz", tmp_path / "run", seen.append)
    assert (seen[0].stage, seen[0].epoch) == ("energy-R", 3)


def test_checkpoint_of_another_network_is_refused(tmp_path):
    write_prepared(tmp_path / "p.npz", minutes=1e-4)
    fit_reference(tmp_path / "p.npz", tmp_path / "run", lambda progress: None)
    (tmp_path / "run/energy-U.npz").replace(tmp_path / "run/cell.npz")
    with pytest.raises(ValueError, match=r"cell\.npz: damaged checkpoint \(weights of another network\)"):
        fit_reference(tmp_path / "p.npz", tmp_path / "run", lambda progress: None)


def test_checkpoint_of_other_data_is_refused(tmp_path):
    write_prepared(tmp_path / "p.npz", minutes=1e-4)
    fit_reference(tmp_path / "p.npz", tmp_path / "run", lambda progress: None)
    write_prepared(tmp_path / "p.npz", minutes=1e-4, count=47)
    with pytest.raises(DataError, match=r"energy-R\.npz: checkpoint of another recipe \(other training or validation"):
        fit_reference(tmp_path / "p.npz", tmp_path / "run", lambda progress: None)
    write_prepared(tmp_path / "p.npz", minutes=2e-4)
    with pytest.raises(DataError, match=r"fit.energy_minutes: 0.0001 there, 0.0002 here"):
        fit_reference(tmp_path / "p.npz", tmp_path / "run", lambda progress: None)
    (tmp_path / "run/energy-R.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"energy-R\.npz: damaged"):
        fit_reference(tmp_path / "p.npz", tmp_path / "run", lambda progress: None)


def test_runs_as_a_module_with_torch_and_numpy_alone(tmp_path):
    write_prepared(tmp_path / "p.npz", minutes=1e-4)
    printed = run_with_torch_and_numpy_alone("cryslator_flows.training.reference_fit", tmp_path)
    assert printed.startswith("energy-R epoch 1 ")
    assert (tmp_path / "run" / "position.npz").exists()
