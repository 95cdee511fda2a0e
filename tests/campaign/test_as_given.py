"""Structures of one's own, screened as they are."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner

from cryslator_flows.api import Campaign
from cryslator_flows.campaign.file import folder_label
from cryslator_flows.cli.main import app
from cryslator_flows.crystals.check import MAX_ATOMS
from cryslator_flows.errors import CampaignError
from cryslator_flows.running.find import find_campaign
from tests.campaign.test_file import GOOD, write


@pytest.fixture
def folder(tmp_path, perovskite, rutile):
    """Crystals from several sources: one twice, one without balanced charges, one of 80 atoms, one unreadable."""
    folder = tmp_path / "my dump"
    folder.mkdir()
    perovskite.to(str(folder / "a.cif"))
    perovskite.copy().scale_lattice(70).to(str(folder / "b.cif"))
    alloy = Structure.from_spacegroup("Fm-3m", Lattice.cubic(6), ["Al", "Ni"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    larger = perovskite.copy().replace_species({"Ca": "Ba"}) * (4, 2, 2)
    larger.translate_sites([0], [0.01, 0, 0])
    rows = [
        {"material_id": "gen-7", "structure": alloy.as_dict()},
        {"material_id": "gen-8", "structure": rutile.as_dict()},
        {"id": 9, "structure": larger.as_dict()},
    ]
    (folder / "dump.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "broken.cif").write_text("nonsense")
    return folder


def test_a_folder_is_screened_to_the_last_table(folder, monkeypatch):
    """Every structure is a candidate under the identifier of its source; what is not one is named."""
    monkeypatch.chdir(folder.parent)
    campaign = Campaign.from_file(Path("my dump/"))
    assert campaign.name == "my-dump"
    campaign.relaxation = None
    results = campaign.run()
    assert set(results.candidates["template_id"]) == {
        "my dump/a.cif", "my dump/dump.jsonl, gen-7", "my dump/dump.jsonl, gen-8", "my dump/dump.jsonl, 9"
    }  # fmt: skip
    table = pd.read_csv("runs/my-dump/candidates.csv")
    assert set(table["template_id"]) == set(results.candidates["template_id"])
    assert results.summary.counts.as_given_duplicates == ["my dump/b.cif: equivalent to my dump/a.cif"]
    (rejected,) = results.summary.counts.rejected_templates
    assert "broken.cif" in rejected
    with find_campaign("my dump/") as started:
        assert started.label == "my-dump"


def test_a_changed_folder_is_refused_with_what_changed_and_the_command(folder, perovskite, monkeypatch):
    monkeypatch.chdir(folder.parent)
    campaign = Campaign.from_file("my dump")
    campaign.relaxation = None
    campaign.run()
    (folder / "b.cif").unlink()
    perovskite.to(str(folder / "broken.cif"))
    for number in range(4):
        perovskite.copy().replace_species({"Ti": ("Zr", "Hf", "Sn", "Ge")[number]}).to(str(folder / f"c{number}.cif"))
    campaign = Campaign.from_file("my dump")
    changes = (
        "templates (new: my dump/c0.cif, my dump/c1.cif, my dump/c2.cif and 1 more; changed: my dump/broken.cif; gone: "
        "my dump/b.cif), relaxation changed since"
    )
    command = "cryslator screen 'my dump' --output runs/my-dump-2 --reuse runs/my-dump"
    with pytest.raises(CampaignError, match=f"{re.escape(changes)} .*: {re.escape(command)}$"):
        campaign.run()


def test_a_folder_is_the_campaign_of_a_short_file(folder, tmp_path):
    content = {
        "name": "my-dump",
        "templates": [{"source": "files", "path": str(folder)}],
        "substitutions": [{"kind": "as-given"}],
    }
    assert Campaign.from_file(folder).content() == Campaign.from_file(write(tmp_path, content)).content()


def test_filters_for_templates_stay_where_they_are_given_or_mixed():
    as_given = {"kind": "as-given"}
    source = {"source": "aflow"}
    alone = Campaign.model_validate(GOOD | {"templates": [source], "substitutions": [as_given]})
    assert (alone.templates[0].max_atoms, alone.enumeration.charge_balanced) == (MAX_ATOMS, False)
    given = GOOD | {"templates": [source | {"max_atoms": 8}], "substitutions": [as_given]}
    chosen = Campaign.model_validate(given | {"enumeration": {"charge_balanced": True}})
    assert (chosen.templates[0].max_atoms, chosen.enumeration.charge_balanced) == (8, True)
    mixed = Campaign.model_validate(GOOD | {"templates": [source], "substitutions": [*GOOD["substitutions"], as_given]})
    assert (mixed.templates[0].max_atoms, mixed.enumeration.charge_balanced) == (40, True)


def test_the_plan_of_a_folder_names_duplicates(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    result = CliRunner().invoke(app, ["plan", "my dump"])
    assert result.exit_code == 0
    assert "duplicate my dump/b.cif: equivalent to my dump/a.cif" in result.stderr


def test_the_folder_of_a_campaign_is_no_folder_of_structures(tmp_path):
    (tmp_path / "campaign.sqlite").write_text("")
    with pytest.raises(CampaignError, match="the folder of a campaign; give its campaign file"):
        Campaign.from_file(tmp_path)


@pytest.mark.parametrize(
    ("name", "label"),
    [("a b", "a-b"), (".hidden", "hidden"), ("Ünï", "n"), ("...", "structures"), ("x" * 250, "x" * 200)],
)
def test_the_label_of_a_folder_is_a_valid_name(name, label):
    assert folder_label(f"/nowhere/{name}") == label
    assert Campaign.model_validate(GOOD | {"name": label}).name == label
