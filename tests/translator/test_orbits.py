"""A crystal by one atom of each orbit gives what all of its atoms give."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from moyopy import Cell, MoyoDataset
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.groups import SpaceGroup
from scipy.spatial.transform import Rotation

from cryslator_flows.crystals.templates import AflowTemplates
from cryslator_flows.training.evaluate import split
from cryslator_flows.training.prepare import to_pairs, with_symmetry
from cryslator_flows.training.tensors import Augmentation
from cryslator_flows.translator.equivalents import _equivalent, find_symmetry
from cryslator_flows.translator.graph import Crystals
from cryslator_flows.translator.loaded import to_crystals
from cryslator_flows.translator.network import apply
from tests.translator.test_network import make_network

CELLS = {
    "triclinic": (4.1, 4.9, 5.6, 83, 95, 101),
    "monoclinic": (4.1, 4.9, 5.6, 90, 101, 90),
    "orthorhombic": (4.1, 4.9, 5.6, 90, 90, 90),
    "tetragonal": (4.6, 4.6, 5.6, 90, 90, 90),
    "trigonal": (5.1, 5.1, 6.2, 90, 90, 120),
    "hexagonal": (5.1, 5.1, 6.2, 90, 90, 120),
    "cubic": (6.3, 6.3, 6.3, 90, 90, 90),
}


def of_space_group(number: int) -> Structure:
    """An atom of one element in general position, one of another at the origin."""
    group = SpaceGroup.from_int_number(number)
    lattice = Lattice.from_parameters(*CELLS[group.crystal_system])
    lattice = lattice.scale(lattice.volume * max(1, group.order / 8))
    return Structure.from_spacegroup(number, lattice, ["Ti", "O"], [[0, 0, 0], [0.137, 0.269, 0.381]])


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(5)
    return make_network(2).double().eval().requires_grad_(False)


def assert_same(network, crystals: Crystals, tolerance: float = 1e-9) -> Crystals:
    """Compare with the full computation; give back the crystals by their orbits."""
    found = find_symmetry(crystals)
    few, full = network.translate(found), network.translate(crystals)
    for name in ("energy", "energy_scale", "strain", "shift"):
        assert torch.allclose(getattr(few, name), getattr(full, name), atol=tolerance, rtol=0), name
    features = network.crystal_features(few, found), network.crystal_features(full, crystals)
    for one, other in zip(*features, strict=True):
        assert torch.allclose(one, other, atol=10 * tolerance, rtol=0)
    return found


@pytest.mark.slow
def test_all_space_groups(network):
    structures = [of_space_group(number) for number in range(1, 231)]
    for start in range(0, 230, 10):
        crystals = to_crystals(structures[start : start + 10])
        found = assert_same(network, crystals)
        assert torch.bincount(found.orbits.owner).tolist() == [2] * 10
        moved = network.translate(found).shift.norm(dim=-1)
        assert moved.max() > 1e-4


def test_prototypes(network):
    """Coordinates of the literature are rounded; symmetry holds as well as these."""
    structures = [template.structure for template in AflowTemplates(max_atoms=12).load()]
    for crystals in split(to_crystals(structures)):
        found = assert_same(network, crystals, 2e-5)
        assert len(found.orbits.shown) < 0.7 * len(crystals.frac)


@given(st.integers(1, 230), st.integers(0, 10**6), st.permutations([1, 1, 2]))
@settings(max_examples=20)
def test_supercells_rotated_and_permuted(network, number, seed, times):
    structure = of_space_group(number)
    if len(structure) > 60:
        return
    structure.make_supercell(times)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(structure))
    turn = Rotation.random(rng=seed).as_matrix()
    frac = structure.frac_coords[order] + rng.uniform(size=3) + rng.integers(-2, 3, (len(order), 3))
    species = [structure.species[index] for index in order]
    assert_same(network, to_crystals([Structure(structure.lattice.matrix @ turn, species, frac)]), 1e-8)


@given(st.integers(1, 230), st.floats(0.7, 1.5))
@settings(max_examples=20)
def test_scaled_cells_have_the_same_symmetry(number, scale):
    cell = of_space_group(number)
    larger = cell.copy()
    larger.scale_lattice(scale * cell.volume)
    one, other = (find_symmetry(to_crystals([structure])).symmetry for structure in (cell, larger))
    assert torch.equal(one.representatives, other.representatives)
    for name in ("turns", "sites", "cells"):
        assert torch.allclose(getattr(one, name), getattr(other, name), atol=1e-9, rtol=0), name


def test_fixed_sites_do_not_move(network, perovskite):
    found = find_symmetry(to_crystals([perovskite]))
    prediction = network.translate(found)
    assert torch.equal(prediction.shift, torch.zeros(5, 3, dtype=torch.double))
    assert torch.equal(apply(prediction, found).frac, found.frac)
    strain = prediction.strain[0]
    assert torch.allclose(strain, strain[0, 0] * torch.eye(3, dtype=torch.double), atol=1e-15)


def test_symmetry_is_kept_after_translation(network):
    """In single precision, as models run, to far below the precision that DFT codes look for symmetry with."""
    for number in (14, 62, 136, 167, 194, 225):
        before = find_symmetry(to_crystals([of_space_group(number)]))
        single = network.float().translate(before.in_precision(torch.float32))
        network.double()
        doubled = replace(single, strain=single.strain.double(), shift=single.shift.double())
        after = apply(doubled, before)
        again = find_symmetry(replace(after, symmetry=None))
        assert torch.equal(again.symmetry.representatives, before.symmetry.representatives)
        shift = doubled.shift[before.orbits.shown]
        assert torch.allclose(before.orbits.keep_sites(shift), doubled.shift, atol=1e-7)


@pytest.mark.parametrize("wrong", ["flat", "not a number"])
def test_what_has_no_symmetry_is_computed_in_full(perovskite, wrong):
    """A crystal that the search makes no sense of is no error and spoils no other."""
    crystals = to_crystals([perovskite, perovskite])
    if wrong == "flat":
        crystals.lattices[1, 2] = crystals.lattices[1, 0]
    else:
        crystals.frac[5] = torch.nan
    found = find_symmetry(crystals)
    assert torch.bincount(found.orbits.owner).tolist() == [3, 5]


def test_pairs_keep_the_symmetry_that_both_crystals_have(perovskite):
    broken = perovskite.copy()
    broken.translate_sites([1], [0.05, 0, 0])
    grown = perovskite.copy()
    grown.scale_lattice(1.1 * grown.volume)

    def row(relaxed: Structure):
        sides = (part for s in (perovskite, relaxed) for part in (s.lattice.matrix, s.frac_coords))
        return np.array(perovskite.atomic_numbers), *sides, 0.0, True

    pairs = with_symmetry(to_pairs([row(grown), row(broken)]))
    assert torch.bincount(pairs.unrelaxed.orbits.owner).tolist() == [3, 5]


def test_noise_of_training_keeps_the_symmetry():
    rutile = of_space_group(136)
    sides = (rutile.lattice.matrix, rutile.frac_coords) * 2
    pairs = with_symmetry(to_pairs([(np.array(rutile.atomic_numbers), *sides, 0.0, True)], np.float64))
    inputs = Augmentation(unrelaxed=0, relaxed=0).draw(pairs, torch.tensor([True]), torch.Generator().manual_seed(0))
    again = find_symmetry(replace(inputs, symmetry=None))
    assert torch.equal(again.symmetry.representatives, pairs.symmetry.representatives)
    assert (inputs.lattices - pairs.unrelaxed.lattices).abs().max() > 1e-3
    assert (inputs.frac - pairs.unrelaxed.frac).abs().max() > 1e-3


def test_a_panic_of_the_symmetry_finder_leaves_all_atoms(monkeypatch):
    """A flat cell makes its Rust code panic, which is no Exception in Python."""
    last = [-1.7538675003971982, -0.5943840258901824, -5.699498900399726]
    flat = np.array([[-1.3020726918873147, 1.5898503628985539, -6.97278077642173], last, last])
    frac = np.array([[0.0, 0.5, 0.0]])
    with pytest.raises(BaseException, match=r"unimodular|symmetry search failed"):
        MoyoDataset(Cell(flat.tolist(), frac.tolist(), [0]), symprec=1e-3)
    representatives, turns, sites, cells = _equivalent(flat.tobytes(), frac.tobytes(), (0,))
    assert representatives.tolist() == [0]
    assert (turns == np.eye(3)).all()
    assert (sites == np.eye(3)).all()
    assert (cells == np.eye(6)).all()

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("moyopy.MoyoDataset", stop)
    with pytest.raises(KeyboardInterrupt):
        _equivalent(np.eye(3).tobytes(), frac.tobytes(), (7,))
