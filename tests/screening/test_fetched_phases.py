"""Phases of the Materials Project: fetched with a key, said without one."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from cryslator_flows.screening.fetched_phases import fetch_phases

CAO = [frozenset({"Ca", "O"})]


@pytest.fixture
def service(monkeypatch):
    """What mp-api answers; the searches that it got."""
    searches = []

    def search(chemsys, thermo_types, fields):
        searches.append((chemsys, thermo_types))
        energies = {"GGA_GGA+U": [-3.31, -3.2], "R2SCAN": [-3.29]}[thermo_types[0]]
        return [SimpleNamespace(formula_pretty="CaO", formation_energy_per_atom=energy) for energy in energies]

    class Rester:
        def __init__(self, key):
            assert key == "a key"
            self.materials = SimpleNamespace(thermo=SimpleNamespace(search=search))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    client = ModuleType("mp_api.client")
    client.MPRester = Rester
    monkeypatch.setitem(sys.modules, "mp_api", ModuleType("mp_api"))
    monkeypatch.setitem(sys.modules, "mp_api.client", client)
    monkeypatch.setenv("MP_API_KEY", "a key")
    return searches


def test_lowest_energy_of_each_compound_by_functional(service):
    found = fetch_phases(CAO)
    assert found.energies == {"GGA_GGA+U": {"CaO": -3.31}, "R2SCAN": {"CaO": -3.29}}
    assert found.note is None
    assert service == [(["Ca-O"], ["GGA_GGA+U"]), (["Ca-O"], ["R2SCAN"])]


def test_reasons_are_told(service, monkeypatch):
    monkeypatch.setenv("MP_API_KEY", "")
    monkeypatch.delenv("PMG_MAPI_KEY", raising=False)
    monkeypatch.setattr("cryslator_flows.screening.fetched_phases.SETTINGS", {})
    assert "MP_API_KEY is not set" in fetch_phases(CAO).note
    monkeypatch.setattr("cryslator_flows.screening.fetched_phases.SETTINGS", {"PMG_MAPI_KEY": "another"})
    found = fetch_phases(CAO)
    assert (found.energies, "does not answer: AssertionError" in found.note) == ({}, True)
    monkeypatch.setitem(sys.modules, "mp_api.client", None)
    assert "mp-api is not installed" in fetch_phases(CAO).note
