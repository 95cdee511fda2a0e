"""Tolerance factors of perovskites."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Composition, Element

from cryslator_flows.crystals.tolerance_factors import is_perovskite_formula, shannon_radius, tolerance_factors


def amounts(formula):
    return {symbol: int(amount) for symbol, amount in Composition(formula).get_el_amt_dict().items()}


def test_by_hand():
    """Radii of Ca (12) 1.34, Ti (6) 0.605 and O (6) 1.40 angstrom, oxidation state of A 2."""
    factors = tolerance_factors(amounts("CaTiO3"))
    assert factors.goldschmidt == pytest.approx((1.34 + 1.40) / (2**0.5 * (0.605 + 1.40)))
    assert factors.tau == pytest.approx(1.40 / 0.605 - 2 * (2 - 2.21488 / 0.795203), abs=1e-4)


# t and tau as in Table S1 of Bartel and others, Sci. Adv. 5, eaav0693 (2019).
@pytest.mark.parametrize(
    ("formula", "goldschmidt", "tau", "is_perovskite"),
    [("AgCdBr3", 0.79, 5.58, False), ("SrTiO3", 1.00, 3.80, True), ("KMgF3", 1.02, 3.61, True),
     ("MgTiO3", 0.81, 5.94, False)],
)  # fmt: skip
def test_published_factors(formula, goldschmidt, tau, is_perovskite):
    factors = tolerance_factors(amounts(formula))
    assert factors.goldschmidt == pytest.approx(goldschmidt, abs=0.006)
    assert factors.tau == pytest.approx(tau, abs=0.006)
    assert (factors.tau < 4.18) == is_perovskite


@pytest.mark.parametrize(
    ("formula", "fits"),
    [
        ("CaTiO3", True),
        ("Cs2AgBiCl6", True),
        ("LaSrCoMnO6", True),
        ("La4Mn3CoO12", True),
        ("Ba3ZnTa2O9", True),
        ("CaCu3Ti4O12", True),
        ("Mg3Al2Si3O12", False),
        ("Ca3Al2Si3O12", False),
        ("Y3Al5O12", False),
        ("Mn2O3", False),
        ("Mg2SiO4", False),
        ("NaCl", False),
    ],
)
def test_formulas_of_perovskites(formula, fits):
    assert is_perovskite_formula(amounts(formula)) == fits


def test_sites_of_double_perovskites_are_averaged():
    mixed, ends = (
        tolerance_factors(amounts("CaSrTi2O6")),
        [tolerance_factors(amounts(f"{a}TiO3")) for a in ("Ca", "Sr")],
    )
    assert mixed.goldschmidt == pytest.approx(sum(end.goldschmidt for end in ends) / 2)
    # Two of the larger cation, and the smaller two, whatever their order in the formula.
    assert tolerance_factors(amounts("Cs2AgBiCl6")) == tolerance_factors(dict(reversed(amounts("Cs2AgBiCl6").items())))


def test_mixed_valence_is_a_mixture_of_two_ions():
    """La2/3 Sr1/3 MnO3 has two Mn3+ and one Mn4+."""
    radius_a = (2 * shannon_radius("La", 3, 12) + shannon_radius("Sr", 2, 12)) / 3
    radius_b = (2 * shannon_radius("Mn", 3, 6) + shannon_radius("Mn", 4, 6)) / 3
    factors = tolerance_factors(amounts("La2SrMn3O9"))
    assert factors.goldschmidt == pytest.approx((radius_a + 1.40) / (2**0.5 * (radius_b + 1.40)))


@pytest.mark.parametrize("formula", ["CaTiXe3", "SrTiSi3", "XeTiO3"])
def test_what_has_no_factor(formula):
    assert tolerance_factors(amounts(formula)) is None


@given(st.integers(1, 94).map(Element.from_Z), st.integers(-3, 8), st.integers(1, 14))
def test_every_ion_of_the_table_has_a_radius_for_any_coordination(element, charge, coordination):
    radius = shannon_radius(element.symbol, charge, coordination)
    table = element.data.get("Shannon radii") or {}
    assert (radius is not None) == (str(charge) in table)
    assert radius is None or -0.5 < radius < 3


def test_radii_by_hand():
    assert shannon_radius("Sr", 2, 12) == 1.44
    # Eight neighbours are the most of Mn2+; of Mn3+ with six the high-spin one.
    assert shannon_radius("Mn", 2, 12) == 0.96
    assert shannon_radius("Mn", 3, 6) == 0.645
