"""The table of what families of structures yield."""

import subprocess

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_a_family_and_one_that_the_library_lacks(python):
    command = [python, ROOT / "workflows/families/table.py", "pyrochlores", "garnets"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    *_, pyrochlores, garnets = printed.splitlines()
    cells = [cell.strip() for cell in pyrochlores.split("|")[1:-1]]
    # Five trivalent with five tetravalent elements.
    assert cells[:3] == ["pyrochlores", "1", "25"]
    assert 0 < int(cells[4]) <= 25
    # Every formula of a pyrochlore that is near the hull is known, or counted as new.
    assert int(cells[5]) <= int(cells[4])
    assert garnets.startswith("| garnets | 0 |")
