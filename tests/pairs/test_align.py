import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from cryslator_flows.pairs.align import align, best_alignment
from cryslator_flows.pairs.raw import Dropped, RawPair


def raw(unrelaxed, relaxed, **columns):
    return RawPair("somewhere", "t", unrelaxed, relaxed, columns)


def relax(structure, seed, strain=0.08, shift=0.15):
    """A crystal near another, and the strain and the displacements that lead there."""
    rng = np.random.default_rng(seed)
    symmetric = rng.uniform(-strain, strain, (3, 3))
    symmetric = (symmetric + symmetric.T) / 2
    moved = rng.uniform(-shift, shift, (len(structure), 3))
    moved -= moved.mean(axis=0)
    frac = structure.frac_coords + moved @ np.linalg.inv(structure.lattice.matrix)
    return Structure(structure.lattice.matrix @ expm(symmetric), structure.species, frac), symmetric, moved


def distorted():
    """A monoclinic cell of ten atoms without any symmetry in its sites."""
    lattice = Lattice.monoclinic(5.1, 6.3, 5.6, 104)
    rng = np.random.default_rng(1)
    grid = np.array([[i, j, k] for i in range(2) for j in range(3) for k in range(2)][:10])
    frac = grid / [2, 3, 2] + rng.uniform(-0.05, 0.05, (10, 3))
    return Structure(lattice, ["Ca", "O", "Ti", "O", "O", "Ca", "O", "Ti", "O", "O"], frac)


def invariants(record):
    """What does not depend on orientation, origin, order of sites or choice of axes."""
    unrelaxed, relaxed = record.structure("unrelaxed"), record.structure("relaxed")
    alignment = best_alignment(unrelaxed, relaxed)
    distances = np.sort(relaxed.distance_matrix[np.triu_indices(len(relaxed), 1)])
    principal = np.linalg.eigvalsh(alignment.strain)
    return np.concatenate([distances, [relaxed.volume], principal, np.sort(alignment.distances)])


@st.composite
def disguises(draw):
    """Another description of the same crystal: axes, orientation (mirrored or not), origin, images, order."""
    seed = draw(st.integers(0, 2**32 - 1))
    axes = np.eye(3, dtype=int)[draw(st.permutations(range(3)))] * draw(st.sampled_from([-1, 1]))
    first, second = draw(st.sampled_from([(0, 1), (1, 2), (2, 0)]))
    sheared = np.eye(3, dtype=int)
    sheared[first, second] = draw(st.integers(-1, 1))

    def disguise(structure):
        rng = np.random.default_rng(seed)
        rotation = Rotation.random(rng=rng).as_matrix()
        axes_of = sheared @ axes
        frac = structure.frac_coords @ np.linalg.inv(axes_of) + rng.random(3) + rng.integers(-2, 3, (len(structure), 3))
        order = rng.permutation(len(structure))
        lattice = axes_of @ structure.lattice.matrix @ rotation
        return Structure(lattice, [structure[i].specie for i in order], frac[order])

    return disguise


@pytest.mark.parametrize("which", ["distorted", "perovskite", "rutile"])
@settings(max_examples=10)
@given(disguise=disguises(), seed=st.integers(0, 5))
def test_the_description_of_the_relaxed_crystal_does_not_matter(which, disguise, seed):
    unrelaxed = CRYSTALS[which]
    relaxed, strain, moved = relax(unrelaxed, seed)
    plain, disguised = align(raw(unrelaxed, relaxed)), align(raw(unrelaxed, disguise(relaxed)))
    assert invariants(disguised) == pytest.approx(invariants(plain), abs=1e-4)
    assert disguised.species == [site.specie.symbol for site in unrelaxed]
    assert disguised.structure("unrelaxed") == unrelaxed
    alignment = best_alignment(unrelaxed, disguise(relaxed))
    assert np.linalg.eigvalsh(alignment.strain) == pytest.approx(np.linalg.eigvalsh(strain), abs=1e-6)
    assert np.sort(alignment.distances) == pytest.approx(np.sort(np.linalg.norm(moved, axis=1)), abs=1e-6)


CRYSTALS = {
    "distorted": distorted(),
    "perovskite": Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(3.9), ["Ca", "Ti", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
    ),
    "rutile": Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.6, 2.95), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
    ),
}


def test_the_relaxed_cell_is_strained_without_rotation():
    unrelaxed = distorted()
    relaxed, strain, moved = relax(unrelaxed, 7)
    turned = Structure(
        relaxed.lattice.matrix @ Rotation.from_euler("xyz", [1, 2, 3]).as_matrix(), relaxed.species, relaxed.frac_coords
    )
    record = align(raw(unrelaxed, turned, template="rutile", energy_per_atom=-7.5))
    gradient = np.linalg.solve(record.unrelaxed.lattice, record.relaxed.lattice)
    assert gradient == pytest.approx(expm(strain), abs=1e-6)
    change = np.array(record.relaxed.frac) - record.unrelaxed.frac
    assert change @ unrelaxed.lattice.matrix == pytest.approx(moved, abs=1e-6)
    assert (record.target, record.model_extra) == ("t", {"template": "rutile", "energy_per_atom": -7.5})


def test_swapped_axes_of_a_nearly_cubic_cell_are_put_right():
    """Sites and axes as given would do; other axes are nearer."""
    sites = [[0, 0, 0], [0.5, 0.5, 0.5]]
    unrelaxed = Structure(Lattice.tetragonal(4.0, 4.3), ["Cs", "Cl"], sites)
    swapped = Structure(Lattice.orthorhombic(4.3, 4.0, 4.0), ["Cs", "Cl"], sites)
    record = align(raw(unrelaxed, swapped))
    assert np.array(record.relaxed.lattice) == pytest.approx(unrelaxed.lattice.matrix, abs=1e-6)


def test_a_long_way_is_kept_where_no_shorter_one_is_known():
    """An atom that moves 1.4 A is not mistaken for another one."""
    unrelaxed = Structure(
        Lattice.cubic(6), ["Na", "Na", "Cl", "Cl"], [[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    )
    relaxed = unrelaxed.copy()
    relaxed.translate_sites([3], [0, 0, 1.4 / 6])
    assert np.linalg.norm(np.subtract(*best_alignment(unrelaxed, relaxed).shift[[3, 0]])) * 6 == pytest.approx(1.4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.scale_lattice(s.volume * 1.9), "ln of the volume ratio over 0.6"),
        (lambda s: s.apply_strain([-0.32, 0.1, 0.1]), "strain over 0.35"),
        (lambda s: s.translate_sites([4], [0.3, 0.25, 0.2]), "an atom moves over 1.5 A"),
        (lambda s: s.replace(0, "Sr"), "another composition"),
        (lambda s: s.make_supercell([2, 1, 1]), "another number of atoms"),
        (lambda s: s.replace(0, {"Ca": 0.5, "Sr": 0.5}), "relaxed crystal: disordered"),
        (lambda s: s.append("O", s[2].frac_coords + 0.01), "relaxed crystal: atoms nearly coincide"),
        (lambda s: s.translate_sites([0], [np.nan, 0, 0]), "relaxed crystal: not a number"),
        (lambda s: s.scale_lattice(s.volume * 100), "relaxed crystal: isolated atom"),
    ],
)
def test_what_is_no_pair_is_dropped_for_its_reason(change, reason):
    unrelaxed = Structure(
        Lattice.orthorhombic(6.0, 6.2, 7.4),
        ["Ca", "Ti", "O", "O", "O"],
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.1], [0.5, 0.1, 0.5], [0, 0.5, 0.4]],
    )
    relaxed = unrelaxed.copy()
    change(relaxed)
    assert align(raw(unrelaxed, relaxed)) == Dropped("somewhere", reason)


def test_oxidation_states_do_not_make_another_composition(perovskite):
    charged = perovskite.copy()
    charged.add_oxidation_state_by_element({"Ca": 2, "Ti": 4, "O": -2})
    assert align(raw(perovskite, charged)).species == ["Ca", "Ti", "O", "O", "O"]
