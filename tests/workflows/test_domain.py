"""The measurement of workflows/domain: its draw and its published results."""

import importlib
import json
import shutil
import subprocess
import sys

from cryslator_flows.crystals.compound_classes import compound_class
from cryslator_flows.screening.known_phases import known_phases
from tests.conftest import ROOT

FOLDER = ROOT / "workflows/domain"


def test_published_results_of_the_domain_are_those_of_the_rows(python, tmp_path):
    shutil.copy(FOLDER / "results.jsonl", tmp_path)
    subprocess.run([python, FOLDER / "report.py", tmp_path / "results.jsonl"], check=True)
    assert (tmp_path / "RESULTS.md").read_text() == (FOLDER / "RESULTS.md").read_text()


def test_drawn_families_are_new_compounds_of_their_class_and_the_measured_ones(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delitem(sys.modules, "measure", raising=False)
    measure = importlib.import_module("measure")
    head, *rows = map(json.loads, (FOLDER / "results.jsonl").read_text().splitlines())
    kinds = {"sulfides": "chalcogenides", "halides": "halides", "nitrides": "pnictides", "Heuslers": "intermetallics"}
    for family in measure.FAMILIES:
        drawn = measure.draw(family, 15, head["seed"])
        assert [*drawn] == [row["formula"] for row in rows if row["family"] == family.name]
        for formula, structure in drawn.items():
            symbols = frozenset(structure.composition.get_el_amt_dict())
            assert len(symbols) == 3
            assert compound_class(symbols) == kinds[family.name]
            assert formula not in known_phases([symbols])
