"""The tutorial notebook runs as it is, and what it shows is right."""

import json
import re

import nbformat
import pytest
from nbclient import NotebookClient
from pymatgen.core import Structure

from cryslator_flows.results.frames import CANDIDATE_COLUMNS, RELAXATION_COLUMNS
from cryslator_flows.running.local.folder import CampaignFolder
from docs.notebooks import stays, to_markdown
from tests.conftest import ROOT

PATH = ROOT / "workflows/tutorial.ipynb"
NOTEBOOKS = sorted(ROOT.glob("workflows/*.ipynb"))
# Run after the last cell of the notebook, to get what its variables hold.
LOOK = """
import json

for table in results.candidates.reset_index(), results.relaxations, results.savings, steps.reset_index():
    print(table.to_json(orient="records"))
print(json.dumps(errors))
print(folder)
"""


def read():
    notebook = nbformat.read(PATH, as_version=4)
    nbformat.validate(notebook)
    return notebook


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_stored_as_the_site_shows_it(path):
    """With its outputs, and without all that differs in every run: counts, messages, times, paths."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}
    for cell in notebook.cells:
        assert cell.metadata == {}
        if cell.cell_type == "code":
            assert cell.execution_count is None
            assert not {"error", "stderr"} & {output.get("name", output.output_type) for output in cell.outputs}
    assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users|var)/", path.read_text())
    page = to_markdown(path)
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        if "image/png" in output.get("data", {}):
            assert output.data["image/png"].strip() in page
    assert page.count("<table") == path.read_text().count("<table") > 0


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The notebook after it was run in an empty folder, with what its variables held in the end."""
    here, temporary = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("temporary")
    notebook = read()
    notebook.cells.append(nbformat.v4.new_code_cell(LOOK))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(here)}}).execute()
    assert list(here.iterdir()) == []
    look = notebook.cells.pop()
    *tables, folder = look.outputs[0]["text"].splitlines()
    return notebook, here, temporary / folder, *map(json.loads, tables)


@pytest.mark.slow
def test_tables_hold_what_the_campaign_left(ran):
    _, _, folder, candidates, relaxations, savings, steps, errors = ran
    with CampaignFolder(folder / "run").opened() as store:
        comparisons = store.results().comparisons()
        summary = store.results().stored_summary()
    compositions = {f"{metal}{other}O3" for metal in ("Ca", "Sr", "Ba") for other in ("Ti", "Zr")}
    assert list(candidates[0]) == [*CANDIDATE_COLUMNS, "relaxed"]
    assert list(relaxations[0]) == RELAXATION_COLUMNS
    assert sorted(row["formula"] for row in candidates) == sorted([*compositions] * 2)
    assert {row["formula"] for row in candidates if row["relaxed"]} == compositions
    energies = [row["formation_energy_per_atom"] for row in candidates]
    assert energies == sorted(energies)
    # As the notebook says of the two candidates of a composition.
    for formula in compositions:
        low, high = (row for row in candidates if row["formula"] == formula)
        assert (low["relaxed"], high["relaxed"]) == (True, False)
        assert high["formation_energy_per_atom"] > low["formation_energy_per_atom"] + 0.3
        assert high["formation_energy_uncertainty"] > low["formation_energy_uncertainty"]
    assert [(row["candidate_id"], row["start"]) for row in relaxations] == [
        (item.candidate_id, start) for item in comparisons for start in ("unrelaxed", "translated")
    ]
    assert all(row["converged"] and row["electronic_steps"] is None for row in relaxations)
    taken = {(row["candidate_id"], row["start"]): row["ionic_steps"] for row in relaxations}
    same = [item for item in comparisons if item.ending().outcome == "same minimum"]
    assert len(same) >= 5
    assert len(steps) == len(same)
    for row in steps:
        for start in ("unrelaxed", "translated"):
            assert row[start] == taken[row["candidate_id"], start]
    (row,) = savings
    assert row["n_pairs"] == len(same)
    totals = {start: sum(row[start] for row in steps) for start in ("unrelaxed", "translated")}
    assert row["saving"] == pytest.approx(1 - totals["translated"] / totals["unrelaxed"])
    assert row["interval"] == pytest.approx(summary.savings[0].interval)
    assert sum(errors["translated"]) < sum(errors["unrelaxed"])


@pytest.mark.slow
def test_cells_show_what_they_are_about(ran):
    notebook, _, folder, _, _, savings, _, _ = ran
    shown = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    texts = {
        name: "".join(output.get("text", "") for output in outputs if output.output_type == "stream")
        for name, outputs in shown.items()
    }
    lengths = re.search(r"lattice constant: 3\.905 -> (\d\.\d+) angstrom", texts["translate"])
    assert float(lengths[1]) == pytest.approx(4.0, abs=0.1)
    assert "['enumerate', 'select', 'summarize']" in texts["flow"]
    for name in ("flow", "energies", "steps"):
        assert [name for output in shown[name] if "image/png" in output.get("data", {})] == [name]
    for name in ("candidates", "relaxations"):
        (table,) = shown[name]
        assert table["data"]["text/html"].count("<tr") == 1 + 12 + (name == "candidates")
    assert f"saving {savings[0]['saving']:+.0%}, 95 % interval" in texts["savings"]
    (cif,) = folder.glob("*.cif")
    formula = texts["structures"].split()[0]
    assert cif.stem == formula == Structure.from_file(cif).reduced_formula
    assert (folder / "run/report.html").stat().st_size > 1_000_000
    stored = {cell.id: cell.outputs for cell in read().cells if cell.cell_type == "code"}
    for name, outputs in shown.items():
        kinds = {output.output_type for output in outputs if stays(output)}
        assert kinds == {output.output_type for output in stored[name]}, f"{name}: run docs/notebooks.py"
    # No warnings; the progress bar alone is written there.
    noise = {name for name, outputs in shown.items() if any(output.get("name") == "stderr" for output in outputs)}
    assert noise <= {"run"}
