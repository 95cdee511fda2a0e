"""The notebook from a disordered CIF to a ranked table runs as it is, and ends with the real crystal first."""

import re

import nbformat
import pytest
from nbclient import NotebookClient

from docs.notebooks import stays
from tests.conftest import ROOT

PATH = ROOT / "workflows/disordered-cif.ipynb"


@pytest.mark.slow
def test_the_ordering_of_the_real_crystal_is_the_lowest(tmp_path, monkeypatch):
    pytest.importorskip("icet")
    notebook = nbformat.read(PATH, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    stored = {cell.id: {output.output_type for output in cell.outputs} for cell in code}
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = {cell.id: [output for output in cell.outputs if stays(output)] for cell in code}
    kinds = {name: {output.output_type for output in outputs} for name, outputs in shown.items()}
    assert kinds == stored, "run docs/notebooks.py"
    found = shown["orderings"][0]["text"].splitlines()
    assert len(found) == len(set(found)) + 1 == 9  # two of the same size and space group
    (table,) = shown["translate"]
    first = re.search(r"^0 +(\d+) +(\S+) ", table["data"]["text/plain"], flags=re.M)
    # Silver and bismuth alternate as in rock salt.
    assert first.groups() == ("10", "Fm-3m")
    assert "selected      2" in "".join(output.get("text", "") for output in shown["campaign"])
    assert shown["campaign"][-1]["data"]["text/plain"].splitlines()[2].split()[1].endswith("CsAgBiBr.cif,")
