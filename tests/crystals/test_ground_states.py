import pytest
from atomate2.vasp.sets.core import RelaxSetGenerator

from cryslator_flows.crystals.ground_states import ground_state
from cryslator_flows.errors import StructureError
from cryslator_flows.screening.known_phases import known_phases, symbols_of, systems_within

# International numbers of the space groups, and atoms in the primitive cell: the Materials Project's ground states.
STABLE = {
    "H": (194, 4), "Li": (229, 1), "B": (166, 12), "C": (194, 4), "N": (205, 8), "O": (12, 2), "F": (64, 4),
    "Mg": (194, 2), "Al": (225, 1), "Si": (227, 2), "P": (64, 4), "S": (70, 32), "Cl": (64, 4), "Mn": (217, 29),
    "Fe": (229, 1), "Co": (194, 2), "Ga": (64, 4), "As": (166, 2), "Se": (152, 3), "In": (139, 1), "Sn": (227, 2),
    "Te": (152, 3), "I": (64, 4), "La": (194, 4), "Sm": (166, 3), "Hg": (166, 1), "Bi": (166, 2), "U": (63, 2),
}  # fmt: skip
# Bonds of molecules and of networks, in angstrom: CRC Handbook of Chemistry and Physics.
BONDS = {
    "H": 0.74,
    "N": 1.10,
    "O": 1.21,
    "F": 1.42,
    "Cl": 1.99,
    "Br": 2.28,
    "I": 2.67,
    "C": 1.42,
    "Si": 2.35,
    "S": 2.05,
}
# Elements without a crystal that was measured at low temperature, or hardly ever in a compound.
WITHOUT = {"He", "Rn", "Fr", "Ra", "At", "Am", "Cm", "Bk", "Cf"}


@pytest.mark.parametrize(("symbol", "number", "atoms"), [(name, *cell) for name, cell in STABLE.items()])
def test_stable_crystals(symbol, number, atoms):
    crystal = ground_state(symbol)
    assert crystal.symbol_set == (symbol,)
    assert (crystal.get_space_group_info(symprec=0.05)[1], len(crystal)) == (number, atoms)


@pytest.mark.parametrize(("symbol", "bond"), BONDS.items())
def test_nearest_neighbours(symbol, bond):
    crystal = ground_state(symbol)
    nearest = min(neighbor.nn_distance for neighbor in crystal.get_neighbors(crystal[0], 4.0))
    assert nearest == pytest.approx(bond, abs=0.1)


def test_every_element_of_known_compounds():
    symbols = {symbol for formula in known_phases(systems_of_pairs()) for symbol in symbols_of(formula)}
    assert len(symbols) > 80
    for symbol in sorted(symbols - WITHOUT):
        assert 4 < ground_state(symbol).volume / len(ground_state(symbol)) < 130


def systems_of_pairs():
    from pymatgen.core import Element

    names = [element.symbol for element in Element if element.Z <= 98]
    return systems_within([frozenset({first, other}) for first in names for other in ("O", "F", "Al", "Pt")])


def test_oxygen_starts_as_a_triplet():
    """The engine of GPAW would pair its spins, and VASP's input sets have 0.6 for each atom."""
    oxygen = ground_state("O")
    assert oxygen.site_properties["magmom"] == [1.0, 1.0]
    incar = RelaxSetGenerator().get_input_set(oxygen, potcar_spec=True).incar
    assert (incar["ISPIN"], incar["MAGMOM"]) == (2, [1.0, 1.0])


@pytest.mark.parametrize("symbol", ["He", "Fr", "Xx"])
def test_elements_without_a_crystal(symbol):
    with pytest.raises(
        StructureError, match=f"{symbol}: no structure .*give its energy in relaxation.element_energies"
    ):
        ground_state(symbol)
