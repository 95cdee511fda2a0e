"""Fine-tuning on small salts: crystals AX of two atoms, whose volume and energy are sums over their elements."""

import gzip
import json

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cryslator_flows.errors import DataError, ModelError
from cryslator_flows.training.card import model_card
from cryslator_flows.training.evaluate import Evaluation, evaluate
from cryslator_flows.training.recipe import Recipe, TuneConfig
from cryslator_flows.training.records import PairRecord, UnrelaxedRecord
from cryslator_flows.training.splits import HeldOut, read_split, split_by_formula
from cryslator_flows.training.train import train
from cryslator_flows.training.tune import fine_tune
from cryslator_flows.training.tune_data import TuneData
from cryslator_flows.translator.loaded import LoadedModel
from cryslator_flows.translator.model_folder import ModelFolder, find_model

OLD, NEW, ANIONS = ["Li", "Na", "K", "Rb"], ["Cu", "Ag", "Au", "Tl"], ["F", "Cl", "Br", "I"]
LENGTH = {"Li": 1.2, "Na": 1.5, "K": 1.8, "Rb": 1.9, "Cu": 0.8, "Ag": 1.0, "Au": 1.1, "Tl": 1.6,
          "Mn": 1.3, "F": 1.6, "Cl": 2.0, "Br": 2.2, "I": 2.4, "At": 2.5}  # fmt: skip
ENERGY = {
    **dict.fromkeys(OLD, -1.0),
    **dict.fromkeys(NEW, 0.5),
    "F": -2.0,
    "Cl": -1.5,
    "Br": -1.2,
    "I": -1.0,
    "Mn": 0.2,
    "At": -0.8,
}
TUNE = TuneConfig(epochs=5, batch_size=16, learning_rate=5e-3, warmup_steps=10, ema_decay=0.9, threads=1)


def geometry(length):
    return {"lattice": (length * np.eye(3)).tolist(), "frac": [[0, 0, 0], [0.5, 0.5, 0.5]]}


def salt(cation, anion, start=3.5, **columns):
    return PairRecord.model_validate(
        {
            "target": f"{cation}{anion}",
            "species": [cation, anion],
            "unrelaxed": geometry(start),
            "relaxed": geometry(LENGTH[cation] + LENGTH[anion]),
            "formation_energy_per_atom": ENERGY[cation] + ENERGY[anion],
            **columns,
        }
    )


def salts(cations, anions=ANIONS, starts=(3.1, 3.9)):
    return [salt(cation, anion, start) for cation in cations for anion in anions for start in starts]


def write(path, records):
    with gzip.open(path, "wt") as lines:
        lines.writelines(record.model_dump_json() + "\n" for record in records)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A small model of the old salts."""
    folder = tmp_path_factory.mktemp("base")
    write(folder / "old.jsonl.gz", salts(OLD))
    held = [record.model_copy(update={"target": f"held {record.target}"}) for record in salts(OLD)]
    write(folder / "held.jsonl.gz", held)
    recipe = {
        "name": "base", "train": "old.jsonl.gz", "val": "held.jsonl.gz", "split_by": "crystal",
        "network": {"width": 16, "vectors": 4, "encoder_layers": 1, "translator_layers": 1, "radial": 6, "cutoff": 5.0},
        "fit": {"epochs": 40, "batch_size": 8, "learning_rate": 5e-3, "warmup_steps": 20, "threads": 1},
    }  # fmt: skip
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    return train(Recipe.from_file(file), file, folder / "base", folder / "run", lambda _: None, lambda _: None)


def errors(model, records):
    (result,) = evaluate([LoadedModel(model)], records)
    score = result.score(model.name)
    return np.array([score.energy_mae, score.structure.volume_error])


@pytest.fixture(scope="module")
def tuned(base, tmp_path_factory):
    """Models of the new salts without bromides: from old pairs as well, old unrelaxed crystals, or neither."""
    folder = tmp_path_factory.mktemp("tuned")
    old = salts(OLD)
    alone = [UnrelaxedRecord(species=record.species, unrelaxed=record.unrelaxed) for record in old]
    models = {}
    for name, replay in (("pairs", old), ("alone", alone), ("nothing", [])):
        data = TuneData.from_pairs(salts(NEW, ["F", "Cl", "I"]), (0.8, 0.2, 0), replay=replay)
        models[name] = fine_tune(base, data, folder / name, folder / f"run-{name}", TUNE)
    return models


@pytest.mark.slow
def test_learns_the_new_and_replay_keeps_the_old(base, tuned):
    old, new = salts(OLD), salts(NEW, ["Br"])
    for model in tuned.values():
        assert (errors(model, new) < 0.8 * errors(base, new)).all()
    forgotten = errors(tuned["nothing"], old)
    assert (forgotten > 2 * errors(base, old)).all()
    assert (errors(tuned["pairs"], old) < 0.5 * forgotten).all()
    assert (errors(tuned["alone"], old) < 0.5 * forgotten).all()


@pytest.mark.slow
def test_what_is_kept_of_the_base(base, tuned):
    network, start = tuned["pairs"].network(), base.network()
    assert network.config == start.config
    for table in ("element_table", "element_radii", "element_volumes"):
        assert torch.equal(getattr(network, table), getattr(start, table))
    assert tuned["pairs"].config().elements == [*base.config().elements, "Ag", "Au", "Cu", "Tl"]
    assert base.metrics()["model_version"] == base.version()


@pytest.mark.slow
def test_the_card_says_what_was_replayed(tuned):
    replay = {name: model.metrics()["tuning"]["replay"] for name, model in tuned.items()}
    cards = {name: (model.path / "README.md").read_text() for name, model in tuned.items()}
    held = replay["pairs"]["val"]
    assert held > 0
    assert replay["pairs"] == {"pairs": 32 - held, "own_translations": 0, "share": 0.5, "val": held}
    assert replay["alone"] == {"pairs": 0, "own_translations": 32, "share": 0.5, "val": 0}
    assert replay["nothing"] == {"pairs": 0, "own_translations": 0, "share": 0.0, "val": 0}
    assert f"Replay: {32 - held} old pairs, 50% of every batch" in cards["pairs"]
    assert "32 of the base's own translations" in cards["alone"]
    assert "No old pairs were replayed" in cards["nothing"]


@pytest.mark.slow
def test_stopped_and_resumed_is_the_unbroken_one(base, tmp_path):
    data = TuneData.from_pairs(salts(NEW), replay=salts(OLD))
    short = TUNE.model_copy(update={"epochs": 3})
    whole = fine_tune(base, data, tmp_path / "tuned", tmp_path / "run-whole", short)
    expected = whole.network().state_dict(), whole.version()

    class Stop(Exception):
        pass

    def stop(progress):
        raise Stop

    for _ in range(2):
        with pytest.raises(Stop):
            fine_tune(base, data, tmp_path / "tuned", tmp_path / "run", short, report=stop)
    seen = []
    parts = fine_tune(base, data, tmp_path / "tuned", tmp_path / "run", short, report=seen.append)
    assert [progress.epoch for progress in seen] == [3]
    for name, value in parts.network().state_dict().items():
        assert torch.equal(value, expected[0][name]), name
    assert parts.version() == expected[1]
    fewer = TuneData.from_pairs(salts(NEW[:2]), replay=salts(OLD))
    with pytest.raises(DataError, match="another base or of other pairs"):
        fine_tune(base, fewer, tmp_path / "tuned", tmp_path / "run", short)


def test_pairs_that_cannot_be_learnt_do_not_claim_the_folder(base, tmp_path):
    blank = [record.model_copy(update={"formation_energy_per_atom": None}) for record in salts(NEW)]
    with pytest.raises(DataError, match="no pair has a number"):
        fine_tune(base, TuneData.from_pairs(blank), tmp_path / "tuned", tmp_path / "run", TUNE)
    assert [*tmp_path.glob("run/*")] == []


@pytest.mark.slow
def test_time_bound(base, tmp_path):
    data = TuneData.from_pairs(salts(NEW))
    long = TUNE.model_copy(update={"epochs": 10**6, "minutes": 0.01})
    fine_tune(base, data, tmp_path / "tuned", tmp_path / "run", long)
    last = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert 0.01 <= last["minutes"] < 0.1


@pytest.mark.slow
def test_base_is_the_result_if_nothing_is_better(base, tmp_path):
    """A learning rate that ruins the network."""
    data = TuneData.from_pairs(salts(NEW), replay=salts(OLD))
    model = fine_tune(base, data, tmp_path / "tuned", tmp_path / "run", TUNE.model_copy(update={"learning_rate": 50.0}))
    for name, value in base.network().state_dict().items():
        assert torch.equal(value, model.network().state_dict()[name]), name
    assert "no epoch was better than the base" in (tmp_path / "tuned/README.md").read_text()


@pytest.mark.slow
def test_recipe_to_model_beside_its_base(run, base, tmp_path):
    """The command line: one file split by formula, old validation and test pairs, and the recipe that is kept."""
    data = tmp_path / "data"
    data.mkdir()
    write(data / "new.jsonl.gz", salts(NEW))
    write(data / "old.jsonl.gz", salts(OLD[:2]))
    write(data / "val.jsonl.gz", salts(OLD[2:3]))
    write(data / "test.jsonl.gz", salts(OLD[3:]))
    tune = {"replay": "old.jsonl.gz", "old_val": "val.jsonl.gz", "old_test": "test.jsonl.gz", "epochs": 1, "threads": 1}
    recipe = {"name": "tuned", "pairs": "new.jsonl.gz", "shares": [0.6, 0.2, 0.2], "tune": tune, "card": {"aim": "A."}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command = ["train", tmp_path / "recipe.yaml", "--data", data, "-o", tmp_path / "tuned", "--run-dir", tmp_path / "r"]
    code, _, err = run(*command, "--from", base.path)
    assert code == 0, err
    model = ModelFolder(tmp_path / "tuned")
    metrics = model.metrics()
    split = split_by_formula(salts(NEW), (0.6, 0.2, 0.2))
    assert metrics["model_version"] == model.version()
    assert metrics["tuning"]["base_version"] == base.version()
    assert metrics["tuning"]["new_pairs"] == {"train": len(split.train), "val": len(split.val), "test": len(split.test)}
    assert metrics["calibration"]["targets"] == len(split.val) // 2 + 4
    for name, records in (("test", split.test), ("old_test", salts(OLD[3:]))):
        scored = Evaluation.model_validate(metrics[name][0])
        assert scored.n_targets == len(records) // 2
        assert scored.models == {"tuned": model.version(), "base": base.version()}
        assert scored.score("base").energy_mae == pytest.approx(errors(base, records)[0])
        assert scored.score("tuned").energy_mae == pytest.approx(errors(model, records)[0])
    card = (model.path / "README.md").read_text()
    assert card == model_card(model.path, Recipe.from_file(model.path / "recipe.yaml").card)
    assert f"Fine-tuned from base, version `{base.version()}`" in card
    assert "## Old test pairs" in card
    version = model.version()
    code, _, err = run(*command, "--from", base.path)
    assert (code, ModelFolder(model.path).version()) == (0, version)
    assert "epoch" not in err


@pytest.mark.slow
def test_recipe_of_pairs_in_memory_makes_the_same_model(run, base, tmp_path):
    data = TuneData.from_pairs(salts(NEW), (0.6, 0.2, 0.2), replay=salts(OLD), old_test=salts(OLD[:1]))
    model = fine_tune(base, data, tmp_path / "tuned", tmp_path / "run", TUNE.model_copy(update={"epochs": 1}))
    again = tmp_path / "again/tuned"
    command = ["train", model.path / "recipe.yaml", "--from", base.path, "--data", tmp_path / "run", "-o", again]
    code, _, err = run(*command, "--run-dir", tmp_path / "again/run")
    assert code == 0, err
    assert ModelFolder(again).version() == model.version()


@pytest.mark.slow
def test_another_target_starts_from_the_base(run, base, tmp_path):
    gaps = [record.model_copy(update={"band_gap": 3 + record.formation_energy_per_atom}) for record in salts(NEW)]
    write(tmp_path / "gaps.jsonl.gz", gaps)
    recipe = {
        "name": "gap", "pairs": "gaps.jsonl.gz", "shares": [0.6, 0.2, 0.2], "target": "band_gap", "unit": "eV",
        "tune": TUNE.model_dump(exclude_defaults=True),
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    code, _, err = run(
        "train", tmp_path / "recipe.yaml", "--from", base.path, "-o", tmp_path / "gap", "--run-dir", tmp_path / "run"
    )
    assert code == 0, err
    model = ModelFolder(tmp_path / "gap")
    assert (model.config().target, model.config().unit) == ("band_gap", "eV")
    metrics = model.metrics()
    scored = Evaluation.model_validate(metrics["test"][0]).score("gap")
    assert scored.energy_mae < 0.8 * np.std([gap.band_gap for gap in gaps])
    assert "band_gap" in (model.path / "README.md").read_text()


CHANGES = [
    ({"network": {"width": 32}}, "network: a fine-tuned model has the network of its base"),
    ({"fit": {"epochs": 3}}, "fit: not used with --from"),
    ({"split_by": "crystal"}, "split_by: not used with --from"),
    ({"target": "band_gap"}, "target, unit: give both"),
    ({"target": "band_gap", "unit": "eV"}, "no pair has a number under 'band_gap'"),
    ({"tune": {"replays": "x"}}, "did you mean 'replay'"),
    ({"name": "tiny"}, "the base has the same name"),
    ({"pairs": "two.jsonl.gz"}, "two.jsonl.gz: 2 formulas for 3 parts"),
    ({"pairs": "new.jsonl.gz", "val": "new.jsonl.gz"}, "leave those out, or leave out pairs"),
    ({"shares": [1.0, 0.0, 0.0]}, "shares.0"),
    ({"shares": [0.5, 0.0, 0.5]}, "shares of training and validation must be above 0"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_mistakes(run, tiny_model, tmp_path, change, words):
    write(tmp_path / "new.jsonl.gz", salts(NEW))
    write(tmp_path / "two.jsonl.gz", salts(NEW[:2], ["F"]))
    recipe = {"name": "tuned", "pairs": "new.jsonl.gz"} | change
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    folder = tmp_path / recipe["name"]
    code, _, err = run(
        "train", tmp_path / "recipe.yaml", "--from", tiny_model.path, "-o", folder, "--run-dir", tmp_path / "r"
    )
    assert (code, words in err) == (2, True), err
    assert not folder.exists()


def test_settings_of_fine_tuning_need_a_base(run, tmp_path):
    write(tmp_path / "new.jsonl.gz", salts(NEW))
    (tmp_path / "recipe.yaml").write_text(json.dumps({"name": "a", "pairs": "new.jsonl.gz", "tune": {"epochs": 1}}))
    code, _, err = run("train", tmp_path / "recipe.yaml")
    assert (code, "recipe.yaml, tune: for fine-tuning alone" in err) == (2, True)


def test_the_reference_cannot_be_fine_tuned(tmp_path):
    data = TuneData.from_pairs(salts(NEW))
    with pytest.raises(ModelError, match="cannot be fine-tuned"):
        fine_tune(find_model("cryslator-2023"), data, tmp_path / "tuned", tmp_path / "run")


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({}, None),
        ({"template": "KF", "template_formula": "KF"}, None),
        ({"template": "TlI"}, "template TlI is a target of the test pairs"),
        ({"template": "mp-1", "template_formula": "TlI"}, "template_formula TlI is a target of the test pairs"),
        ({"template": "AuF"}, "template AuF is a target of the validation pairs"),
        ({"species": ["Tl", "I"]}, "target's formula TlI is one of the test pairs"),
        ({"species": ["Au", "F"]}, "target's formula AuF is one of the validation pairs"),
    ],
)
def test_leakage_is_refused_or_left_out(run, tiny_model, tmp_path, columns, told):
    val, test = [salt("Au", "F")], [salt("Tl", "I")]
    train = [*salts(["Cu"]), salt("Ag", "F", **columns), salt("Ag", "Cl")]
    for name, records in (("train", train), ("val", val), ("test", test)):
        write(tmp_path / f"{name}.jsonl.gz", records)
    recipe = {name: f"{name}.jsonl.gz" for name in ("train", "val", "test")} | {"name": "t", "tune": {"epochs": 1}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    if told is None:
        assert TuneData.from_recipe(Recipe.from_file(tmp_path / "recipe.yaml")).left_out == 0
        return
    command = (
        "train",
        tmp_path / "recipe.yaml",
        "--from",
        tiny_model.path,
        "-o",
        tmp_path / "t",
        "--run-dir",
        tmp_path / "r",
    )
    code, _, err = run(*command)
    assert code == 2
    assert f"train.jsonl.gz, line 9: the {told}; remove the pair" in err
    # A replay, and pairs that are split here, lose such pairs.
    data = TuneData.from_pairs(
        split_by_formula(salts(["Cu"]), (0.8, 0.2, 0)), replay=train[8:], old_val=val, old_test=test
    )
    assert data.left_out == 1
    assert HeldOut(val, test).without_leaks(train) == [*train[:8], train[9]]


def test_parts_come_from_several_files_and_of_rows_with_a_split_the_right_ones(tmp_path):
    write(tmp_path / "mixed.jsonl.gz", [salt("Ag", "F", split="train"), salt("Au", "F", split="val")])
    write(tmp_path / "plain.jsonl.gz", [salt("Cu", "F")])
    recipe = {"name": "t", "train": ["mixed.jsonl.gz", "plain.jsonl.gz"], "val": "mixed.jsonl.gz"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    parts = read_split(Recipe.from_file(tmp_path / "recipe.yaml"))
    assert [[record.species[0] for record in part] for part in (parts.train, parts.val)] == [["Ag", "Cu"], ["Au"]]
    assert parts.test == []


def test_without_old_validation_pairs_some_of_the_replay_are_held_back():
    data = TuneData.from_pairs(salts(NEW), replay=salts(OLD))
    held = {record.reduced_formula for record in data.old_val}
    assert held
    assert not held & {record.reduced_formula for record in data.replay}
    assert len(data.old_val) + len(data.replay) == 32
    # Formulas that are trained on anew are not selected on.
    again = TuneData.from_pairs(salts(NEW), replay=[*salts(OLD[:1]), *salts(NEW)])
    assert {record.species[0] for record in again.old_val} == {"Li"}


formulas = st.lists(
    st.tuples(st.sampled_from(OLD + NEW), st.sampled_from(ANIONS)), min_size=3, max_size=32, unique=True
)
shares = st.tuples(*[st.floats(0.05, 0.9)] * 3)


@given(formulas, shares, st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_split_is_by_formula_stable_and_complete(formulas, shares, random):
    records = [salt(*formula, start) for formula in formulas for start in (3.0, 4.0)]
    parts = split_by_formula(records, shares)
    names = [{record.reduced_formula for record in part} for part in (parts.train, parts.val, parts.test)]
    assert all(names)
    assert sum(map(len, names)) == len(set.union(*names)) == len(formulas)
    assert sorted(r.model_dump_json() for r in [*parts.train, *parts.val, *parts.test]) == sorted(
        r.model_dump_json() for r in records
    )
    random.shuffle(records)
    again = split_by_formula(records, shares)
    assert [{record.reduced_formula for record in part} for part in (again.train, again.val, again.test)] == names


def test_added_formulas_leave_the_others_where_they_are():
    few, many = (split_by_formula(salts(cations), (0.6, 0.2, 0.2)) for cations in (NEW, NEW + OLD))
    for part in ("train", "val", "test"):
        before, after = ({r.reduced_formula for r in getattr(split, part)} for split in (few, many))
        assert before == {formula for formula in after if formula[:2] in NEW}
