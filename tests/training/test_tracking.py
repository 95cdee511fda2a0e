"""Calibration of a model that is fine-tuned on few pairs."""

import shutil
from dataclasses import replace

import pytest
import torch

from cryslator_flows.training.tracking import PATIENCE, track_calibration
from cryslator_flows.translator.model_folder import ModelFolder, save_model
from cryslator_flows.translator.translator import Translator


@pytest.fixture
def base(tiny_model):
    """A base whose uncertainty grows with the distance from its training data."""
    calibration = replace(
        tiny_model.calibration(), scale=torch.tensor([-3.0, 0.0, 1.0]), known=torch.full((5, 16), 30.0)
    )
    return save_model(tiny_model.path, tiny_model.config(), tiny_model.network().state_dict(), calibration)


def tune(base, tmp_path, seen, ratios, before=None, name="tuned"):
    shutil.copytree(base.path, tmp_path / name)
    return track_calibration(ModelFolder(tmp_path / name), base, before or base, seen, ratios)


def width(model):
    ratio = model.calibration().quantiles / torch.tensor([1.0, 2.0])
    assert (ratio == ratio[0]).all()
    return ratio[0]


@pytest.mark.parametrize(
    ("ratios", "factor"),
    [
        ([], 1.0),
        ([1.0] * 50, 1.0),
        ([4.0] * PATIENCE, 2.0),
        ([0.25] * PATIENCE, 0.5),
        ([3.0, 3.0], 3 ** (2 / 22)),
        ([1e9], 10 ** (1 / 21)),
        ([0.0], 10 ** (-1 / 21)),
    ],
)
def test_widths_follow_the_errors_the_more_of_them_there_are(base, tmp_path, perovskite, ratios, factor):
    tuned = tune(base, tmp_path, [perovskite], ratios)
    assert width(tuned).tolist() == pytest.approx([factor] * 2, rel=1e-5)
    before, after = base.calibration(), tuned.calibration()
    for name in ("scale", "limit", "element_volumes"):
        assert torch.equal(getattr(before, name), getattr(after, name))
    assert (after.seen.sizes - before.seen.sizes).nonzero().tolist() == [[3]]


def test_a_lone_outlier_of_a_batch_does_not_decide(base, tmp_path, perovskite):
    """The 68 % quantile is looked at, not the mean."""
    calm = tune(base, tmp_path, [perovskite], [1.0] * 7 + [1.0], name="calm")
    wild = tune(base, tmp_path, [perovskite], [1.0] * 7 + [9.0], name="wild")
    assert torch.equal(width(calm), width(wild))


def test_round_after_round_the_widths_go_on_from_the_last(base, tmp_path, perovskite):
    first = tune(base, tmp_path, [perovskite], [4.0] * PATIENCE, name="first")
    second = tune(base, tmp_path, [perovskite], [0.5] * PATIENCE, before=first, name="second")
    assert width(second).tolist() == pytest.approx([2 / 2**0.5] * 2, rel=1e-5)


def test_what_was_learnt_is_near_and_less_uncertain(base, tmp_path, perovskite, rutile):
    tuned = tune(base, tmp_path, [perovskite] * 5, [])
    before, after = (Translator(model).translate_many([perovskite, rutile]) for model in (base, tuned))
    gained = [
        b.formation_energy_uncertainty / a.formation_energy_uncertainty for a, b in zip(before, after, strict=True)
    ]
    assert gained[0] < 0.1
    assert gained[0] < gained[1] <= 1
    assert after[0].domain_distance < 0.1 * before[0].domain_distance
    # The network is another matter: energies are those of before.
    assert after[1].formation_energy_per_atom == before[1].formation_energy_per_atom
