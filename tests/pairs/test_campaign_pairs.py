"""Pairs from a campaign that ran, by the command line."""

import json

import pytest
import yaml

from cryslator_flows.training.records import PairRecord, read_records
from tests.running import test_started as started

MAKER = "tests.pairs.makers.LargeAtomsRelaxMaker"


def start(tmp_path, monkeypatch, *args, **kwargs):
    monkeypatch.setattr(started, "MAKER", MAKER)
    return started.start(tmp_path, monkeypatch, *args, **kwargs)


@pytest.fixture
def campaign(tmp_path, monkeypatch):
    return start(tmp_path, monkeypatch, fails_with="Sr")


def rows(folder):
    files = json.loads((folder / "pairs.json").read_text())["files"]
    return [row for name in files for row in read_records(folder / name, PairRecord)]


def test_a_campaign_by_name_folder_and_file(run, tmp_path, campaign):
    with campaign.opened():
        comparisons = {item.candidate_id: item for item in campaign.results().comparisons()}
    code, out, err = run("pairs", "campaign", "mine", "-o", "own")
    assert code == 0
    assert "dropped: relaxation failed 2" in out
    assert "read 4" in out
    assert "0 of 2 pairs have a formation energy, 2 an energy of the engine" in err
    made = rows(tmp_path / "own")
    assert len(made) == 2
    for row in made:
        comparison = comparisons[row.target]
        assert row.structure("unrelaxed").matches(comparison.unrelaxed_structure, scale=False)
        ends = [item for item in comparison.relaxations if item.energy_per_atom == row.energy_per_atom]
        assert row.structure("relaxed").matches(ends[0].structure, scale=False)
        assert row.energy_per_atom == min(item.energy_per_atom for item in comparison.relaxations)
        assert (row.template, row.substitution) == (comparison.template_id, comparison.substitution)
        assert row.template.startswith(row.template_formula)
    for folder, place in {"second": campaign.path, "third": "campaign.yaml"}.items():
        assert run("pairs", "campaign", place, "-o", folder, "--split", "none")[0] == 0
        again = rows(tmp_path / folder)
        assert sorted(again, key=lambda row: row.target) == sorted(made, key=lambda row: row.target)
    code, _, err = run("pairs", "isostructural", "campaign.yaml", "-o", "own")
    assert (code, "own: holds pairs of campaign mine; give another folder" in err) == (2, True)
    assert rows(tmp_path / "own") == made


def test_formation_energies(run, tmp_path, campaign):
    content = yaml.safe_load((tmp_path / "campaign.yaml").read_text())
    content["relaxation"]["element_energies"] = {"Mn": -1.0, "O": -2.0, "Ca": -3.0, "Sr": -3.0}
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "mine.yaml").write_text("{Mn: -2.0, O: -3.0, Ca: -4.0}")
    assert run("pairs", "campaign", "campaign.yaml", "-o", "own")[0] == 0
    own = {row.target: row for row in rows(tmp_path / "own")}
    code, _, err = run("pairs", "campaign", "mine", "-o", "given", "--element-energies", "mine.yaml")
    assert (code, "have a formation energy" in err, "no pair is left for pairs-test.jsonl.gz" in err) == (
        0,
        False,
        True,
    )
    for row in rows(tmp_path / "given"):
        assert row.formation_energy_per_atom == pytest.approx(own[row.target].formation_energy_per_atom + 1)
        counts = {symbol: row.species.count(symbol) / len(row.species) for symbol in set(row.species)}
        elements = sum(share * {"Mn": -2.0, "O": -3.0, "Ca": -4.0}[symbol] for symbol, share in counts.items())
        assert row.formation_energy_per_atom == pytest.approx(row.energy_per_atom - elements)
    (tmp_path / "mine.yaml").write_text("{Mn: -2.0, Ca: -4.0}")
    code, _, err = run("pairs", "campaign", "mine", "-o", "lacking", "--element-energies", "mine.yaml")
    assert (code, "the given energies of the elements lack O" in err) == (0, True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("O: 1\nMn: low", "bad.yaml, line 2, Mn: "),
        ("Mx: -1", "bad.yaml, line 1, Mx: "),
        ("- 1", "bad.yaml, line 1, file: "),
        ("Mn: .nan", "bad.yaml, line 1: .nan is not a finite number"),
        ("Mn: 1\nMn: 2", "bad.yaml, line 2: key 'Mn' stands here again"),
        (": :", "cannot be read as YAML"),
        (None, "cannot be read as YAML"),
    ],
)
def test_a_bad_file_of_energies(run, tmp_path, monkeypatch, content, words):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "bad.yaml").write_text(content)
    code, _, err = run("pairs", "campaign", "mine", "-o", "own", "--element-energies", "bad.yaml")
    assert (code, words in err) == (2, True)


def test_no_pair_is_left(run, tmp_path, monkeypatch):
    # The stage stops after five failures for one reason: two candidates and a half.
    start(tmp_path, monkeypatch, fails_with="O")
    code, out, err = run("pairs", "campaign", "mine", "-o", "own")
    assert code == 1
    assert "No pair is left of 2 in mine: see own/dropped.jsonl." in err
    assert "dropped: relaxation failed 2" in out
    assert not [*(tmp_path / "own").glob("*.gz")]


def test_a_campaign_that_is_not_there_or_has_nothing_yet(run, tmp_path, monkeypatch):
    start(tmp_path, monkeypatch, until="enumerate")
    code, _, err = run("pairs", "campaign", "mine", "-o", "own")
    assert (code, "has no results yet" in err) == (2, True)
    monkeypatch.setattr("jobflow_remote.SETTINGS.projects_folder", str(tmp_path / "none"))
    code, _, err = run("pairs", "campaign", "mime", "-o", "own")
    assert (code, "did you mean 'mine'" in err) == (2, True)
    assert not (tmp_path / "own").exists()
    code, _, err = run("pairs", "campain", "mine", "-o", "own")
    assert (code, "campaign" in err) == (2, True)


def test_options_of_other_kinds_are_refused(run, tmp_path):
    code, _, err = run("pairs", "campaign", "mine", "-o", tmp_path, "--intermediates", 3)
    assert (code, "--intermediates is for store and vasp and mpf, not for campaign" in err) == (2, True)
    code, _, err = run("pairs", "vasp", tmp_path, "-o", tmp_path, "--max-per-target", 3)
    assert (code, "--max-per-target is for isostructural, not for vasp" in err) == (2, True)


def test_ctrl_c(run, tmp_path, monkeypatch):
    def interrupted(path, intermediates):
        raise KeyboardInterrupt

    monkeypatch.setattr("cryslator_flows.pairs.readers.read_vasp_runs", interrupted)
    code, _, err = run("pairs", "vasp", tmp_path, "-o", tmp_path / "own")
    assert (code, "Stopped. Nothing was written." in err) == (130, True)
    assert not (tmp_path / "own").exists()
