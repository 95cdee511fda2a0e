"""What must hold for any weights: random networks are tested, today's and the paper's."""

from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cryslator_flows.translator.graph import Crystals
from cryslator_flows.translator.network import Network, NetworkConfig, Prediction, apply
from cryslator_flows.translator.reference.reference_network import ReferenceConfig, ReferenceNetwork


@dataclass(frozen=True)
class Case:
    """A network, the precision it runs in and what may differ by rounding."""

    network: Network | ReferenceNetwork
    dtype: torch.dtype
    tolerance: float

    def __call__(self, crystals: Crystals) -> Prediction:
        return self.network.translate(
            replace(crystals, lattices=crystals.lattices.to(self.dtype), frac=crystals.frac.to(self.dtype))
        )

    def same(self, one: torch.Tensor, other: torch.Tensor) -> bool:
        return torch.allclose(one, other.to(one.dtype), atol=self.tolerance, rtol=0)


def make_network(passes: int) -> Network:
    table = torch.randn(119, 7)
    config = NetworkConfig(
        width=24, vectors=12, encoder_layers=2, translator_layers=1, neighbors=16, radial=8, passes=passes
    )
    network = Network(config, table, torch.rand(119) + 0.7, 8 + 6 * torch.rand(119))
    for head in (network.volume_head[-1], network.shape_head):
        torch.nn.init.normal_(head.weight, std=0.1)
    return network


def make_reference() -> ReferenceNetwork:
    config = ReferenceConfig(
        width=16, layers=2, feature=64, channels=2, cell_width=8, cell_layers=2, position_width=8, position_layers=2
    )
    return ReferenceNetwork(config)


@pytest.fixture(scope="module", params=["one pass", "two passes", "single precision", "paper"])
def network(request):
    torch.manual_seed(1)
    network = make_reference() if request.param == "paper" else make_network(1 if request.param == "one pass" else 2)
    dtype = torch.float if request.param == "single precision" else torch.double
    return Case(network.to(dtype).eval().requires_grad_(False), dtype, 1e-4 if dtype == torch.float else 1e-8)


def random_crystal(seed: int, atoms: int = 5) -> Crystals:
    rng = np.random.default_rng(seed)
    lattice = 4.5 * np.eye(3) + rng.normal(scale=0.5, size=(3, 3))
    frac = np.stack([np.arange(atoms) / atoms, *rng.uniform(size=(2, atoms))], axis=1)
    return Crystals(
        torch.tensor(lattice)[None], torch.tensor(frac), torch.tensor(rng.integers(1, 90, atoms)), torch.tensor([atoms])
    )


seeds = st.integers(0, 10**6)
many = settings(max_examples=25)


@given(seeds)
@many
def test_rotation_and_reflection(network, seed):
    crystals = random_crystal(seed)
    turn = torch.tensor(Rotation.random(rng=seed).as_matrix()) * (-1) ** seed
    before, after = network(crystals), network(replace(crystals, lattices=crystals.lattices @ turn))
    assert network.same(after.energy, before.energy)
    assert network.same(after.strain, turn.T @ before.strain.double() @ turn)
    assert network.same(after.shift, before.shift.double() @ turn)


@given(seeds)
@many
def test_permutation_origin_and_images(network, seed):
    crystals = random_crystal(seed)
    rng = np.random.default_rng(seed)
    order = torch.tensor(rng.permutation(len(crystals.frac)))
    frac = crystals.frac + torch.tensor(rng.uniform(size=3)) + torch.tensor(rng.integers(-3, 4, crystals.frac.shape))
    before = network(crystals)
    after = network(replace(crystals, frac=frac[order], numbers=crystals.numbers[order]))
    assert network.same(after.energy, before.energy)
    assert network.same(after.strain, before.strain)
    assert network.same(after.shift, before.shift[order])


@given(seeds, st.permutations([0, 1, 2]))
@many
def test_choice_of_cell(network, seed, axes):
    """Other lattice vectors of the same lattice: axes permuted, one sheared by another."""
    crystals = random_crystal(seed)
    change = torch.eye(3, dtype=torch.double)[list(axes)]
    change[0] += 2 * change[1]
    before = network(crystals)
    after = network(
        replace(crystals, lattices=change @ crystals.lattices, frac=crystals.frac @ torch.linalg.inv(change))
    )
    assert network.same(after.energy, before.energy)
    assert network.same(after.strain, before.strain)
    assert network.same(after.shift, before.shift)


@given(seeds, st.integers(0, 2), st.integers(2, 3))
@many
def test_supercell(network, seed, axis, times):
    crystals = random_crystal(seed)
    scale = torch.ones(3, dtype=torch.double)
    scale[axis] = times
    copies = [crystals.frac + torch.eye(3, dtype=torch.double)[axis] * copy for copy in range(times)]
    larger = Crystals(
        crystals.lattices * scale[None, :, None],
        torch.cat(copies) / scale,
        crystals.numbers.repeat(times),
        crystals.n_atoms * times,
    )
    before, after = network(crystals), network(larger)
    assert network.same(after.energy, before.energy)
    assert network.same(after.energy_scale, before.energy_scale)
    assert network.same(after.strain, before.strain)
    assert network.same(after.shift, before.shift.repeat(times, 1))


@given(seeds, seeds)
@many
def test_crystals_of_a_batch_do_not_see_each_other(network, first, second):
    one, two = random_crystal(first, 3), random_crystal(second, 6)
    both = Crystals(
        *(torch.cat([getattr(one, name), getattr(two, name)]) for name in ("lattices", "frac", "numbers", "n_atoms"))
    )
    together = network(both)
    assert network.same(together.energy, torch.cat([network(one).energy, network(two).energy]))
    assert network.same(together.shift, torch.cat([network(one).shift, network(two).shift]))


@given(seeds)
@many
def test_shape_of_the_answer(network, seed):
    crystals = random_crystal(seed)
    prediction = network(crystals)
    assert network.same(prediction.strain, prediction.strain.mT)
    assert prediction.shift.mean(dim=0).abs().max() < network.tolerance
    assert prediction.shift.abs().max() > 1e-6
    assert (prediction.strain - torch.eye(3) * prediction.strain[0].trace() / 3).abs().max() > 1e-8
    assert prediction.energy_scale > 0
    double = replace(prediction, strain=prediction.strain.double(), shift=prediction.shift.double())
    after = apply(double, crystals)
    growth = prediction.strain.diagonal(dim1=1, dim2=2).sum(-1)
    assert network.same(torch.log(after.volumes / crystals.volumes), growth)


def test_output_is_continuous_where_neighbours_enter_and_leave(network):
    """No jump while an atom wanders through the shells of its neighbours."""
    crystals = random_crystal(3)
    energies = []
    for step in torch.linspace(0, 0.5, 501, dtype=torch.double):
        frac = crystals.frac.clone()
        frac[0, 1] += step
        energies.append(float(network(replace(crystals, frac=frac)).energy))
    jumps = np.abs(np.diff(energies))
    assert jumps.max() < 30 * np.median(jumps) + 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_bonds_computed_once_teach_the_same_as_edges_computed_each(seed):
    """Weights learn the same whether or not equal bonds share their features; so they do for all atoms at once."""
    torch.manual_seed(seed)
    network = make_network(1).double()
    crystals = random_crystal(seed, atoms=6)
    crystals = replace(crystals, numbers=crystals.numbers % 2 + 8)

    def answer() -> list[torch.Tensor]:
        prediction = network(crystals)
        loss = prediction.energy.sum() + prediction.strain.square().sum() + prediction.shift.square().sum()
        return [loss, *torch.autograd.grad(loss, network.parameters(), allow_unused=True)]

    once = answer()
    every = lambda length, *_: (torch.arange(len(length)),) * 2  # noqa: E731
    with patch.multiple("cryslator_flows.translator.network", distinct_bonds=every, ATOMS_IN_CACHE=2):
        each = answer()
    for one, other in zip(once, each, strict=True):
        assert one is other is None or torch.allclose(one, other, rtol=1e-8, atol=1e-10)
