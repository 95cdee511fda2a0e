"""Old pairs in the batches of a fine-tuning."""

import pytest
import torch

from cryslator_flows.errors import DataError
from cryslator_flows.training.fit import read_settings
from cryslator_flows.training.records import PairRecord, UnrelaxedRecord
from cryslator_flows.training.tensors import load_arrays
from cryslator_flows.training.tune import fine_tune, prepare_tuning
from cryslator_flows.training.tune_data import TuneData
from cryslator_flows.training.tune_fit import TuneFit
from cryslator_flows.translator.loaded import LoadedModel
from tests.training.test_tune import NEW, OLD, TUNE, salts


def test_another_target_is_replayed_too(tiny_model, tmp_path):
    """The base's own energies are no numbers of another property."""
    gaps = [record.model_copy(update={"band_gap": 3 + record.formation_energy_per_atom}) for record in salts(OLD + NEW)]
    alone = [UnrelaxedRecord(species=record.species, unrelaxed=record.unrelaxed) for record in gaps[:2]]
    data = TuneData.from_pairs(gaps[32:], replay=[*gaps[:32], *alone])
    loaded = LoadedModel(tiny_model)
    for target, known in (("band_gap", 0), ("formation_energy_per_atom", 2)):
        prepare_tuning(tiny_model, loaded, data, TUNE, target, tmp_path / "p.npz")
        energies = load_arrays(tmp_path / "p.npz")["replay/energy"]
        replayed = [getattr(record, target) for record in data.replay if isinstance(record, PairRecord)]
        assert energies[:-2].tolist() == pytest.approx(replayed)
        assert int(energies[-2:].isfinite().sum()) == known


def test_another_share_of_replay_is_another_recipe(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr("cryslator_flows.training.tune_fit.STEPS_PER_EPOCH", 1)
    data = TuneData.from_pairs(salts(NEW[:2]), replay=salts(OLD[:2]))

    class Stop(Exception):
        pass

    def stop(progress):
        raise Stop

    def tune(share):
        settings = TUNE.model_copy(update={"replay_share": share})
        fine_tune(tiny_model, data, tmp_path / "tuned", tmp_path / "run", settings, report=stop)

    for _ in range(2):
        with pytest.raises(Stop):
            tune(0.3)
    with pytest.raises(DataError, match=r"another recipe \(replay_share: 0.3 there, 0.2 here\)"):
        tune(0.2)


@pytest.mark.parametrize(("batch_size", "share"), [(2, 0.8), (8, 0.99)])
def test_every_batch_has_new_pairs(tiny_model, tmp_path, batch_size, share):
    data = TuneData.from_pairs(salts(NEW[:2]), replay=salts(OLD[:2]))
    settings = TUNE.model_copy(update={"batch_size": batch_size, "replay_share": share})
    prepare_tuning(tiny_model, LoadedModel(tiny_model), data, settings, "formation_energy_per_atom", tmp_path / "p.npz")
    arrays = load_arrays(tmp_path / "p.npz")
    state = TuneFit(arrays, *read_settings(arrays), "cpu")
    assert state.n_old == batch_size - 1
    assert {len(rows) for rows in state.plan(torch.Generator())} == {1}
