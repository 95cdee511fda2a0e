import json

import numpy as np
import pytest
from emmet.core.band_theory import ElectronicDos
from hypothesis import given, settings
from hypothesis import strategies as st
from monty.json import MontyEncoder
from pymatgen.core import Lattice, Structure
from pymatgen.electronic_structure.core import Spin
from pymatgen.electronic_structure.dos import CompleteDos, Dos

from cryslator_flows.analysis.property_errors import (
    DOS_BROADENING,
    broaden_levels,
    dos_distance,
    property_errors,
    read_electronic,
    structure_errors,
)
from cryslator_flows.documents.properties import DensityOfStates, ElectronicProperties
from cryslator_flows.errors import DataError, StructureError


def electrons(dos):
    """Electrons per atom down to 10 eV below the highest occupied level."""
    energies = np.array(dos.energies)
    # Half of the broadened highest level lies above it.
    window = (energies >= -10) & (energies <= 5 * DOS_BROADENING)
    return np.trapezoid(np.array(dos.densities)[window], energies[window])


def test_nothing_differs_from_itself(rutile):
    errors = structure_errors(rutile, rutile)
    assert errors.volume == errors.volume_per_atom == errors.fractional == errors.cartesian == 0
    assert errors.lengths == errors.angles == (0, 0, 0)
    assert errors.band_gap is errors.efermi is errors.dos_distance is None


def test_cell_errors_by_hand(rutile):
    start = Structure(Lattice.tetragonal(4.6 * 1.1, 2.95), rutile.species, rutile.frac_coords)
    errors = structure_errors(start, rutile)
    assert errors.volume == pytest.approx(0.21)
    assert errors.volume_per_atom == pytest.approx(0.21 * rutile.volume / 6)
    assert errors.lengths == pytest.approx((0.46, 0.46, 0))
    assert errors.fractional == errors.cartesian == 0
    sheared = Structure(Lattice.from_parameters(4.6, 4.6, 2.95, 90, 90, 87), rutile.species, rutile.frac_coords)
    assert structure_errors(sheared, rutile).angles == pytest.approx((0, 0, -3))


def test_coordinate_errors_by_hand():
    """Two atoms, 0.1 of a cubic cell nearer to each other: each moves by 0.05 once the drift is gone."""
    lattice = Lattice.cubic(4)
    relaxed = Structure(lattice, ["Mg", "O"], [[0, 0, 0], [0.5, 0, 0]])
    start = Structure(Lattice.cubic(5), ["Mg", "O"], [[0, 0, 0], [0.4, 0, 0]])
    errors = structure_errors(start, relaxed)
    assert errors.fractional == pytest.approx(0.05 / 3)
    assert errors.cartesian == pytest.approx(0.05 * 4)


@pytest.mark.parametrize("move", [[0.4, 0.35, 0], [0.4, -0.35, 0]])
@pytest.mark.parametrize("angle", [35, 120, 150])
def test_nearest_image_in_a_skewed_cell(angle, move):
    """Two of eight atoms go opposite ways, so far that the nearest image of one move is in another cell."""
    lattice = Lattice.from_parameters(4, 4, 5, 90, 90, angle)
    relaxed = Structure(lattice, ["Mg"] * 8, [[0, 0, height / 8] for height in range(8)])
    moves = np.array([move, np.negative(move), *[[0, 0, 0]] * 6])
    start = Structure(lattice, relaxed.species, relaxed.frac_coords + moves)
    distance, _ = lattice.get_distance_and_image([0, 0, 0], move)
    assert structure_errors(start, relaxed).cartesian == pytest.approx(distance / 4)


vector = st.lists(st.floats(-1, 1), min_size=3, max_size=3).map(np.array)


@given(seed=st.integers(0, 10**6), origin=vector, images=st.lists(st.integers(-3, 3), min_size=18, max_size=18))
@settings(max_examples=60)
def test_origin_images_and_rotation_do_not_matter(seed, origin, images):
    rng = np.random.default_rng(seed)
    lattice = Lattice.from_parameters(4.1, 5.3, 6.2, 78, 95, 111)
    species = ["Ca", "Mn", "O", "O", "O", "O"]
    relaxed = Structure(lattice, species, rng.random((6, 3)))
    moved = relaxed.frac_coords + rng.normal(0, 0.03, (6, 3))
    cell = lattice.matrix @ (np.eye(3) + rng.normal(0, 0.03, (3, 3)))
    expected = structure_errors(Structure(cell, species, moved), relaxed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    found = structure_errors(Structure(cell @ turn, species, moved + origin + np.reshape(images, (6, 3))), relaxed)
    for field in ("volume", "lengths", "angles", "fractional", "cartesian"):
        assert getattr(found, field) == pytest.approx(getattr(expected, field), abs=1e-9), field
    assert expected.cartesian > 0


def test_order_in_which_vasp_writes_sites():
    """Input sets of the Materials Project sort by electronegativity; what was relaxed comes back in that order."""
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.1], [0.2, 0.1, 0.7], [0.7, 0.3, 0.3]]
    start = Structure(Lattice.cubic(4), ["O", "Mn4+", "Ca", "O", "Mn3+"], sites)
    relaxed = start.get_sorted_structure()
    assert relaxed.species != start.species
    relaxed.remove_oxidation_states()
    assert structure_errors(start, relaxed).cartesian == 0
    relaxed.translate_sites([0], [0.05, 0, 0])
    assert structure_errors(start, relaxed).cartesian == pytest.approx(0.2 * (0.8 + 4 * 0.2) / 5)


def test_other_atoms_are_refused(rutile, perovskite):
    for other in (perovskite, rutile * [1, 1, 2]):
        with pytest.raises(StructureError, match=r"Ti2 O4.*other atoms"):
            structure_errors(other, rutile)


def chain_levels(cells, mesh, hopping):
    """Levels of a chain of two unequal atoms and their weights, from a cell of `cells` pairs."""
    size = 2 * cells
    levels, states = [], []
    for wave in np.arange(mesh) / mesh:
        matrix = np.zeros((size, size), complex)
        for site in range(size):
            matrix[site, site] = -4 * (site % 2)
            bond = hopping * (np.exp(2j * np.pi * wave) if site == size - 1 else 1)
            matrix[site, (site + 1) % size] += bond
            matrix[(site + 1) % size, site] += np.conj(bond)
        levels.append(np.linalg.eigvalsh(matrix))
        states.append(np.full(size, 2 / mesh))
    return np.array(levels) - np.max(np.array(levels)[:, :cells]), np.array(states)


def chain(cells, mesh, hopping):
    return broaden_levels(*chain_levels(cells, mesh, hopping), n_atoms=2 * cells)


@given(one=st.floats(0.1, 2), other=st.floats(0.1, 2), cells=st.sampled_from([2, 3, 4]))
@settings(max_examples=25)
def test_dos_distance_is_one_of_the_crystal(one, other, cells):
    """Symmetric, zero for equal ones, from 0 to 1, and the same from a supercell with a coarser mesh."""
    first, second = chain(1, 12, one), chain(1, 12, other)
    assert electrons(first) == pytest.approx(1, abs=1e-3)
    assert dos_distance(first, first) == 0
    assert dos_distance(first, second) == dos_distance(second, first)
    assert 0 <= dos_distance(first, second) <= 1
    assert dos_distance(chain(cells, 12 // cells, one), second) == pytest.approx(dos_distance(first, second), abs=1e-9)
    assert dos_distance(chain(cells, 12 // cells, one), first) == pytest.approx(0, abs=1e-9)


def test_dos_distance_by_hand():
    """Half of the electrons at another energy: a distance of one half. The highest level is half above the window."""
    first, second = broaden_levels([-6, -4, 0], [2, 2, 1e-9], 1), broaden_levels([-6, -2, 0], [2, 2, 1e-9], 1)
    assert dos_distance(first, second) == pytest.approx(0.5, abs=1e-4)
    assert dos_distance(broaden_levels([-6], [2], 1), broaden_levels([-2], [2], 1)) == pytest.approx(1, abs=1e-4)
    empty_states = broaden_levels([-6, 3, -11.5], [2, 8, 3], 1)
    assert dos_distance(empty_states, broaden_levels([-6], [2], 1)) == pytest.approx(0, abs=1e-6)


def test_dos_that_cannot_be_compared():
    good = broaden_levels([-1], [2], 1)
    with pytest.raises(DataError, match="unequal grids"):
        dos_distance(good, DensityOfStates(energies=[0, 1], densities=[0, 1]))
    with pytest.raises(DataError, match="no states"):
        dos_distance(good, DensityOfStates(energies=good.energies, densities=[0] * len(good.energies)))


def vasp_dos(step=0.02, shift=5.0, spins=(Spin.up,)):
    """Two boxes of two states each, [-3, -2] and [-1, 0] eV below `shift`, as VASP bins them; for two atoms."""
    energies = np.arange(shift - 20, shift + 10, step)
    filled = sum(np.clip(energies - (shift + start), 0, 1) for start in (-3, -1))
    density = np.diff(filled, prepend=0) / step * 2 / len(spins)
    return Dos(shift, energies, dict.fromkeys(spins, density))


def vasp_document(dos, gap=2.0, **changes):
    output = {"bandgap": gap, "efermi": 5.3, "vbm": 5.0, "cbm": 7.0, "energy_per_atom": -8.0}
    if gap == 0:
        output |= {"efermi": 5.0, "vbm": None, "cbm": None}
    calculation = {"output": output, "vasp_version": "6.4.2"}
    return {
        "state": "successful", "dir_name": "host:/run", "nsites": 2, "calcs_reversed": [calculation],
        "vasp_objects": {"dos": dos}, **changes,
    }  # fmt: skip


def plain(dos):
    return json.loads(json.dumps(dos, cls=MontyEncoder))


@pytest.mark.parametrize("spins", [(Spin.up,), (Spin.up, Spin.down)])
@pytest.mark.parametrize(
    "form",
    [
        lambda dos, structure: dos,
        lambda dos, structure: plain(dos),
        lambda dos, structure: CompleteDos(structure, dos, {}),
        lambda dos, structure: plain(CompleteDos(structure, dos, {})),
        lambda dos, structure: ElectronicDos.from_pmg(dos),
    ],
)
def test_dos_of_vasp_in_every_form(rutile, form, spins):
    found = read_electronic(vasp_document(form(vasp_dos(spins=spins), rutile), gap=2.0))
    assert (found.engine, found.band_gap, found.efermi, found.energy_per_atom) == ("VASP", 2, 6, -8)
    assert found.dos_error is None
    assert not found.synthetic
    assert electrons(found.dos) == pytest.approx(2, abs=1e-3)
    expected = broaden_levels(np.concatenate([np.linspace(-3, -2, 500), np.linspace(-1, 0, 500)]), [0.004] * 1000, 2)
    assert dos_distance(found.dos, expected) < 0.002


def test_metal_counts_from_the_fermi_level(rutile):
    found = read_electronic(vasp_document(vasp_dos(), gap=0))
    assert (found.band_gap, found.efermi) == (0, 5)
    assert electrons(found.dos) == pytest.approx(2, abs=1e-3)


def test_grid_of_the_engine_hardly_matters(rutile):
    fine, coarse = (read_electronic(vasp_document(vasp_dos(step))).dos for step in (0.01, 0.19))
    assert dos_distance(fine, coarse) < 0.03


@pytest.mark.parametrize(
    ("dos", "word"),
    [
        (None, "parse_dos"),
        (vasp_dos(0.25), "NEDOS"),
        ({"@module": "x", "blob_uuid": "1", "store": "data"}, "load=True"),
    ],
)
def test_gap_without_density_of_states(rutile, dos, word):
    found = read_electronic(vasp_document(dos))
    assert found.dos is None
    assert word in found.dos_error
    assert found.band_gap == 2
    both = property_errors(rutile, rutile, found, read_electronic(vasp_document(vasp_dos())))
    assert both.band_gap == both.efermi == 0
    assert both.dos_distance is None


def test_documents_that_say_nothing(rutile):
    without_gap = vasp_document(None, gap=None)
    for document, word in (
        (vasp_document(None, state="failed"), r"host:/run: not converged \(state failed\)"),
        (without_gap, "host:/run: no band gap"),
        ({"output": 1}, "no electronic properties in a dict"),
        (rutile, "no electronic properties in a Structure"),
    ):
        with pytest.raises(DataError, match=word):
            read_electronic(document)


def test_test_doubles_are_recognised(rutile):
    document = vasp_document(None)
    document["calcs_reversed"][0]["vasp_version"] = "6.4.2 Synthetic"
    assert read_electronic(document).synthetic


def test_own_documents_pass_through():
    own = ElectronicProperties(engine="x", band_gap=1, efermi=2)
    assert read_electronic(own) is own
    assert read_electronic(own.model_dump()) == own
