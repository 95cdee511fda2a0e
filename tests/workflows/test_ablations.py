"""Published ablations are those of their rows."""

import json
import runpy

from tests.conftest import ROOT


def test_published_ablations_are_those_of_the_rows():
    folder = ROOT / "workflows/ablations"
    script = runpy.run_path(str(folder / "measure.py"))
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert script["table"](rows) in (folder / "README.md").read_text()
    assert set(script["VARIANTS"]) <= {row["variant"].partition(", passes")[0] for row in rows}
