"""Hulls of candidates and of the phases that compete with them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from cryslator_flows.screening.hulls import Competition, energies_above_hull
from cryslator_flows.screening.known_phases import known_phases, systems_within


def test_hull_by_hand():
    """CaTiO3 against CaO + TiO2: competing phases push it above the hull."""
    formulas, energies = ["CaTiO3", "CaTiO3", "SrTiO3"], [-3.0, -2.9, -2.0]
    alone = energies_above_hull(formulas, energies, Competition({}, known=False))
    assert alone == pytest.approx([0, 0.1, 0], abs=1e-9)
    # (2 CaO + 3 TiO2) / 5 atoms: (2 * -3.3 + 3 * -3.4) / 5 = -3.36
    # SrTiO3 against 3 TiO2 + 2 Sr + ...: 3 * -3.4 / 5 = -2.04, for want of a known SrO.
    given_phases = Competition({"CaO": -3.3, "TiO2": -3.4}, known=False)
    assert energies_above_hull(formulas, energies, given_phases) == pytest.approx([0.36, 0.46, 0.04], abs=1e-9)
    # Of the two competing phases alone, a candidate may lie below.
    assert given_phases.energies_above(["CaTiO3"], [-3.5]) == pytest.approx([-0.14])


def test_known_compounds_compete_by_default():
    """Rock salt that is predicted too high lies above the hull of the table, without any input."""
    competition = Competition({})
    known = known_phases([frozenset({"Na", "Cl"})])["NaCl"]
    assert competition.energies_above(["NaCl", "NaCl"], [known + 0.2, known]) == pytest.approx([0.2, 0.0])
    # Oxygen-rich formulas decompose into what is known within the system.
    assert competition.energies_above(["CaTiO3"], [-1.0])[0] > 1


def test_references_replace_the_known_energy_of_a_formula():
    competitors = Competition({"Na2Cl2": -1.0}).within([frozenset({"Na", "Cl"})])
    assert competitors["NaCl"] == -1.0
    assert "Na2Cl2" not in competitors


def test_no_known_compound_is_no_number():
    """Noble gases form no compound in the table: a hull of elements is no competition."""
    assert np.isnan(Competition({}).energies_above(["HeNe"], [-0.1])).all()
    assert np.isnan(Competition({}, known=False).energies_above(["NaCl"], [-2.0])).all()


@given(system=st.sampled_from([{"Li", "Mn", "O"}, {"Cs", "Ag", "Bi", "Br"}, {"Ti", "Al", "C"}]), shift=st.floats(-1, 1))
def test_hull_is_that_of_pymatgen(system, shift):
    """The energy above the hull equals pymatgen's for the same entries."""
    system = frozenset(system)
    phases = known_phases(systems_within([system]))
    entries = [
        PDEntry(Composition(formula), energy * Composition(formula).num_atoms) for formula, energy in phases.items()
    ]
    diagram = PhaseDiagram([*entries, *(PDEntry(Composition({Element(symbol): 1}), 0.0) for symbol in system)])
    formula = Composition(dict.fromkeys(system, 1)).reduced_formula
    expected = shift - diagram.get_hull_energy_per_atom(Composition(formula))
    assert Competition({}).energies_above([formula], [shift]) == pytest.approx([expected])
