"""Paths as text in the Python API of pairs."""

import pytest

from cryslator_flows.errors import DataError
from cryslator_flows.pairs.make import PairFolder
from cryslator_flows.pairs.raw import Dropped
from cryslator_flows.pairs.sources.vasp_runs import read_vasp_runs


def test_a_folder_of_pairs_and_its_source(tmp_path):
    folder = PairFolder(str(tmp_path / "pairs"))
    assert folder.scratch == tmp_path / "pairs" / "unfinished"
    summary = folder.fill([Dropped("a", "no relaxation")], kind="vasp", source="runs")
    assert (summary.read, summary.kept, summary.dropped) == (1, 0, {"no relaxation": 1})
    assert (tmp_path / "pairs" / "dropped.jsonl").is_file()
    with pytest.raises(DataError, match=r"no vasprun\.xml in it"):
        list(read_vasp_runs(str(tmp_path)))
