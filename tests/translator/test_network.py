"""What must hold for any weights: a random network in double precision is tested."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cryslator_flows.translator.graph import Crystals
from cryslator_flows.translator.network import Network, NetworkConfig, apply


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    table = torch.randn(119, 7)
    config = NetworkConfig(width=24, vectors=12, encoder_layers=2, translator_layers=1, neighbors=16, radial=8)
    network = Network(config, table, torch.rand(119) + 0.7, 8 + 6 * torch.rand(119)).double().eval()
    for head in (network.volume_head, network.shape_head):
        torch.nn.init.normal_(head[-1].weight, std=0.3)
    return network.requires_grad_(False)


def random_crystal(seed: int, atoms: int = 5) -> Crystals:
    rng = np.random.default_rng(seed)
    lattice = 4.5 * np.eye(3) + rng.normal(scale=0.5, size=(3, 3))
    frac = np.stack([np.arange(atoms) / atoms, *rng.uniform(size=(2, atoms))], axis=1)
    return Crystals(
        torch.tensor(lattice)[None], torch.tensor(frac), torch.tensor(rng.integers(1, 90, atoms)), torch.tensor([atoms])
    )


seeds = st.integers(0, 10**6)
many = settings(deadline=None, max_examples=25)


@given(seeds)
@many
def test_rotation_and_reflection(network, seed):
    crystals = random_crystal(seed)
    turn = torch.tensor(Rotation.random(rng=seed).as_matrix()) * (-1) ** seed
    before, after = network(crystals), network(replace(crystals, lattices=crystals.lattices @ turn))
    assert torch.allclose(after.energy, before.energy, atol=1e-9)
    assert torch.allclose(after.strain, turn.T @ before.strain @ turn, atol=1e-9)
    assert torch.allclose(after.shift, before.shift @ turn, atol=1e-9)


@given(seeds)
@many
def test_permutation_origin_and_images(network, seed):
    crystals = random_crystal(seed)
    rng = np.random.default_rng(seed)
    order = torch.tensor(rng.permutation(len(crystals.frac)))
    frac = crystals.frac + torch.tensor(rng.uniform(size=3)) + torch.tensor(rng.integers(-3, 4, crystals.frac.shape))
    before = network(crystals)
    after = network(replace(crystals, frac=frac[order], numbers=crystals.numbers[order]))
    assert torch.allclose(after.energy, before.energy, atol=1e-9)
    assert torch.allclose(after.strain, before.strain, atol=1e-9)
    assert torch.allclose(after.shift, before.shift[order], atol=1e-9)


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
    assert torch.allclose(after.energy, before.energy, atol=1e-9)
    assert torch.allclose(after.strain, before.strain, atol=1e-9)
    assert torch.allclose(after.shift, before.shift, atol=1e-9)


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
    assert torch.allclose(after.energy, before.energy, atol=1e-9)
    assert torch.allclose(after.energy_scale, before.energy_scale, atol=1e-9)
    assert torch.allclose(after.strain, before.strain, atol=1e-9)
    assert torch.allclose(after.shift, before.shift.repeat(times, 1), atol=1e-9)


@given(seeds, seeds)
@many
def test_crystals_of_a_batch_do_not_see_each_other(network, first, second):
    one, two = random_crystal(first, 3), random_crystal(second, 6)
    both = Crystals(
        *(torch.cat([getattr(one, name), getattr(two, name)]) for name in ("lattices", "frac", "numbers", "n_atoms"))
    )
    together = network(both)
    assert torch.allclose(together.energy, torch.cat([network(one).energy, network(two).energy]), atol=1e-9)
    assert torch.allclose(together.shift, torch.cat([network(one).shift, network(two).shift]), atol=1e-9)


@given(seeds)
@many
def test_shape_of_the_answer(network, seed):
    crystals = random_crystal(seed)
    prediction = network(crystals)
    assert torch.equal(prediction.strain, prediction.strain.mT)
    assert prediction.shift.mean(dim=0).abs().max() < 1e-12
    assert prediction.shift.abs().max() > 1e-6
    assert (prediction.strain - torch.eye(3) * prediction.strain[0].trace() / 3).abs().max() > 1e-8
    assert prediction.energy_scale > 0
    after = apply(prediction, crystals)
    assert torch.allclose(
        torch.log(after.volumes / crystals.volumes), prediction.strain.diagonal(dim1=1, dim2=2).sum(-1), atol=1e-9
    )


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
