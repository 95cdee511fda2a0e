import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cryslator_flows.translator.calibration import LEVELS, calibrate, share_made, sigma, weighted_quantile
from cryslator_flows.translator.network import Network, NetworkConfig, Prediction, apply
from cryslator_flows.translator.pairs import relaxed_inputs
from tests.translator.test_pairs import random_pairs


@given(st.floats(0, 1))
def test_share_of_a_change_that_is_made(asked):
    rest = torch.tensor([0.03, 0.04], dtype=torch.double)
    (share,) = share_made(torch.tensor([asked], dtype=torch.double), rest).tolist()
    if asked <= 0.03:
        assert share == 0
    elif asked >= 0.04:
        assert share == 1
    else:
        assert 0 < share < 1


def test_without_thresholds_every_change_is_made():
    assert torch.equal(share_made(torch.tensor([0.0, 1e-9, 0.5]), torch.zeros(2)), torch.ones(3))


def test_quantile_is_conformal_and_weighted():
    values = torch.arange(1.0, 10.0)
    # Nine equal weights: the 90 % quantile with its correction, 0.9 * 10 / 9, is the largest value.
    assert weighted_quantile(values, torch.ones(9), 0.9) == 9
    assert weighted_quantile(values, torch.ones(9), 0.5) == 5
    heavy = torch.tensor([7.0] + [0.25] * 8)
    assert weighted_quantile(values, heavy, 0.5) == 1


def make_network(spread):
    """A network whose energies are off by a Laplace error of known, varying scale."""

    class Noisy(Network):
        def translate(self, crystals):
            prediction = self(crystals)
            size = spread(crystals)
            sign = torch.where(torch.rand(len(size)) < 0.5, -1.0, 1.0)
            error = sign * size * -torch.log(torch.rand(len(size)))
            return Prediction(
                energy=error,
                energy_scale=3 * size,
                strain=prediction.strain,
                shift=prediction.shift,
                asked=prediction.asked,
                encoded=prediction.encoded,
                translated=prediction.translated,
            )

    torch.manual_seed(0)
    return Noisy(
        NetworkConfig(width=16, vectors=4, encoder_layers=1, translator_layers=1, neighbors=8, radial=4)
    ).eval()


@pytest.mark.slow
def test_intervals_hold_their_share_of_unseen_crystals():
    network = make_network(lambda crystals: 0.02 + 0.2 * crystals.frac[:: crystals.n_atoms[0], 0].abs())
    val, test, train = (random_pairs(seed, count=600) for seed in (1, 2, 3))
    for pairs in (val, test):
        pairs.energy.zero_()
    fitted = calibrate(network, train, val, torch.ones(600), "cpu", settles=False, element_volumes=torch.ones(119))
    with torch.inference_mode():
        prediction = network.translate(test.unrelaxed)
        distance = fitted.distance(network.crystal_features(prediction, test.unrelaxed)[1])
        widths = fitted.uncertainty(prediction.energy_scale, distance)
    errors = prediction.energy.abs()
    for column, level in enumerate(LEVELS):
        # Three standard errors of a share of 600, on both sides.
        assert float((errors <= widths[:, column]).float().mean()) == pytest.approx(level, abs=0.06)
    # The stated scale, three times too large everywhere, carries the information: certain ones err less.
    certain = widths[:, 1] <= widths[:, 1].median()
    assert errors[certain].mean() < 0.7 * errors[~certain].mean()
    assert float((distance > fitted.limit).float().mean()) < 0.06


def test_crystals_unlike_the_training_data_are_far():
    network = make_network(lambda crystals: torch.ones(len(crystals.n_atoms)))
    train, val = random_pairs(3, count=60), random_pairs(4, count=60)
    for pairs in (train, val):
        pairs.numbers.fill_(8)
    fitted = calibrate(network, train, val, torch.ones(60), "cpu", settles=False, element_volumes=torch.ones(119))
    odd = random_pairs(5).unrelaxed
    with torch.inference_mode():
        features = network.crystal_features(network.translate(odd), odd)[1]
    assert (fitted.distance(features) > fitted.limit).all()
    with torch.inference_mode():
        own = network.crystal_features(network.translate(train.unrelaxed), train.unrelaxed)[1]
    assert torch.allclose(torch.cdist(own, fitted.known).amin(dim=1), torch.zeros(60), atol=0.05)


def test_relaxed_crystals_come_to_rest():
    network = make_network(lambda crystals: torch.ones(len(crystals.n_atoms)))
    with torch.no_grad():
        network.volume_head[-1].bias.zero_()
    val = random_pairs(4, count=40)
    fitted = calibrate(network, val, val, torch.ones(40), "cpu", settles=True, element_volumes=torch.ones(119))
    relaxed = relaxed_inputs(val).unrelaxed
    with torch.inference_mode():
        prediction = network.translate(relaxed)
        settled = fitted.settle(prediction, relaxed)
    before, after = apply(prediction, relaxed), apply(settled, relaxed)
    assert (
        (after.volumes / relaxed.volumes).log().abs().mean()
        < 0.005
        < (before.volumes / relaxed.volumes).log().abs().mean()
    )
    assert settled.shift.norm(dim=-1).mean() < 0.02
    # What is left is the network's own change of shape.
    trace = settled.strain.diagonal(dim1=1, dim2=2).sum(-1)
    eye = torch.eye(3) / 3
    shape = settled.strain - trace[:, None, None] * eye
    own = prediction.strain - prediction.strain.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None] * eye
    assert torch.allclose(shape, own, atol=1e-6)


def test_unlabelled_validation_pairs_give_unit_widths():
    network = make_network(lambda crystals: torch.ones(len(crystals.n_atoms)))
    val = random_pairs(4, count=10)
    val.energy.fill_(float("nan"))
    fitted = calibrate(network, val, val, torch.ones(10), "cpu", settles=False, element_volumes=torch.ones(119))
    assert np.isfinite(fitted.uncertainty(torch.ones(2), torch.ones(2)).numpy()).all()
    assert torch.equal(sigma(fitted.scale, torch.ones(2), torch.ones(2)), torch.ones(2))
