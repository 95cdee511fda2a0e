import numpy as np
import pytest
from pymatgen.core import Composition
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from cryslator_flows.analysis.formation_energies import formation_energies
from tests.analysis.test_savings import comparison, relaxation

FORMULAS = ["CaTiO3", "SrTiO3", "TiO2", "CaO", "SrO", "Ca2TiO4", "Sr2TiO4", "Ca3Ti2O7", "CaSrTiO4"]
ELEMENTS = {"Ca": -2.0, "Sr": -1.7, "Ti": -7.8, "O": -4.9}


def relaxed(formulas, predicted, total):
    """Candidates that ended at energies per atom from the unrelaxed start, higher from the translated one."""
    rows = []
    for number, (formula, energy, end) in enumerate(zip(formulas, predicted, total, strict=True)):
        row = comparison(relaxation("unrelaxed", 30), translated=relaxation("translated", 30))
        for item, higher in zip(row.relaxations, (0, 0.5), strict=True):
            item.energy_per_atom = float(end + higher)
        update = {"candidate_id": str(number), "reduced_formula": formula, "formation_energy_per_atom": float(energy)}
        rows.append(row.model_copy(update=update))
    return rows


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    truth = rng.uniform(-3.5, -2, len(FORMULAS))
    total = truth + [sum(ELEMENTS[s] * x for s, x in shares(formula).items()) for formula in FORMULAS]
    return truth, relaxed(FORMULAS, truth + rng.normal(0, 0.1, len(FORMULAS)), total)


def shares(formula):
    return {str(element): fraction for element, fraction in Composition(formula).fractional_composition.items()}


def test_given_energies_of_the_elements_are_subtracted(rows):
    truth, comparisons = rows
    found = formation_energies(comparisons, {**ELEMENTS, "Mn": -9.0})
    assert not found.fitted
    assert [*found.energies.values()] == pytest.approx(truth.tolist())


def test_fit_leaves_each_candidate_out(rows):
    """As scikit-learn does with one fit for each candidate."""
    _, comparisons = rows
    found = formation_energies(comparisons, {"Ca": -2.0})
    assert found.fitted
    symbols = sorted(ELEMENTS)
    x = np.array([[shares(formula).get(symbol, 0.0) for symbol in symbols] for formula in FORMULAS])
    total = np.array([item.relaxations[0].energy_per_atom for item in comparisons])
    predicted = np.array([item.formation_energy_per_atom for item in comparisons])
    y = total - predicted
    expected = total - cross_val_predict(LinearRegression(fit_intercept=False), x, y, cv=LeaveOneOut())
    assert [*found.energies.values()] == pytest.approx(expected.tolist())


def test_candidate_that_alone_has_an_element_is_left_out(rows):
    _, comparisons = rows
    before = formation_energies(comparisons, {})
    lone = relaxed(["BaTiO3"], [-3.0], [-8.0])[0].model_copy(update={"candidate_id": "lone"})
    assert formation_energies([*comparisons, lone], {}).energies == pytest.approx(before.energies)


def test_one_formula_type_is_enough():
    """In ABO3 the share of oxygen is always the same, so that only sums of the elements' energies are determined."""
    formulas = ["CaTiO3", "SrTiO3", "BaTiO3", "CaZrO3", "SrZrO3", "BaZrO3", "CaHfO3", "SrHfO3", "BaHfO3"]
    predicted = np.linspace(-3, -2, 9)
    found = formation_energies(relaxed(formulas, predicted, predicted - 5), {})
    assert [*found.energies.values()] == pytest.approx(predicted.tolist())


def test_too_few_to_fit(rows):
    """Three oxides make up all of these compositions."""
    _, comparisons = rows
    assert formation_energies(comparisons[:6], {}) is not None
    assert formation_energies(comparisons[:5], {}) is None
    assert formation_energies([], ELEMENTS) is None


def test_unconverged_and_synthetic_ends_do_not_count(rows):
    _, comparisons = rows
    comparisons[0].relaxations[0].cost.converged = False
    comparisons[1].relaxations[0].cost.synthetic = True
    comparisons[1].relaxations[1].cost.synthetic = True
    found = formation_energies(comparisons, ELEMENTS)
    assert "1" not in found.energies
    subtracted = sum(ELEMENTS[symbol] * x for symbol, x in shares("CaTiO3").items())
    assert found.energies["0"] == pytest.approx(comparisons[0].relaxations[1].energy_per_atom - subtracted)
