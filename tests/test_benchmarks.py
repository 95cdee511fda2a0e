"""Benchmarks run, at sizes that say nothing about speed."""

from __future__ import annotations

import importlib
import sys

import pytest
from pymatgen.core.structure_matcher import StructureMatcher

from cryslator_flows.crystals.enumeration import DuplicateFilter
from cryslator_flows.translator.loaded import LoadedModel

SMALLEST = {
    "enumerate": ["--elements", "3"],
    "flow": ["--metals", "4", "--top-k", "2"],
    "linear": ["--sizes", "10"],
    "million": ["--metals", "4", "--translate", "20"],
    "results": ["--metals", "4"],
}
# What they replace to tell time apart, each in a process of its own.
TIMED = [(DuplicateFilter, "find_equivalent"), (DuplicateFilter, "one_size"), (StructureMatcher, "fit"),
         (LoadedModel, "predict")]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_a_small_size_ends_with_a_table(name, monkeypatch, capsys):
    """In this process, which has imported all that theirs import."""
    for owner, method in TIMED:
        monkeypatch.setattr(owner, method, getattr(owner, method))
    benchmark = importlib.import_module(f"tests.benchmarks.{name}")
    if hasattr(benchmark, "measure"):
        spent = {"seconds": 1.0, "peak": 1.0}
        monkeypatch.setattr(benchmark, "measure", lambda stage, *arguments: {**stage(*arguments), **spent})
    monkeypatch.setattr(sys, "argv", [name, *SMALLEST[name]])
    benchmark.main()
    assert "━" in capsys.readouterr().out
