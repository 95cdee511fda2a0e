import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from cryslator_flows.analysis.property_errors import structure_errors
from cryslator_flows.crystals.displacement import displacements
from cryslator_flows.crystals.symmetry import symmetrize_like
from cryslator_flows.pairs.align import best_alignment
from cryslator_flows.training.structure_match import displacement
from cryslator_flows.translator.geometry import shift_between
from cryslator_flows.translator.graph import Crystals

MATRIX = Lattice.from_parameters(4.1, 5.3, 6.2, 78, 95, 111).matrix


@st.composite
def moves(draw):
    """Positions, small displacements of zero mean, and the same end with another origin and in other images."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_atoms = draw(st.integers(1, 12))
    origin = draw(st.lists(st.sampled_from([0.0, 0.25, 0.4999, 0.5, 0.5001, -0.5]) | st.floats(-2, 2), min_size=3,
                           max_size=3))  # fmt: skip
    start = rng.random((n_atoms, 3))
    moved = rng.uniform(-0.08, 0.08, (n_atoms, 3))
    moved -= moved.mean(axis=0)
    return start, moved, start + moved + origin + rng.integers(-3, 4, (n_atoms, 3))


def batch(*fracs, dtype=torch.double):
    """Crystals of one cell, of which there is one for each array of positions."""
    n_atoms = [len(frac) for frac in fracs]
    return Crystals(
        torch.tensor(MATRIX.copy(), dtype=dtype).expand(len(fracs), 3, 3),
        torch.tensor(np.concatenate(fracs), dtype=dtype),
        torch.ones(sum(n_atoms), dtype=torch.long),
        torch.tensor(n_atoms),
    )


@given(moves())
def test_neither_origin_nor_images_matter(case):
    start, moved, end = case
    assert displacements(start, end) == pytest.approx(moved, abs=1e-9)


@given(st.lists(moves(), min_size=1, max_size=4))
def test_the_twin_in_torch_agrees(cases):
    starts, moved, ends = zip(*cases, strict=True)
    expected = np.concatenate(moved) @ MATRIX
    assert shift_between(batch(*starts), batch(*ends)).numpy() == pytest.approx(expected, abs=1e-9)
    single = shift_between(batch(*starts, dtype=torch.float), batch(*ends, dtype=torch.float))
    assert single.numpy() == pytest.approx(expected, abs=1e-4)


@given(st.integers(0, 2**32 - 1))
def test_the_twin_agrees_where_atoms_move_far(seed):
    start, end = np.random.default_rng(seed).random((2, 7, 3))
    expected = displacements(start, end) @ MATRIX
    assert shift_between(batch(start), batch(end)).numpy() == pytest.approx(expected, abs=1e-9)


def test_gradients_are_those_of_displacements():
    start, end = batch(np.zeros((4, 3))), batch(np.random.default_rng(0).uniform(-0.05, 0.05, (4, 3)) + 0.5)
    end.frac.requires_grad_()
    shift_between(start, end)[0, 0].backward()
    expected = (np.eye(4)[0] - 1 / 4)[:, None] * MATRIX[:, 0]
    assert end.frac.grad.numpy() == pytest.approx(expected, abs=1e-9)


def test_an_origin_shift_of_half_a_cell_is_no_displacement_anywhere():
    """Wrapped before the drift is removed, some atoms go one way and some the other: 3 A instead of 0.01 A."""
    rng = np.random.default_rng(3)
    start = Structure(MATRIX, ["Ca", "Ti", "O", "O", "O"], rng.permutation(np.arange(15)).reshape(5, 3) / 15)
    moved = rng.normal(0, 0.001, (5, 3))
    end = Structure(MATRIX, start.species, start.frac_coords + moved + 0.5)
    truth = np.linalg.norm((moved - moved.mean(axis=0)) @ MATRIX, axis=1).mean()
    assert 0.005 < truth < 0.02
    found = {
        "evaluate": displacement(end, start),
        "property errors": structure_errors(end, start).cartesian,
        "alignment": best_alignment(start, end).distances.mean(),
        "training": shift_between(batch(start.frac_coords), batch(end.frac_coords)).norm(dim=-1).mean().item(),
        "symmetry": displacement(symmetrize_like(end, start), start),
    }
    assert found == pytest.approx(dict.fromkeys(found, truth), abs=1e-9)
