"""Filters of candidates by their formula."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monty.json import MontyDecoder, MontyEncoder
from pydantic import ValidationError
from pymatgen.analysis.cost import CostAnalyzer, CostDBElements
from pymatgen.analysis.hhi import HHIModel

from cryslator_flows.api import Campaign
from cryslator_flows.crystals import formula_filters
from cryslator_flows.crystals.enumeration import Enumeration
from cryslator_flows.crystals.formula_filters import FormulaFilters, price_per_kg
from cryslator_flows.crystals.substitution import RolePools
from cryslator_flows.crystals.templates import AflowTemplates
from cryslator_flows.crystals.windows import Window
from cryslator_flows.errors import CampaignError
from tests.campaign.test_file import GOOD, write
from tests.crystals.test_tolerance_factors import amounts


def passed(formula, **filters):
    return all(test(amounts(formula)) for test in FormulaFilters(**filters).tests().values())


def test_each_filter():
    assert passed("PbTiO3")
    assert not passed("PbTiO3", without_elements=["Pb", "Cd"])
    assert passed("CaTiO3", tau={"max": 4.18}, goldschmidt={"min": 0.9, "max": 1.05})
    assert not passed("MgTiO3", tau={"max": 4.18})
    assert not passed("MgTiO3", goldschmidt={"min": 0.9, "max": 1.05})
    production, reserves = HHIModel().get_hhi("CaTiO3")
    assert passed("CaTiO3", hhi_production={"max": production + 1}, hhi_reserves={"min": reserves - 1})
    assert not passed("CaTiO3", hhi_production={"max": production - 1})
    assert not passed("CaTiO3", hhi_reserves={"min": reserves + 1})
    assert passed("CaTiO3", price={"max": 10})
    assert not passed("IrO2", price={"max": 10})


def test_tolerance_factors_are_for_perovskites_alone():
    window = {"max": 4.18}
    assert passed("Mg2SiO4", tau=window, goldschmidt=window)
    # A perovskite's formula without factors is left out.
    assert not passed("XeTiO3", tau=window)


@pytest.mark.parametrize("key", ["hhi_production", "hhi_reserves", "price"])
def test_unknown_is_left_out(key):
    assert not passed("PuO2", **{key: {"min": 0}})


@given(st.dictionaries(st.sampled_from(["Ca", "Ti", "O", "Ir", "F", "Na"]), st.integers(1, 6), min_size=1))
def test_prices_are_those_of_pymatgen(formula):
    text = "".join(f"{symbol}{amount}" for symbol, amount in formula.items())
    assert price_per_kg(formula) == pytest.approx(float(CostAnalyzer(CostDBElements()).get_cost_per_kg(text)), rel=1e-6)


@given(low=st.none() | st.floats(-9, 9), high=st.none() | st.floats(-9, 9), value=st.floats(-9, 9))
def test_windows(low, high, value):
    if (low is None and high is None) or (low is not None and high is not None and low > high):
        with pytest.raises(ValidationError):
            Window(min=low, max=high)
        return
    window = Window(min=low, max=high)
    assert window.holds(value) == ((low is None or value >= low) and (high is None or value <= high))
    assert not window.holds(None)
    assert window.hold(np.array([value, np.nan])).tolist() == [window.holds(value), False]


def test_smact():
    pytest.importorskip("smact")
    for formula, valid in {"CaTiO3": True, "Fe3O4": True, "Na2Cl": False, "NaK": False}.items():
        assert passed(formula, smact=True) == valid, formula


def test_filters_travel_in_jobs():
    filters = FormulaFilters(without_elements=["Pb"], tau=Window(max=4.18))
    assert MontyDecoder().decode(json.dumps(filters, cls=MontyEncoder)) == filters


def test_each_filter_counts_what_it_leaves_out():
    templates = list(AflowTemplates(elements=["O"], anonymous_formulas=["ABC3"]).load())[:3]
    space = RolePools(kind="roles", cations=[["Ti", "Zr"], ["Mg", "Ca", "Pb"]])
    filters = FormulaFilters(without_elements=["Pb"], tau=Window(max=4.18), price=Window(max=1e6))
    plain, enumeration = Enumeration(templates, [space]), Enumeration(templates, [space], filters=filters)
    everything, kept = ({item.candidate_id: item.reduced_formula for item in source} for source in (plain, enumeration))
    assert kept.items() < everything.items()
    assert set(kept.values()) == {"CaTiO3", "CaZrO3"}
    counts = enumeration.counts
    assert list(counts.filtered) == ["without Pb", "tolerance factor tau at most 4.18", "price in $/kg at most 1e+06"]
    assert [bool(number) for number in counts.filtered.values()] == [True, True, False]
    lost = counts.not_charge_balanced + sum(counts.filtered.values()) + counts.duplicates
    assert counts.enumerated == lost + counts.unique


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"without_elements": ["Pbx"]}, "enumeration.filters.without_elements.0: 'Pbx' is not an element"),
        ({"tau": {"min": 5, "max": 4}}, "enumeration.filters.tau: min 5 is above max 4"),
        ({"price": {}}, "enumeration.filters.price: it keeps everything"),
        ({"goldschmidt": {"max": "nan"}}, "enumeration.filters.goldschmidt.max: "),
        ({"hhi": {"max": 1}}, "enumeration.filters"),
    ],
)
def test_mistakes_are_found_when_the_file_is_read(filters, words, tmp_path):
    with pytest.raises(CampaignError) as error:
        Campaign.from_file(write(tmp_path, {**GOOD, "enumeration": {"filters": filters}}))
    assert words in str(error.value)
    assert "campaign.yaml" in str(error.value)


@pytest.mark.parametrize("command", ["plan", "screen"])
def test_missing_smact_is_found_before_anything_runs(command, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(formula_filters, "find_spec", lambda name: None)
    file = write(tmp_path, {**GOOD, "enumeration": {"filters": {"smact": True}}})
    code, _, err = run(command, file)
    assert code == 2
    assert err.count("Error:") == 1
    assert "enumeration.filters.smact: the package smact is not installed" in err
    assert "pip install 'cryslator-flows[filters]'" in err
    assert not (tmp_path / "runs").exists()


def test_no_candidate_left_names_the_filters(tmp_path, run):
    file = write(tmp_path, {**GOOD, "enumeration": {"filters": {"without_elements": ["O"]}}})
    code, _, err = run("screen", file, "-o", tmp_path / "run")
    assert code == 2
    assert "without O" in err
