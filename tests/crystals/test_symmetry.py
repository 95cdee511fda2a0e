import numpy as np
import pytest
import spglib
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from scipy.stats import special_ortho_group

from cryslator_flows.crystals.symmetry import SYMPREC, symmetrize_like
from cryslator_flows.crystals.templates import AflowTemplates
from cryslator_flows.errors import StructureError

TEMPLATES = [template.structure for template in AflowTemplates(elements=["O"], max_atoms=14).load()]


def symmetry(structure):
    cell = structure.lattice.matrix, structure.frac_coords, [species.Z for species in structure.species]
    found = spglib.get_symmetry_dataset(cell, SYMPREC)
    return found.number, len(found.rotations)


def disturbed(structure, seed):
    """Strained, rotated, shifted, moved into other cells, and noisy."""
    rng = np.random.default_rng(seed)
    lattice = structure.lattice.matrix @ (np.eye(3) + rng.normal(0, 0.03, (3, 3)))
    lattice = lattice @ special_ortho_group.rvs(3, random_state=seed)
    moved = structure.frac_coords + rng.normal(0, 0.01, (len(structure), 3)) + rng.uniform(-1, 1, 3)
    return Structure(lattice, structure.species, moved + rng.integers(-1, 2, (len(structure), 3)))


@given(st.sampled_from(TEMPLATES), st.integers(0, 10**6))
@settings(max_examples=40)
def test_space_group_comes_back(structure, seed):
    assert symmetry(symmetrize_like(disturbed(structure, seed), structure)) == symmetry(structure)


@given(st.sampled_from(TEMPLATES), st.integers(0, 10**6))
@settings(max_examples=20)
def test_projection_changes_nothing_twice(structure, seed):
    once = symmetrize_like(disturbed(structure, seed), structure)
    twice = symmetrize_like(once, structure)
    assert np.allclose(once.lattice.matrix, twice.lattice.matrix, atol=1e-9)
    difference = once.frac_coords - twice.frac_coords
    assert np.allclose(difference, np.round(difference), atol=1e-9)


def test_what_the_symmetry_allows_stays(rutile):
    """Rutile has three free parameters: a, c and the x of oxygen."""
    lattice = Lattice.tetragonal(4.8, 3.1)
    changed = Structure.from_spacegroup("P4_2/mnm", lattice, ["Ti", "O"], [[0, 0, 0], [0.29, 0.29, 0]])
    result = symmetrize_like(changed, rutile)
    assert result.lattice.parameters == pytest.approx(lattice.parameters)
    assert np.abs(result.frac_coords - changed.frac_coords).max() < 1e-12


def test_supercell_with_thousands_of_operations(perovskite):
    """A table of all distances between images and sites would take 15 GB."""
    large = perovskite * (4, 4, 5)
    result = symmetrize_like(disturbed(large, 3), large)
    assert len(result) == 400
    assert symmetry(result)[1] == symmetry(large)[1] > 1000


def test_moments_of_the_reference_come_along(perovskite):
    perovskite.add_site_property("magmom", [0.0, 3.0, 0.0, 0.0, 0.0])
    noisy = disturbed(perovskite, 1)
    assert symmetrize_like(noisy, perovskite).site_properties["magmom"] == [0.0, 3.0, 0.0, 0.0, 0.0]


def test_other_sites_are_refused(perovskite, rutile):
    with pytest.raises(StructureError, match="same sites in the same order"):
        symmetrize_like(perovskite, rutile)


def test_translated_structures_keep_their_space_group():
    """The released model on real templates: exact at the tolerance that DFT codes use."""
    from cryslator_flows.translator.translator import Translator

    structures = [structure for structure in TEMPLATES if len(structure.composition) > 1]
    translations = Translator.from_pretrained().translate_many(structures)
    assert [symmetry(item.structure) for item in translations] == [symmetry(structure) for structure in structures]
