import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from cryslator_flows.training.structure_match import displacement
from cryslator_flows.training.tensors import (
    Augmentation,
    Pairs,
    from_arrays,
    load_arrays,
    to_arrays,
)
from cryslator_flows.translator.geometry import shift_between, strain_between
from cryslator_flows.translator.graph import Crystals
from cryslator_flows.translator.network import Prediction, apply
from cryslator_flows.translator.orbits import Symmetry


def random_pairs(seed: int, count: int = 4, atoms: int = 5) -> Pairs:
    """Unrelaxed crystals and what a known strain and known shifts make of them."""
    rng = np.random.default_rng(seed)
    lattices = 4.5 * np.eye(3) + rng.normal(scale=0.4, size=(count, 3, 3))
    frac = rng.uniform(size=(count * atoms, 3))
    strain = rng.normal(scale=0.05, size=(count, 3, 3))
    strain = torch.tensor(strain + strain.transpose(0, 2, 1))
    relaxed = torch.tensor(lattices) @ torch.linalg.matrix_exp(strain)
    moved = frac + rng.normal(scale=0.02, size=frac.shape) + rng.integers(-1, 2, frac.shape)
    return Pairs(
        n_atoms=torch.full((count,), atoms),
        numbers=torch.tensor(rng.integers(1, 90, count * atoms)),
        unrelaxed_lattices=torch.tensor(lattices).float(),
        relaxed_lattices=relaxed.float(),
        unrelaxed_frac=torch.tensor(frac).float(),
        relaxed_frac=torch.tensor(moved).float(),
        energy=torch.tensor(rng.normal(size=count)).float(),
        settled=torch.ones(count, dtype=torch.bool),
        symmetry=Symmetry.none(torch.full((count,), atoms), torch.float32),
    )


@given(st.integers(0, 10**6))
@settings(max_examples=30)
def test_targets_lead_to_the_relaxed_crystal(seed):
    pairs = random_pairs(seed)
    strain = strain_between(pairs.unrelaxed_lattices, pairs.relaxed_lattices)
    shift = shift_between(pairs.unrelaxed, pairs.relaxed)
    nothing = torch.zeros(1)
    after = apply(Prediction(nothing, nothing, strain, shift, nothing, nothing), pairs.unrelaxed)
    assert torch.allclose(after.lattices, pairs.relaxed_lattices, atol=1e-4)
    assert shift_between(after, pairs.relaxed).abs().max() < 1e-4


def test_strain_ignores_rotation():
    cell = torch.tensor([[[4.0, 0, 0], [0.5, 5, 0], [0, 1, 6]]], dtype=torch.double)
    turn = torch.tensor([[0.6, 0.8, 0], [-0.8, 0.6, 0], [0, 0, 1]], dtype=torch.double)
    assert strain_between(cell, cell @ turn).abs().max() < 1e-9


def test_shift_is_that_of_the_evaluation():
    rng = np.random.default_rng(5)
    lattice = Lattice(4 * np.eye(3) + rng.normal(scale=0.3, size=(3, 3)))
    start, end = (Structure(lattice, ["O"] * 4, rng.uniform(size=(4, 3))) for _ in range(2))
    crystals = [
        Crystals(
            torch.tensor(s.lattice.matrix.copy())[None],
            torch.tensor(s.frac_coords.copy()),
            torch.tensor(s.atomic_numbers),
            torch.tensor([4]),
        )
        for s in (end, start)
    ]
    assert shift_between(*crystals).norm(dim=-1).mean() == pytest.approx(displacement(start, end))


def test_arrays_round_trip(tmp_path):
    pairs = random_pairs(0)
    np.savez(tmp_path / "a.npz", **to_arrays(pairs, "train"))
    back = from_arrays(load_arrays(tmp_path / "a.npz"), "train")
    for one, other in ((pairs.tensors, back.tensors), (vars(pairs.symmetry), vars(back.symmetry))):
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_take_keeps_atoms_with_their_crystal():
    pairs = random_pairs(1, count=6, atoms=3)
    taken = pairs.take(torch.tensor([4, 1]))
    assert torch.equal(taken.numbers, torch.cat([pairs.numbers[12:15], pairs.numbers[3:6]]))
    assert torch.equal(taken.energy, pairs.energy[[4, 1]])


@pytest.mark.parametrize(
    ("share", "end"), [({"unrelaxed": 1, "relaxed": 0}, "unrelaxed"), ({"unrelaxed": 0, "relaxed": 1}, "relaxed")]
)
def test_pure_draws_are_the_ends_of_the_path(share, end):
    pairs = random_pairs(2)
    inputs = Augmentation(**share).draw(pairs, torch.zeros(4, dtype=torch.bool), torch.Generator().manual_seed(0))
    goal = getattr(pairs, end)
    assert strain_between(inputs.lattices, goal.lattices).abs().max() < 1e-4
    assert shift_between(inputs, goal).abs().max() < 1e-4


def test_draws_between_lie_on_the_path_but_for_noise():
    pairs = random_pairs(3)
    quiet = Augmentation(unrelaxed=0, relaxed=0, strain_noise=0, shift_noise=0)
    inputs = quiet.draw(pairs, torch.zeros(4, dtype=torch.bool), torch.Generator().manual_seed(0))
    whole = shift_between(pairs.unrelaxed, pairs.relaxed).norm(dim=-1)
    parts = shift_between(pairs.unrelaxed, inputs).norm(dim=-1) / whole
    for fractions in parts.split(5):
        assert fractions.std() < 1e-3
        assert 0 <= fractions.mean() <= 1
    noisy = Augmentation(unrelaxed=0, relaxed=0, strain_noise=0.05, shift_noise=0.1)
    inputs = noisy.draw(pairs, torch.zeros(4, dtype=torch.bool), torch.Generator().manual_seed(0))
    assert (shift_between(pairs.unrelaxed, inputs).norm(dim=-1) / whole).std() > 0.1
