from dataclasses import replace

import pytest
import torch
from pymatgen.core import Element

from cryslator_flows.crystals.compound_classes import CLASSES, compound_class
from cryslator_flows.training.calibrate import calibrate
from cryslator_flows.training.tensors import relaxed_inputs
from cryslator_flows.translator.calibration import (
    EQUAL,
    LEVELS,
    UNLIKE,
    WIDE,
    Calibration,
    class_quantiles,
    sigma,
    weighted_quantile,
)
from cryslator_flows.translator.chemistry import Chemistry, Seen
from cryslator_flows.translator.geometry import shift_between, strain_between
from cryslator_flows.translator.graph import Crystals
from cryslator_flows.translator.network import Network, NetworkConfig, Prediction, apply
from cryslator_flows.translator.settling import Settling, describe
from tests.training.test_tensors import random_pairs


def test_quantile_is_conformal_and_weighted():
    values = torch.arange(1.0, 10.0)
    # Nine equal weights: the 90 % quantile with its correction, 0.9 * 10 / 9, is the largest value.
    assert weighted_quantile(values, torch.ones(9), 0.9) == 9
    assert weighted_quantile(values, torch.ones(9), 0.5) == 5
    heavy = torch.tensor([7.0] + [0.25] * 8)
    assert weighted_quantile(values, heavy, 0.5) == 1


def fit(network, train, val, settles):
    seen, weights = Seen.count(train.unrelaxed), torch.ones(len(val))
    return calibrate(network, train, seen, val, weights, "cpu", settles, element_volumes=torch.ones(119))


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
    fitted = fit(network, train, val, settles=False)
    with torch.inference_mode():
        prediction = network.translate(test.unrelaxed)
        distance = fitted.distance(network.crystal_features(prediction, test.unrelaxed)[1])
        widths = fitted.uncertainty(prediction.energy_scale, distance, Chemistry.of(test.unrelaxed))
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
    fitted = fit(network, train, val, settles=False)
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
        return fitted.settling.settle(prediction, crystals, describe(prediction, crystals, *features))


def test_relaxed_crystals_come_to_rest_and_unrelaxed_ones_still_relax():
    shape = NetworkConfig(width=16, vectors=4, encoder_layers=1, translator_layers=1, neighbors=8, radial=4)
    pairs = random_pairs(4, count=200)
    network = Knowing(pairs, shape).eval()
    fitted = fit(network, pairs, pairs, settles=True)
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
    fitted = fit(network, val, val, settles=True)
    assert fitted.settling is None


def test_calibration_is_stored_whole():
    settling = Settling(*(torch.randn(shape) for shape in ((7,), (7,), (2, 16, 7), (2, 16), (2, 16), (2,))))
    seen = Seen(torch.rand(6, 119), torch.rand(21))
    there = Calibration(*(torch.rand(shape) for shape in (3, (6, 2), (5, 4), (), (), 119)), seen, settling)
    back = Calibration.from_state(there.state())
    for name, value in vars(settling).items():
        assert torch.equal(getattr(back.settling, name), value)
    assert torch.equal(back.seen.elements, seen.elements)
    assert torch.equal(back.seen.sizes, seen.sizes)
    assert Calibration.from_state(replace(there, settling=None).state()).settling is None


def test_unlabelled_validation_pairs_give_unit_widths():
    network = make_network(lambda crystals: torch.ones(len(crystals.n_atoms)))
    val = random_pairs(4, count=10)
    val.energy.fill_(float("nan"))
    fitted = fit(network, val, val, settles=False)
    widths = fitted.uncertainty(torch.ones(10), torch.ones(10), Chemistry.of(val.unrelaxed))
    assert torch.equal(widths, torch.ones(10, 2))
    assert torch.equal(sigma(fitted.scale, torch.ones(2), torch.ones(2)), torch.ones(2))


def one_crystal_each(*compounds):
    """Crystals of one atom of each element."""
    numbers = [[Element(symbol).Z for symbol in compound.split()] for compound in compounds]
    n_atoms = torch.tensor([len(part) for part in numbers])
    atoms = torch.tensor([number for part in numbers for number in part])
    return Crystals(torch.eye(3).expand(len(numbers), 3, 3), torch.zeros(len(atoms), 3), atoms, n_atoms)


COMPOUNDS = ("Li Fe P O", "Na Cl", "Cs Ag In F", "Cd Te", "Zr N Cl", "Ga As", "Mg C", "Cu Mn Al", "K H", "Fe", "Xe F")


def test_chemistry_of_a_batch_is_that_of_each_compound():
    chemistry = Chemistry.of(one_crystal_each(*COMPOUNDS))
    assert [list(CLASSES)[index] for index in chemistry.classes] == [compound_class(item.split()) for item in COMPOUNDS]
    assert chemistry.sizes.tolist() == [len(item.split()) for item in COMPOUNDS]
    seen = Seen.count(one_crystal_each(*COMPOUNDS)) + Seen.count(one_crystal_each("Na Br"))
    assert seen.sizes[2] == 7
    assert seen.elements[list(CLASSES).index("halides"), 11] == 2
    assert seen.elements.sum() == sum(len(item.split()) for item in COMPOUNDS) + 2


def test_each_class_has_its_quantile_drawn_to_the_one_of_all():
    """A class with as many targets as `EQUAL` gets the geometric mean of both, a class without any the common one."""
    ratios = torch.cat([torch.full((EQUAL,), 4.0), torch.full((9 * EQUAL,), 1.0)])
    classes = torch.cat([torch.zeros(EQUAL), torch.ones(9 * EQUAL)]).long()
    pooled = weighted_quantile(ratios, torch.ones(len(ratios)), LEVELS[1])
    found = class_quantiles(ratios, torch.ones(len(ratios)), classes)
    assert found.shape == (6, 2)
    assert found[0].tolist() == pytest.approx([2.0, (4 * pooled) ** 0.5])
    assert found[1, 1] == pytest.approx(pooled**0.1)
    assert found[5].tolist() == pytest.approx([1.0, pooled])


def test_intervals_hold_their_share_in_each_class():
    """One quantile for all would hold more than 95 % of the one class and less than 85 % of the other."""
    torch.manual_seed(0)
    size = torch.tensor([1.0, 2.0]).repeat_interleave(1000)
    classes = torch.tensor([0, 4]).repeat_interleave(1000)
    errors, unseen = (-size * torch.rand(2000).log() for _ in range(2))
    found = class_quantiles(errors, torch.ones(2000), classes)
    common = weighted_quantile(errors, torch.ones(2000), LEVELS[1])
    shares = [float((unseen[classes == index] <= found[index, 1]).float().mean()) for index in (0, 4)]
    assert shares == pytest.approx([0.9, 0.9], abs=0.025)
    assert float((unseen[classes == 0] <= common).float().mean()) > 0.95
    assert float((unseen[classes == 4] <= common).float().mean()) < 0.85


def test_each_reason_out_of_domain_is_stated():
    counts = Seen.count(one_crystal_each(*["Na Cl"] * 990, *["Tc Cl"] * 3, *["K Li Cl"] * 7, *["Na O"] * 10))
    fitted = Calibration(
        scale=torch.zeros(3), quantiles=torch.ones(6, 2), known=torch.zeros(1, 4), limit=torch.tensor(2.0),
        widest=torch.tensor(0.5), element_volumes=torch.ones(119), seen=counts,
    )  # fmt: skip
    compounds = ("Na Cl", "Na Cl", "Na Cl", "Tc Cl", "Tc O", "Na O", "Cu", "Na K Cl", "Na Tc", "Mg C")
    widths = torch.tensor([0.5, 0.6, 0.4] + [0.1] * 7)[:, None].expand(10, 2)
    distance = torch.tensor([2.0, 9.0, 2.1] + [0.1] * 7)
    found = fitted.reasons(Chemistry.of(one_crystal_each(*compounds)), widths, distance)
    assert found == [
        "", WIDE, UNLIKE, "Tc in 3 training halides", "Tc in 0 training oxides", "",
        "Cu in 0 training intermetallics", "K in 7 training halides", "Na in 0 training intermetallics",
        "C in 0 training crystals of other classes",
    ]  # fmt: skip
    plenty = replace(fitted, seen=counts + Seen(torch.full((6, 119), 20.0), torch.zeros(21)))
    assert plenty.reasons(Chemistry.of(one_crystal_each("Na K Cl", "Na")), widths[3:5], distance[3:5]) == [
        "3 elements in 7 training crystals", "1 element in 0 training crystals",
    ]  # fmt: skip


def test_a_share_of_few_training_crystals_knows_a_chemistry():
    """One of a hundred crystals is enough where the training has no more."""
    counts = Seen.count(one_crystal_each(*["Na Cl"] * 98, "K Cl", "K Br"))
    fitted = Calibration(
        scale=torch.zeros(3), quantiles=torch.ones(6, 2), known=torch.zeros(1, 4), limit=torch.tensor(2.0),
        widest=torch.tensor(0.5), element_volumes=torch.ones(119), seen=counts,
    )  # fmt: skip
    crystals = Chemistry.of(one_crystal_each("Na Br", "Na I"))
    assert fitted.reasons(crystals, torch.zeros(2, 2), torch.zeros(2)) == ["", "I in 0 training halides"]
