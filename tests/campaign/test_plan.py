"""The plan of a campaign before it starts, and the inputs of its relaxations."""

import json
import re
import shutil
import sys
from collections import Counter

import pytest
from pymatgen.core import Structure
from pymatgen.io.vasp import Incar, Kpoints

from cryslator_flows.api import Campaign
from cryslator_flows.campaign.plan import make_plan
from cryslator_flows.campaign.survey import look_at_all, look_quickly
from cryslator_flows.running.local.folder import CampaignFolder
from cryslator_flows.running.local.run import CampaignRun
from cryslator_flows.running.spent_hours import SpentHours
from cryslator_flows.running.started import find_started
from cryslator_flows.screening import fitted_references
from tests.campaign.test_file import GOOD, write
from tests.campaign.test_preflight import TITANATES

MAKER = "tests.flows.makers.PairPotentialRelaxMaker"


@pytest.fixture
def few_compounds(monkeypatch):
    """Fewer known compounds, to save time."""
    monkeypatch.setattr(fitted_references, "PER_ELEMENT", 2)
    monkeypatch.setattr(fitted_references, "MOST_ATOMS", 8)


def planned(tmp_path, **content):
    campaign = Campaign.from_file(write(tmp_path, {**GOOD, **content}))
    return campaign, make_plan(campaign, look_at_all(campaign, lambda _: None))


@pytest.mark.parametrize(
    "content",
    [
        {"selection": {"top_k": 6, "controls": 2}, "enumeration": {"chunk_size": 2}},
        {
            "selection": {"top_k": 4, "controls": 1},
            "relaxation": {"maker": "tests.flows.makers.DoubleMaker", "relax_elements": False},
        },
        {"relaxation": None},
    ],
)
def test_planned_jobs_are_those_of_the_run(tmp_path, content):
    """Also the jobs that other jobs make: chunks, waves, both relaxations of a flow."""
    campaign, plan = planned(tmp_path, **{"relaxation": {"maker": MAKER}, **content})
    CampaignRun(campaign, tmp_path / "run").run(lambda *_: None)
    with find_started(campaign.name, folder=tmp_path / "run") as started:
        status = started.status()
    assert plan.jobs == {stage: states["done"] for stage, states in status.counts.items()}
    assert status.totals["done"] == status.totals.total()


def test_jobs_of_a_potential_and_of_rounds(tmp_path):
    relaxation = {"maker": MAKER, "element_energies": dict.fromkeys(["Ca", "Mn", "O", "Sr"], -1.0)}
    potential = {"maker": MAKER, "batch": 2, "select": {"top_k": 2}}
    selection = {"top_k": 5, "controls": 1}
    _, plan = planned(tmp_path, relaxation=relaxation, potential=potential, selection=selection)
    assert (plan.selected, plan.relaxed) == (5, 2)
    assert plan.jobs["potential"] == 1 + 3
    assert (plan.relaxations, plan.elements) == ({"unrelaxed": 1, "translated": 1, "translated_mlip": 2}, 0)
    assert plan.jobs["relax"] == 4
    adapted = planned(tmp_path, relaxation=relaxation, potential={**potential, "adapt": 10}, selection=selection)[1]
    # The space has fewer candidates than the sample, and known compounds are relaxed again.
    expected = {"potential": 1 + (adapted.survey.counts.unique + 1) // 2, "select": 1, "translate": 1, "learn": 1}
    assert Counter(adapted.jobs) - Counter(plan.jobs) == expected
    _, plan = planned(tmp_path, relaxation=relaxation, rounds={"number": 2, "batch": 3}, selection=selection)
    assert (plan.relaxed, plan.jobs["learn"], plan.jobs["translate"]) == (5 + 2 * 3, 2, 3)
    assert plan.relaxations == {"unrelaxed": 3, "translated": 11}


def test_plan_command_writes_nothing(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, {**GOOD, "selection": {"top_k": 2}, "relaxation": {"maker": MAKER, "relax_elements": False}})
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = run("plan", file)
    assert code == 0
    counts = look_quickly(Campaign.from_file(file)).counts
    numbers = (counts.templates, counts.enumerated, counts.not_charge_balanced, counts.duplicates, counts.unique)
    assert "all {} {} {} {} {}".format(*numbers) in out
    assert "relax 4 2 candidates: 2 from unrelaxed, 2 from translated" in out
    assert re.search(r"Translation: [\d.]+ ms each, measured here on \d+; \d+ min \d+ s for all", out)
    assert "give --hours-per-relaxation or --earlier to estimate core-hours" in out
    assert "Nothing is missing." in out
    assert "at most 4, 12.0 core-hours at 3 each" in run("plan", file, "--hours-per-relaxation", 3)[1]
    assert run("screen", file, "--dry-run")[0] == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_plan_without_candidates_says_why(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    emptied = {
        **GOOD,
        "substitutions": [{"kind": "species", "pools": {"Ca": ["Ti"], "Ti": ["Ti"]}}],
        "relaxation": None,
    }
    code, _, err = run("plan", write(tmp_path, emptied))
    assert code == 2
    assert "they have the new elements already" in err


def test_core_hours_of_earlier_campaigns_with_the_same_maker(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, {**GOOD, "relaxation": {"maker": MAKER, "relax_elements": False}})
    CampaignRun(Campaign.from_file(file), tmp_path / "runs/first").run(lambda *_: None)
    code, out, _ = run("plan", file)
    assert code == 0
    assert re.search(r"at most 4, about [\de.-]+ core-hours by 4 relaxations of mine", out)
    shutil.copytree("runs/first", "runs/damaged")
    (tmp_path / "runs/damaged/jobs/01234567-0123-0123-0123-0123456789ab-1").mkdir()
    assert "by 4 relaxations of mine" in run("plan", file)[1]
    assert "campaign.sqlite: has lost 1 jobs" in run("plan", file, "--earlier", "runs/damaged")[2]
    write(tmp_path, {**GOOD, "relaxation": {"maker": "tests.flows.makers.LoggingRelaxMaker"}})
    assert "to estimate core-hours" in run("plan", file)[1]
    code, _, err = run("plan", file, "--earlier", "runs/first")
    assert code == 2
    assert f"runs/first: relaxes with '{MAKER}', not with 'tests.flows.makers.LoggingRelaxMaker'" in err
    assert "runs/none: no campaign was run in this folder" in run("plan", file, "--earlier", "runs/none")[2]


def test_planned_against_spent_core_hours(run, tmp_path, monkeypatch, few_compounds):
    """The plan is from the campaign beside, at the start; elements and known compounds are spent too."""
    monkeypatch.chdir(tmp_path)
    potential = {"maker": MAKER, "select": {"top_k": 1}}
    content = {**GOOD, "potential": potential, "relaxation": {"maker": MAKER}}
    told = {}
    for name in ("first", "second"):
        assert run("screen", write(tmp_path, {**content, "name": name}))[0] == 0
        code, out, _ = run("status", name)
        assert code == 0
        told[name] = out.split("Core-hours")[1]
    # No campaign beside the first one: nothing was planned, so that there is no column for it.
    assert "planned" not in told["first"]
    alone = dict(re.findall(r"(translate|potential|relax) (\S+)", told["first"]))
    assert all(float(spent) > 0 for spent in alone.values())
    rows = {
        stage: numbers
        for stage, *numbers in re.findall(r"(translate|potential|relax) (\S+) (\S+) (\S+)", told["second"])
    }
    assert list(alone) == list(rows) == ["translate", "potential", "relax"]
    for stage, (hours, spent, share) in rows.items():
        assert float(hours) > 0, stage
        assert float(spent) > 0, stage
        assert share.endswith("%")
    page = (tmp_path / "runs/second/report.html").read_text()
    hours, spent, share = rows["relax"]
    assert f'<tr><td>relax<td class="number">{hours}<td class="number">{spent}<td class="number">{share}</tr>' in page
    _, plan = planned(tmp_path, **content)
    with find_started("second", folder=tmp_path / "runs/second") as started:
        assert len(SpentHours.of(started.results).potential) == plan.units["potential"] > plan.selected


def test_plan_tells_what_is_missing(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {"maker": "DoubleRelaxMaker", "vasp": {"run_vasp_kwargs": {"vasp_cmd": "no_vasp_here"}}}
    monkeypatch.setattr("cryslator_flows.engines.vasp_checks.missing_potcars", lambda *_: {"Ti of PBE": "no folder"})
    file = write(tmp_path, {**TITANATES, "relaxation": settings})
    code, out, err = run("plan", file)
    assert code == 2
    # Two jobs of each relaxation, and of each of the elements Ca, O, Sr, Ti.
    assert "relax 16 2 candidates: 2 from unrelaxed, 2 from translated; 4 elements" in out
    assert err.count("Error:") == 2
    assert "no program 'no_vasp_here'" in err
    assert "Ti of PBE" in err
    assert run("screen", file)[0] == 2
    assert not (tmp_path / "runs").exists()


def test_screen_prints_the_plan_in_three_lines_once(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, {**GOOD, "relaxation": {"maker": MAKER}})
    lines = "Relaxations: at most 2 candidates (2 unrelaxed, 2 translated)"
    assert [lines in run("screen", file)[1] for _ in range(2)] == [True, False]


def test_inputs_of_vasp_as_its_jobs_write_them(run, fake_vasp, tmp_path, monkeypatch):
    """Two relaxations, of which the second continues from the first."""
    monkeypatch.chdir(tmp_path)
    vasp = {"input_set": {"user_incar_settings": {"NCORE": 4}}}
    nothing = {**GOOD, "name": "nothing", "selection": {"max_formation_energy": -100.0}}
    CampaignRun(Campaign.from_file(file := write(tmp_path, nothing)), tmp_path / "runs/nothing").run(lambda *_: None)
    code, _, err = run("inputs", file, "-o", "inputs")
    assert (code, "nothing is left to relax" in err, (tmp_path / "inputs").exists()) == (2, True, False)
    content = {
        **TITANATES,
        "selection": {"top_k": 2, "controls": 1},
        "relaxation": {"maker": "DoubleRelaxMaker", "vasp": vasp},
    }
    file = write(tmp_path, content)
    code, _, err = run("inputs", file, "-o", "inputs")
    assert code == 2
    assert "campaign folder" in err
    stop_before_relaxations(file, tmp_path)
    code, out, _ = run("inputs", file, "-o", "inputs")
    assert (code, "Written: inputs (folders of candidates and starts: 3)" in out) == (0, True)
    control = next(path.parent for path in (tmp_path / "inputs").glob("*/unrelaxed"))
    starts = {path.name: path for path in control.iterdir()}
    assert set(starts) == {"unrelaxed", "translated"}
    for path in starts.values():
        first, second = sorted(path.iterdir())
        assert {file.name for file in first.iterdir()} == {"INCAR", "KPOINTS", "POSCAR", "POTCAR.spec"}
        # Its POSCAR is the end of the first job.
        assert {file.name for file in second.iterdir()} == {"INCAR", "KPOINTS", "POTCAR.spec"}
        assert Incar.from_file(first / "INCAR")["NCORE"] == 4
        assert "Ti_sv" in (first / "POTCAR.spec").read_text()
    one, other = (sorted(path.iterdir())[0] for path in starts.values())
    assert Kpoints.from_file(one / "KPOINTS").kpts == Kpoints.from_file(other / "KPOINTS").kpts
    assert Structure.from_file(one / "POSCAR") != Structure.from_file(other / "POSCAR")
    code, _, err = run("inputs", file, "-o", "inputs")
    assert (code, "inputs: is not empty; give a new folder" in err) == (2, True)
    assert run("inputs", file, "-o", "best", "--top", 1)[0] == 0
    assert len(list((tmp_path / "best").iterdir())) == 1


class StoppedError(Exception):
    pass


def stop_before_relaxations(file, tmp_path):
    def report(happening, job):
        if happening == "started" and job.metadata["stage"] == "relax":
            raise StoppedError

    with pytest.raises(StoppedError):
        CampaignRun(Campaign.from_file(file), tmp_path / "runs/mine").run(report)


def test_inputs_of_other_engines_and_of_a_potential(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fitted_references, "PER_ELEMENT", 2)
    monkeypatch.setattr(fitted_references, "MOST_ATOMS", 8)
    relaxation = {"maker": MAKER, "kwargs": {"sigma": 2.0}}
    potential = {"maker": MAKER, "select": {"top_k": 2}}
    file = write(
        tmp_path, {**GOOD, "potential": potential, "selection": {"top_k": 3, "controls": 0}, "relaxation": relaxation}
    )
    stop_before_relaxations(file, tmp_path)
    assert run("inputs", file, "-o", "inputs")[0] == 0
    folders = list((tmp_path / "inputs").glob("*/translated_mlip"))
    assert len(folders) == 2
    with find_started("mine") as started:
        relaxed = {item.name: item.structure for batch in started.results.potential_batches() for item in batch.relaxed}
    for folder in folders:
        assert json.loads((folder / "maker.json").read_text())["sigma"] == 2.0
        written = Structure.from_file(folder / "structure.cif")
        assert written.matches(relaxed[folder.parent.name.rpartition("-")[2]], scale=False)


def test_inputs_with_a_potential_of_a_module_beside_the_file(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = (
        f"from {MAKER.rpartition('.')[0]} import {(name := MAKER.rpartition('.')[2])}\nclass Own({name}):\n    pass\n"
    )
    (tmp_path / "own_potential_of_a_test.py").write_text(lines)
    relaxation = {"maker": MAKER, "relax_elements": False, "starts": ["unrelaxed", "mlip"]}
    file = write(tmp_path, {**GOOD, "relaxation": {**relaxation, "mlip": {"maker": "own_potential_of_a_test.Own"}}})
    CampaignRun(Campaign.from_file(file), tmp_path / "runs/mine").run(lambda *_: None)
    # As in another process, which has read no campaign file yet.
    monkeypatch.delitem(sys.modules, "own_potential_of_a_test")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path)])
    assert "own_potential_of_a_test" in run("inputs", "mine", "-o", "none")[2]
    assert run("inputs", file, "-o", "inputs")[0] == 0


def test_inputs_of_a_campaign_that_relaxes_nothing(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, {**GOOD, "relaxation": None})
    CampaignRun(Campaign.from_file(file), tmp_path / "runs/mine").run(lambda *_: None)
    code, _, err = run("inputs", "mine", "-o", "inputs")
    assert (code, "relaxes nothing; add the key `relaxation`" in err) == (2, True)
    assert not (tmp_path / "inputs").exists()
    with CampaignFolder("runs/mine").opened() as folder:
        folder.restate('{"name": "mine", "key_of_another_version": 1}')
    code, _, err = run("inputs", "mine", "-o", "inputs")
    assert (code, "not started from a campaign file of this version" in err) == (2, True)


def test_vasp_fetches_phases_with_the_elements(tmp_path):
    relaxations = [{"maker": "DoubleRelaxMaker", "relax_elements": value} for value in (True, False)]
    (_, fetching), (_, plain) = [planned(tmp_path, relaxation=relaxation) for relaxation in relaxations]
    assert fetching.elements == 4
    assert fetching.jobs["select"] == plain.jobs["select"] + 1
