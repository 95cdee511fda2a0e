import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.core.structure_matcher import StructureMatcher
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from cryslator_flows.pairs.deformation import SitesOfCell, lattices_near
from cryslator_flows.pairs.sources.isostructural import FARTHER, deform

CRYSTALS = {
    "perovskite": Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(3.9), ["Ca", "Ti", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
    ),
    "rutile": Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.6, 2.95), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
    ),
    "rock salt": Structure([[0, 2.1, 2.1], [2.1, 0, 2.1], [2.1, 2.1, 0]], ["Mg", "O"], [[0, 0, 0], [0.5] * 3]),
    "wurtzite": Structure.from_spacegroup(
        "P6_3mc", Lattice.hexagonal(3.8, 6.2), ["Zn", "S"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.375]]
    ),
}


def deformed(crystal, seed, strain, shift):
    """A crystal after a strain and displacements of about these sizes, turned, its sites in another order."""
    rng = np.random.default_rng(seed)
    symmetric = rng.uniform(-strain, strain, (3, 3))
    moved = rng.normal(0, shift / 3**0.5, (len(crystal), 3))
    matrix = crystal.lattice.matrix @ expm((symmetric + symmetric.T) / 2) @ Rotation.random(rng=rng).as_matrix()
    order = rng.permutation(len(crystal))
    frac = crystal.frac_coords + moved @ np.linalg.inv(crystal.lattice.matrix) + rng.random(3)
    return Structure(matrix, [crystal[i].specie for i in order], frac[order])


def reduced(crystal):
    matrix = crystal.lattice.get_niggli_reduced_lattice().matrix
    return SitesOfCell(matrix, crystal.cart_coords @ np.linalg.inv(matrix), np.array(crystal.atomic_numbers))


@pytest.mark.parametrize("name", CRYSTALS)
@given(
    seed=st.integers(0, 10_000),
    strain=st.sampled_from([0.05, 0.15, 0.3]),
    shift=st.sampled_from([0.05, 0.4, 0.8, 1.2]),
)
@settings(max_examples=15)
def test_what_structure_matcher_maps_can_be_deformed(name, seed, strain, shift):
    start, end = reduced(CRYSTALS[name]), reduced(deformed(CRYSTALS[name], seed, strain, shift))
    found = deform(start, end, start.numbers[None])
    matcher = StructureMatcher(primitive_cell=False)
    one, other = (Structure(item.matrix, item.numbers, item.frac) for item in (start, end))
    rms = matcher.get_rms_dist(one, other)
    # The matcher measures displacements in the mean of both cells.
    if found is None or (found.distances**2).mean() ** 0.5 / found.length < 0.95 * FARTHER:
        assert (found is None) == (rms is None)


@pytest.mark.parametrize("name", CRYSTALS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=10)
def test_all_choices_of_lattice_vectors_are_found(name, seed):
    start, end = CRYSTALS[name].lattice, reduced(deformed(CRYSTALS[name], seed, 0.2, 0)).matrix
    lattices, strains = lattices_near(start.matrix, end, 0.2, 5)
    mappings = Lattice(end).find_all_mappings(start.scale(Lattice(end).volume), 0.2, 5, skip_rotation_matrix=True)
    expected = [mapped.matrix for mapped, _, numbers in mappings if abs(round(np.linalg.det(numbers))) == 1]
    assert len(lattices) == len(expected)
    assert {tuple(row) for row in lattices.reshape(-1, 9).round(5) + 0.0} == {
        tuple(row) for row in np.reshape(expected, (-1, 9)).round(5) + 0.0
    }
    sizes = (strains**2).sum(axis=(1, 2))
    assert (np.diff(sizes) > -1e-8).all()


@given(seed=st.integers(0, 10_000), shift=st.sampled_from([0.02, 0.3, 0.7]))
@settings(max_examples=20)
def test_several_labels_at_once_are_as_good_as_each_alone(seed, shift):
    """Also where two atoms of one label have the same nearest site."""
    crystal = CRYSTALS["wurtzite"].copy()
    crystal.replace(2, "Cd")
    start, end = reduced(crystal), reduced(deformed(crystal, seed, 0.05, shift))
    zinc, cadmium, sulfur = 30, 48, 16
    names = [(zinc, sulfur, cadmium), (zinc, cadmium, sulfur)]
    labels = np.array([[dict(zip(names[0], some, strict=True))[number] for number in start.numbers] for some in names])
    apart = [deform(start, end, labels[[number]]) for number in (0, 1)]
    together = deform(start, end, labels)
    costs = [np.inf if item is None else item.cost for item in apart]
    assert (np.inf if together is None else together.cost) <= min(costs) + 1e-6
    if together is not None and abs(costs[0] - costs[1]) > 1e-5:
        assert together.labels == int(np.argmin(costs))


def test_of_equal_deformations_the_first_labels_are_taken():
    start = reduced(CRYSTALS["rock salt"])
    for labels in ([[12, 8], [8, 12]], [[8, 12], [12, 8]]):
        found = deform(start, start, np.array(labels))
        assert (found.labels, found.cost) == (0, pytest.approx(0, abs=1e-12))
