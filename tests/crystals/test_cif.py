import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from cryslator_flows.crystals.check import check_structure
from cryslator_flows.crystals.cif import read_cif
from cryslator_flows.crystals.files import read_structure
from cryslator_flows.errors import StructureError

CELL = "\n".join([*(f"_cell_length_{edge} 3.79" for edge in "abc"), *(f"_cell_angle_{name} 90" for name in
                 ("alpha", "beta", "gamma"))])  # fmt: skip
GROUP = "_symmetry_space_group_name_H-M 'P m -3 m'"
FORMULA = "_chemical_formula_sum 'La Al O3'"
ATOMS = """loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
La1 La3+ 0 0 0 1
Al1 Al3+ 0.5 0.5 0.5 1
O1 O2- 0.5 0.5 0 1.00(2)
"""
P1 = "_symmetry_space_group_name_H-M 'P 1'"


def read(group=GROUP, formula=FORMULA, atoms=ATOMS, cell=CELL):
    ((_, found),) = read_cif(f"data_x\n{cell}\n{group}\n{formula}\n{atoms}")
    return found


@pytest.mark.parametrize("formula", ["", FORMULA, "_chemical_formula_sum 'La2 Al2 O6'", "_chemical_formula_sum ?"])
@pytest.mark.parametrize("group", [GROUP, "_space_group_IT_number 221"])
def test_a_sound_file(group, formula):
    assert read(group, formula).composition.element_composition.formula == "La1 Al1 O3"


@pytest.mark.parametrize(
    ("changes", "cause", "word"),
    [
        ({"formula": "_chemical_formula_sum 'La Al O3 H2'"}, "other atoms than the stated formula", "La1 Al1 H2 O3"),
        ({"group": P1}, "other atoms than the stated formula", "La1 Al1 O1"),
        ({"group": GROUP[:-1] + " : 7'", "formula": ""}, "unknown space group", "setting"),
        ({"atoms": ATOMS.replace("O2-", "Vac")}, "other atoms than the stated formula", "V3"),
        ({"atoms": ATOMS.replace("O2-", "Vac"), "formula": ""}, "guessed atoms", "'Vac' is not an element"),
        ({"atoms": ATOMS.replace("O2-", "H2O"), "formula": ""}, "guessed atoms", "'H2O' is not an element"),
        ({"atoms": ATOMS.replace("0.5 0.5 0.5 1", "0.5 0.5 0.5 ?"), "formula": ""}, "guessed atoms", "occupancy"),
        *(
            ({"atoms": ATOMS.replace("0.5 1", f"0.5 {value}")}, "wrong occupancy", f"Al1: occupancy '{value}")
            for value in ("-1", "nan", ".", "1,0", "full")
        ),
        ({"atoms": ATOMS.replace("0.5 0.5 0.5 1", "0.5 0.5 0.5 0")}, "other atoms than the stated formula", "La1 O3"),
        ({"atoms": "_atom_site_label Cu1\n_atom_site_fract_x 0"}, "not readable as a crystal", "no _atom_site_fract_y"),
        *(
            ({"atoms": ATOMS.replace("0.5 0.5 0 ", f"{value} 0.5 0 ")}, "no position", "O1: _atom_site_fract_x")
            for value in ("?", ".")
        ),
        ({"atoms": ATOMS.replace("0.5 1", "0.5 100")}, "wrong occupancy", "Al1: occupancy 100 is over 1"),
        (
            {"formula": f"{FORMULA}\n_cell_formula_units_Z 4"},
            "other atoms than the stated formula", "5 atoms in the cell, but 20",
        ),
        ({"atoms": ATOMS + "O2 O 0.1 0.2 0.3 1\n" * 500}, "over 500 atoms", "503"),
        (
            {"atoms": ATOMS + "".join(f"H{n} H 0.{n}1 0.{n}2 0.{n}3 1\n" for n in range(11, 99))},
            "over 500 atoms", "atoms, at most",
        ),
        (
            {"group": "loop_\n_symmetry_equiv_pos_as_xyz\n" + "'x, y, z'\n" * 100_000},
            "too many symmetry operations", "100000",
        ),
    ],
)  # fmt: skip
def test_what_pymatgen_reads_as_another_crystal(changes, cause, word):
    found = read(**changes)
    assert isinstance(found, StructureError)
    assert (found.cause, word in str(found)) == (cause, True)


def test_doubtful_symbols_are_right_where_the_formula_says_so():
    found = read(atoms=ATOMS.replace("O2-", "Ow"))
    assert found.composition.element_composition.formula == "La1 Al1 O3"


def test_many_empty_lines_are_read_at_once():
    found = read(atoms=ATOMS.replace("loop_", " \n\t\n" * 100_000 + "loop_"))
    assert found.composition.element_composition.formula == "La1 Al1 O3"


def test_a_broken_block_does_not_take_the_others_along():
    good = f"data_a\n{CELL}\n{GROUP}\n{ATOMS}"
    text = f"data_global\n_journal_name x\n{good}data_b\n{CELL.replace('3.79', 'wide')}\n{ATOMS}{good}"
    assert [(name, isinstance(found, Structure)) for name, found in read_cif(text)] == [
        ("a", True), ("b", False), ("a", True)
    ]  # fmt: skip


def test_moments_of_a_magnetic_file(tmp_path):
    """Along one axis they are signed numbers, whatever the axis; else vectors."""
    for third, expected in (([2.0, 2.0, 0.0], [2.83, -2.83]), ([0.0, 0.0, 2.0], None)):
        chain = Structure(Lattice.tetragonal(3, 4), ["Fe", "Fe"], [[0, 0, 0], [0, 0, 0.5]])
        chain.add_site_property("magmom", [[2.0, 2.0, 0.0], [-value for value in third]])
        CifWriter(chain, write_magmoms=True).write_file(tmp_path / "a.mcif")
        found = read_structure(tmp_path / "a.mcif").site_properties["magmom"]
        if expected is None:
            assert np.array(found).shape == (2, 3)
        else:
            assert found == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("edge", ["1e9", "0.05"])
def test_cells_of_another_unit_are_refused_at_once(edge):
    with pytest.raises(StructureError, match="angstrom"):
        check_structure(read(cell=CELL.replace("3.79", edge)))


@pytest.mark.parametrize("units", ["1", "?", "1.0"])
def test_formula_units_that_fit(units):
    assert isinstance(read(formula=f"{FORMULA}\n_cell_formula_units_Z {units}"), Structure)


def test_the_formula_of_the_whole_cell_and_its_units():
    """As pymatgen writes them."""
    cell = Structure(Lattice.cubic(4), ["Na", "Na", "Cl", "Cl"], np.arange(4)[:, None] * [0.5, 0.25, 0.25])
    ((_, found),) = read_cif(str(CifWriter(cell)))
    assert found.formula == "Na2 Cl2"


def test_two_origins_are_decided_by_the_stated_content_of_the_cell():
    """Silicon, its atom given for one of the two: the other has 16 atoms in the cell."""
    group = "_symmetry_space_group_name_H-M 'F d -3 m'"
    atom, other = (ATOMS.partition("La1")[0] + f"Si1 Si {place} {place} {place} 1\n" for place in ("0", "0.125"))
    stated = "_chemical_formula_sum Si\n_cell_formula_units_Z 8"
    cell = CELL.replace("3.79", "5.43")
    assert len(read(group, stated, atom, cell)) == 8
    assert read(group, stated, other, cell).cause == "other atoms than the stated formula"
    assert read(group, "_chemical_formula_sum Si", other, cell).cause == "unknown space group"
