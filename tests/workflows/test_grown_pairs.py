"""The measurement of workflows/grown-pairs, with a small potential, and its published results."""

import gzip
import importlib
import json
import shutil
import subprocess
from random import Random

from cryslator_flows.crystals.substitution import is_charge_balanced, substitute
from cryslator_flows.training.records import PairRecord
from tests.conftest import ROOT
from tests.training.test_tune import salt
from tests.training.test_tune import write as write_pairs


def test_published_results_of_grown_pairs_are_those_of_the_rows(python, tmp_path):
    folder = ROOT / "workflows/grown-pairs"
    for name in ("results.jsonl", "counts-0.json", "counts-1.json"):
        shutil.copy(folder / name, tmp_path)
    subprocess.run([python, folder / "report.py", tmp_path / "results.jsonl"], check=True)
    assert (tmp_path / "RESULTS.md").read_text() == (folder / "RESULTS.md").read_text()
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    methods = {row["method"] for row in rows}
    assert len(methods) == 5
    assert len(rows) == len({(row["method"], row["target"]) for row in rows})


def test_drawn_substitutions_are_balanced_and_held_out_formulas_absent(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "workflows/grown-pairs")
    draw = importlib.import_module("draw")
    write_pairs(tmp_path / "pairs.jsonl.gz", [salt("Na", "Cl", split="val"), salt("K", "Cl", split="train")])
    write_pairs(tmp_path / "pairs_test.jsonl.gz", [salt("Rb", "Cl")])
    held_out = draw.held_out_formulas(tmp_path)
    assert held_out == {"NaCl", "RbCl"}
    templates = draw.prototypes(held_out)
    assert len(templates) > 150
    assert not any(template.structure.composition.reduced_formula in held_out for template in templates)
    drawn = [draw.Draw(held_out, Random(1)) for _ in range(2)]
    maps = [[source.maps(template, 2, any_volume=False) for template in templates[:20]] for source in drawn]
    assert maps[0] == maps[1]
    found = [
        substitute(template.structure, mapping)
        for template, of_template in zip(templates, maps[0], strict=False)
        for mapping in of_template
    ]
    assert len(found) > 30
    for structure in found:
        assert structure.composition.reduced_formula not in held_out
        assert is_charge_balanced(structure.composition.reduced_composition.get_el_amt_dict())


def test_pairs_are_grown_exported_and_never_grown_again(tmp_path, monkeypatch):
    """The whole script with a Lennard-Jones crystal in place of the potential."""
    monkeypatch.syspath_prepend(ROOT / "workflows/grown-pairs")
    grow = importlib.import_module("grow")
    maker = "tests.flows.makers.PairPotentialRelaxMaker", {"relax_cell": False}
    monkeypatch.setattr(grow, "POTENTIALS", {grow.POTENTIAL: maker})
    prototypes = grow.prototypes
    monkeypatch.setattr(grow, "prototypes", lambda held_out: prototypes(held_out)[:3])
    write_pairs(tmp_path / "pairs_val.jsonl.gz", [salt("Na", "Cl")])
    runs = tmp_path / "runs"
    grow.grow(tmp_path, runs, passes=1, seed=0)
    counts = grow.export(tmp_path, runs, 0)
    relaxed = (runs / grow.SPENT).read_text()
    grow.grow(tmp_path, runs, passes=1, seed=0)
    assert (runs / grow.SPENT).read_text() == relaxed
    with gzip.open(runs / "grown_pairs_train-0.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    assert counts["targets"] + sum(counts["dropped"].values()) == 3 * grow.PER_TEMPLATE
    assert len({row["target"] for row in rows}) == counts["targets"] > 0
    assert sum("ionic_step" in row for row in rows) == counts["intermediates"] > 0
    assert {row["split"] for row in rows} == {"train"}
    assert not any("formation_energy_per_atom" in row for row in rows)
    assert all(row["template_formula"] for row in rows)
    formula = PairRecord.model_validate(rows[0]).reduced_formula
    monkeypatch.setattr(grow, "held_out_formulas", lambda _: {formula})
    assert grow.export(tmp_path, runs, 0)["dropped"]["a formula of validation or test"] > 0
