"""The published results of workflows/rounds."""

import json
import re
import shutil
import subprocess

import pytest

from tests.conftest import ROOT


def test_published_rounds_are_those_of_the_rows(python, tmp_path):
    """And N most stable candidates are not found before N relaxations, whichever way."""
    folder = ROOT / "workflows/rounds"
    shutil.copytree(folder, tmp_path / "rounds")
    subprocess.run([python, tmp_path / "rounds/report.py"], check=True)
    page = (tmp_path / "rounds/RESULTS.md").read_text()
    assert page == (folder / "RESULTS.md").read_text()
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    ways = [name for name in rows[0] if name.startswith("rounds")]
    assert all(sorted(row[way] for row in rows) == list(range(1, len(rows) + 1)) for way in ways)
    table = re.findall(r"^\| (\d+) \| ([\d.]+) \(([\d, ]+)\) \| (\d+) \| ([\d.]+) \|$", page, flags=re.M)
    assert [int(row[0]) for row in table] == [5, 10, 20]
    for number, mean, each, one_shot, random in table:
        seeds = [int(value) for value in each.split(", ")]
        assert len(seeds) == len(ways)
        assert float(mean) == pytest.approx(sum(seeds) / len(seeds), abs=0.05)
        assert all(int(number) <= float(value) <= len(rows) for value in (*seeds, one_shot, random))
