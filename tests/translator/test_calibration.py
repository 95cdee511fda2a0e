from dataclasses import replace

import numpy as np
import pytest
import torch

from cryslator_flows.training.calibrate import calibrate
from cryslator_flows.training.tensors import relaxed_inputs
from cryslator_flows.translator.calibration import LEVELS, Calibration, sigma, weighted_quantile
from cryslator_flows.translator.geometry import shift_between, strain_between
from cryslator_flows.translator.network import Network, NetworkConfig, Prediction, apply
from cryslator_flows.translator.settling import Settling
from tests.training.test_tensors import random_pairs


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


class Knowing(Network):
    """Knows the relaxed crystals up to errors of a known size, of volume and of positions."""

    def __init__(self, pairs, config, volume=0.01, shift=0.02):
        super().__init__(config)
        self.pairs, self.errors = pairs, (volume, shift)

    def translate(self, crystals):
        prediction = self(crystals)
        relaxed = self.pairs.relaxed
        generator = torch.Generator().manual_seed(1)
        wrong = self.errors[0] * torch.randn(len(self.pairs), generator=generator)
        off = self.errors[1] * torch.randn(crystals.frac.shape, generator=generator)
        strain = strain_between(crystals.lattices, relaxed.lattices) + wrong[:, None, None] * torch.eye(3) / 3
        shift = shift_between(crystals, relaxed) + off
        return replace(prediction, strain=strain, shift=shift)


def settled(network, fitted, crystals):
    with torch.inference_mode():
        prediction = network.translate(crystals)
        features = network.crystal_features(prediction, crystals)
        return fitted.settling.settle(prediction, crystals, *features)


def test_relaxed_crystals_come_to_rest_and_unrelaxed_ones_still_relax():
    shape = NetworkConfig(width=16, vectors=4, encoder_layers=1, translator_layers=1, neighbors=8, radial=4)
    pairs = random_pairs(4, count=200)
    network = Knowing(pairs, shape).eval()
    fitted = calibrate(network, pairs, pairs, torch.ones(200), "cpu", settles=True, element_volumes=torch.ones(119))
    relaxed, unrelaxed = relaxed_inputs(pairs).unrelaxed, pairs.unrelaxed

    def errors(crystals, prediction):
        after = apply(prediction, crystals)
        return (
            float((after.volumes / pairs.relaxed.volumes).log().abs().mean()),
            float(shift_between(pairs.relaxed, after).norm(dim=-1).mean()),
        )

    rest = errors(relaxed, settled(network, fitted, relaxed))
    assert rest[0] < 0.005 < errors(relaxed, network.translate(relaxed))[0]
    assert rest[1] < 0.02 < errors(relaxed, network.translate(relaxed))[1]
    # From the other end the change is as large as before, up to a little.
    left, own = errors(unrelaxed, settled(network, fitted, unrelaxed)), errors(unrelaxed, network.translate(unrelaxed))
    assert left[0] < 1.5 * own[0]
    assert left[1] < 1.5 * own[1]


def test_few_pairs_teach_nothing_of_rest():
    network = make_network(lambda crystals: torch.ones(len(crystals.n_atoms)))
    val = random_pairs(4, count=10)
    fitted = calibrate(network, val, val, torch.ones(10), "cpu", settles=True, element_volumes=torch.ones(119))
    assert fitted.settling is None


def test_calibration_is_stored_whole():
    settling = Settling(*(torch.randn(shape) for shape in ((7,), (7,), (2, 16, 7), (2, 16), (2, 16), (2,))))
    there = Calibration(*(torch.rand(shape) for shape in (3, 2, (5, 4), (), 119)), settling)
    back = Calibration.from_state(there.state())
    for name, value in vars(settling).items():
        assert torch.equal(getattr(back.settling, name), value)
    assert Calibration.from_state(replace(there, settling=None).state()).settling is None


def test_unlabelled_validation_pairs_give_unit_widths():
    network = make_network(lambda crystals: torch.ones(len(crystals.n_atoms)))
    val = random_pairs(4, count=10)
    val.energy.fill_(float("nan"))
    fitted = calibrate(network, val, val, torch.ones(10), "cpu", settles=False, element_volumes=torch.ones(119))
    assert np.isfinite(fitted.uncertainty(torch.ones(2), torch.ones(2)).numpy()).all()
    assert torch.equal(sigma(fitted.scale, torch.ones(2), torch.ones(2)), torch.ones(2))
