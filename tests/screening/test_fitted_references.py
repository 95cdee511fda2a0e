"""Energies of the elements that are fitted to known compounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Composition

from cryslator_flows.crystals.prototypes import prototypes
from cryslator_flows.screening.fitted_references import PER_ELEMENT, FittedReferences, reference_compounds
from cryslator_flows.screening.known_phases import known_materials, known_phases, symbols_of

SYMBOLS = ["Ca", "Mn", "O", "Sr", "Ti"]


def energy_of(formula, energies):
    """Energy of a known compound by an engine whose elements have these energies, in eV/atom."""
    composition = Composition(formula)
    known = known_phases([symbols_of(formula)])[formula]
    return known + sum(composition.get_atomic_fraction(name) * energies.get(name, -2.0) for name in symbols_of(formula))


def test_every_element_has_compounds_that_determine_it():
    chosen = reference_compounds(SYMBOLS)
    for symbol in SYMBOLS:
        assert sum(symbol in symbols_of(formula) for formula in chosen) >= PER_ELEMENT
    assert len(chosen) < 10 * len(SYMBOLS)
    crystals = {item.formula: item for item in prototypes() if item.material_id in known_materials()}
    for formula, structure in chosen.items():
        assert structure.composition.reduced_formula == formula
        # Another crystal of the same formula would have another energy than the known one.
        assert structure == crystals[formula].structure
    fitted = FittedReferences.fit({formula: energy_of(formula, {}) for formula in chosen})
    assert fitted.energies.keys() >= {*SYMBOLS}


@given(st.lists(st.floats(-10, 0), min_size=5, max_size=5))
def test_an_engine_with_exact_formation_energies_gets_its_own_elements_back(values):
    energies = dict(zip(SYMBOLS, values, strict=True))
    fitted = FittedReferences.fit({formula: energy_of(formula, energies) for formula in reference_compounds(SYMBOLS)})
    assert {name: fitted.energies[name] for name in SYMBOLS} == pytest.approx(energies, abs=1e-6)
    assert fitted.error == pytest.approx(0, abs=1e-6)
    known = known_phases([symbols_of("CaTiO3")])["CaTiO3"]
    assert fitted.formation_energy("CaTiO3", energy_of("CaTiO3", energies)) == pytest.approx(known, abs=1e-6)


def test_an_error_of_the_engine_shows_in_the_error_of_the_fit():
    rng = np.random.default_rng(0)
    compounds = {name: energy_of(name, {}) + rng.normal(0, 0.1) for name in reference_compounds(SYMBOLS)}
    assert 0.05 < FittedReferences.fit(compounds).error < 0.25


def test_what_no_compound_determines_has_no_energy():
    """Sodium and chlorine occur in one compound alone: only their sum is known."""
    fitted = FittedReferences.fit({"NaCl": energy_of("NaCl", {})})
    assert fitted.energies == {}
    assert np.isnan(fitted.formation_energy("NaCl", -3.0))
    assert np.isnan(FittedReferences.fit({}).error)
