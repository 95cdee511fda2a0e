import numpy as np
import pytest
from pymatgen.core import DummySpecies, Lattice, Structure

from cryslator_flows.crystals.check import check_structure
from cryslator_flows.errors import StructureError

CUBE = Lattice.cubic(4)


def broken_lattice(row):
    lattice = Lattice.cubic(4)
    lattice._matrix = np.array([[4.0, 0, 0], [0, 4, 0], row])
    return lattice


@pytest.mark.parametrize(
    ("structure", "word"),
    [
        (Structure(CUBE, [{"Fe": 0.5, "Mn": 0.5}], [[0, 0, 0]]), "disordered"),
        (Structure(CUBE, [DummySpecies("Xa")], [[0, 0, 0]]), "not an element"),
        (Structure(CUBE, ["Fe", "O"], [[0, 0, 0], [0.01, 0, 0]]), "apart"),
        (Structure(CUBE, ["Fe", "O"], [[0, 0, 0], [np.nan, 0, 0]]), "not a number"),
        (Structure(broken_lattice([0, np.nan, 4]), ["Fe"], [[0, 0, 0]]), "not a number"),
        (Structure(broken_lattice([4, 0, 0]), ["Fe"], [[0, 0, 0]]), "is zero"),
        (Structure(Lattice.cubic(20), ["Fe"], [[0, 0, 0]]), "isolated"),
        (Structure(Lattice.cubic(40), ["Fe", "O", "H"], [[0, 0, 0], [0.03, 0, 0], [0.5, 0.5, 0.5]]), "isolated"),
        (Structure(CUBE, [], []), "no atoms"),
        (Structure(CUBE, ["Cu"], [[0, 0, 0]]) * (20, 10, 10), "2000 atoms"),
        (Structure(Lattice.cubic(1e9), ["Fe"], [[0, 0, 0]]), "lengths in angstrom"),
        (Structure(Lattice.cubic(0.01), ["Fe"], [[0, 0, 0]]), "lengths in angstrom"),
        (Structure(CUBE, ["Fe", "O"], [[0, 0, 0], [1e9, 0.5, 0]]), "far outside the cell"),
        (Structure(Lattice(CUBE.matrix, pbc=(True, True, False)), ["Fe"], [[0, 0, 0]]), "not periodic"),
    ],
)
def test_nonsense_is_named(structure, word):
    with pytest.raises(StructureError, match=word) as caught:
        check_structure(structure, "mine.cif")
    message = str(caught.value)
    assert message.startswith("mine.cif, ")
    assert ";" in message
    assert "\n" not in message


def test_a_crystal_passes(perovskite):
    check_structure(perovskite)


def test_the_images_that_atoms_are_given_as_make_no_difference(perovskite):
    """The search for neighbours takes memory for all the space between atoms."""
    perovskite.translate_sites([0, 3], [2000, -2000, 2000], to_unit_cell=False)
    check_structure(perovskite)


def test_one_atom_with_its_own_images_is_connected():
    check_structure(Structure(Lattice.cubic(3), ["Po"], [[0, 0, 0]]))
