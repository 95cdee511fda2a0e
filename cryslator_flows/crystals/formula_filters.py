"""Filters of candidates by their formula alone, before any structure is made."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pydantic import Field
from pymatgen.core import Composition, Element

from cryslator_flows.config import StrictModel
from cryslator_flows.crystals.substitution import Symbol
from cryslator_flows.crystals.tolerance_factors import is_perovskite_formula, tolerance_factors
from cryslator_flows.crystals.windows import Window
from cryslator_flows.errors import NotInstalledError

if TYPE_CHECKING:
    from pymatgen.analysis.hhi import HHIModel

Test = Callable[[dict[str, int]], bool]


class FormulaFilters(StrictModel):
    """Filters of the formulas of candidates, each null or off by default.

    A candidate whose value is unknown, since an element has none, is left out.

    Examples
    --------
    >>> tests = FormulaFilters(without_elements=["Pb"], tau=Window(max=4.18)).tests()
    >>> {name: test({"Pb": 1, "Ti": 1, "O": 3}) for name, test in tests.items()}
    {'without Pb': False, 'tolerance factor tau at most 4.18': True}
    """

    without_elements: list[Symbol] = Field(
        default_factory=list, description="Drop candidates with one of these elements, toxic or rare ones for instance"
    )
    goldschmidt: Window | None = Field(
        None,
        description="Goldschmidt's tolerance factor of ABX3 and double perovskites; other formulas pass. 1 is ideal",
    )
    tau: Window | None = Field(
        None,
        description="Tolerance factor tau of Bartel and others for ABX3 and double perovskites; other formulas pass. "
        "Perovskites are expected below 4.18",
    )
    hhi_production: Window | None = Field(
        None,
        description="Herfindahl-Hirschman index of the production of the elements, averaged by mass, 0 to 10000; high "
        "where few countries produce them",
    )
    hhi_reserves: Window | None = Field(None, description="The same index of the reserves of the elements, 0 to 10000")
    price: Window | None = Field(
        None, description="Price of the pure elements, averaged by mass, in US dollars per kg; pymatgen's table of 2013"
    )
    smact: bool = Field(
        False,
        description="Drop candidates that SMACT finds not charge-neutral, or whose anions are less electronegative "
        "than their cations; needs `pip install 'cryslator-flows[filters]'`",
    )

    def tests(self) -> dict[str, Test]:
        """Return the test of each filter that is on, by its name in the funnel, the cheapest first.

        Returns
        -------
        dict
            Each test takes the number of atoms in the formula by symbol, and returns True for a candidate to keep.

        Raises
        ------
        NotInstalledError
            See `check_installed`.
        """
        self.check_installed()
        tests: dict[str, Test] = {}
        if without := set(self.without_elements):
            tests[f"without {', '.join(self.without_elements)}"] = lambda amounts: without.isdisjoint(amounts)
        for number, (name, window) in enumerate(
            {"Goldschmidt factor": self.goldschmidt, "tolerance factor tau": self.tau}.items()
        ):
            if window is not None:
                tests[f"{name} {window}"] = lambda amounts, number=number, window=window: (  # type: ignore[misc]
                    not is_perovskite_formula(amounts) or window.holds((tolerance_factors(amounts) or UNKNOWN)[number])
                )
        for name, window, value in (
            ("HHI of production", self.hhi_production, _hhi_production),
            ("HHI of reserves", self.hhi_reserves, _hhi_reserves),
            ("price in $/kg", self.price, price_per_kg),
        ):
            if window is not None:
                tests[f"{name} {window}"] = lambda amounts, window=window, value=value: (  # type: ignore[misc]
                    window.holds(value(amounts))
                )
        if self.smact:
            tests["SMACT"] = is_valid_by_smact
        return tests

    def check_installed(self) -> None:
        """Check that the package of each filter is installed.

        Raises
        ------
        NotInstalledError
            It is not.
        """
        if self.smact and find_spec("smact") is None:
            raise NotInstalledError(
                "enumeration.filters.smact: the package smact is not installed; give the command "
                "pip install 'cryslator-flows[filters]', or remove the filter"
            )


UNKNOWN = (None, None)


def is_valid_by_smact(amounts: dict[str, int]) -> bool:
    """Return True if SMACT finds charge-neutral oxidation states whose anions are the most electronegative elements.

    D. W. Davies and others, Chem 1, 617 (2016). Elements and alloys are not exempt.
    """
    from smact.screening import smact_validity

    return bool(smact_validity(Composition(amounts), include_alloys=False, mixed_valence=True))


@cache
def _hhi_model() -> HHIModel:
    from pymatgen.analysis.hhi import HHIModel

    return HHIModel()


def _hhi_production(amounts: dict[str, int]) -> float | None:
    # M. W. Gaultois and others, Chem. Mater. 25, 2911 (2013).
    return _hhi_model().get_hhi_production(Composition(amounts))


def _hhi_reserves(amounts: dict[str, int]) -> float | None:
    return _hhi_model().get_hhi_reserve(Composition(amounts))


def price_per_kg(amounts: dict[str, int]) -> float | None:
    """Return the price of the pure elements in a formula, in US dollars per kg; None if an element has no price."""
    masses = {symbol: amount * float(Element(symbol).atomic_mass) for symbol, amount in amounts.items()}
    total = 0.0
    for symbol, mass in masses.items():
        price = _element_price(symbol)
        if price is None:
            return None
        total += price * mass
    return total / sum(masses.values())


@cache
def _element_price(symbol: str) -> float | None:
    from pymatgen.analysis.cost import CostAnalyzer, CostDBElements

    try:
        return float(CostAnalyzer(CostDBElements()).get_cost_per_kg(symbol))
    except ValueError:
        return None
