"""Whole campaigns through jobflow-remote: submitted, run by its runner on several workers, looked at, fixed."""

import csv
import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress

import pytest
from pymatgen.core import Structure

from cryslator_flows.api import Campaign
from cryslator_flows.cli import campaigns as cli_campaigns
from cryslator_flows.documents.relaxations import RelaxationComparison
from cryslator_flows.documents.stages import STAGES
from cryslator_flows.errors import CampaignError
from cryslator_flows.results.results import CampaignResults, campaign_labels, stage_rows
from cryslator_flows.running.local.run import CampaignRun
from cryslator_flows.running.remote import project as remote
from cryslator_flows.running.remote import submit
from cryslator_flows.running.remote.project import open_project
from cryslator_flows.running.status import remote_status
from tests.campaign.test_file import GOOD, write
from tests.remote.project import NAME
from tests.support.waiting import wait_for
from tests.support.warm import python_path

pytestmark = pytest.mark.slow


def campaign_file(folder, name, fails_with="", maker="MendableRelaxMaker", chunk_size=3, **selection):
    """A campaign of two perovskites at most, whose relaxations fail for one element until a file is there."""
    (folder / name).mkdir()
    relaxation = {
        "relax_elements": False,
        "maker": f"tests.remote.makers.{maker}",
        "kwargs": {"fails_with": fails_with, "needs": str(folder / name / "fixed")},
    }
    selection = {"per_composition": 1, "top_k": 2, **selection}
    content = {**GOOD, "name": name, "selection": selection, "relaxation": relaxation}
    return write(folder / name, {**content, "enumeration": {"chunk_size": chunk_size}})


def places(project, label):
    """For each stage the workers that its jobs ran on."""
    found = {}
    for job in project.jobs():
        if job.metadata["campaign"] == label:
            found.setdefault(job.metadata["stage"], set()).add(job.worker)
    return found


def test_two_campaigns_at_once_from_submission_to_report(run, jfr_project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = campaign_file(tmp_path, "one")
    second = campaign_file(tmp_path, "two", top_k=1, controls=0)
    options = "--worker", "default=local", "--worker", "translate=gpu", "--worker", "relax=batch"
    assert run("submit", first, *options)[0] == 0
    assert run("submit", second, "--worker", "default=gpu")[0] == 0
    jfr_project.run(900)
    here = {stage: {"local"} for stage in ("enumerate", "select", "compare", "summarize")}
    assert places(jfr_project, "one") == {**here, "translate": {"gpu"}, "relax": {"batch"}}
    assert places(jfr_project, "two") == {stage: {"gpu"} for stage in STAGES if stage not in ("learn", "potential")}

    # What each shows is what it shows when it runs here by itself, with nothing of the other in it.
    project = open_project(NAME)
    assert campaign_labels(project.job_store) == ["one", "two"]
    for file, name, n_relaxed in ((first, "one", 2), (second, "two", 1)):
        expected = CampaignRun(Campaign.from_file(file), tmp_path / "here" / name).run(lambda *_: None)
        status = remote_status(project, name)
        assert status.totals["done"] == status.totals.total() > 10
        results = CampaignResults(project.job_store, name)
        comparisons = results.comparisons()
        assert {item.campaign for item in comparisons} == {name}
        assert len(comparisons) == n_relaxed
        summary = results.current_summary(comparisons)
        assert summary == results.stored_summary()
        timeless = {"translation_seconds": None}
        assert summary.model_copy(update=timeless) == expected.model_copy(update=timeless)

    code, out, err = run("report", "one", "--project", NAME)
    assert (code, err) == (0, "")
    assert "Funnel of one" in out
    files = {path.name for path in (tmp_path / "runs/one").iterdir()}
    assert {"summary.json", "candidates.csv", "relaxed"} <= files
    with (tmp_path / "runs/one/candidates.csv").open() as file:
        rows = list(csv.DictReader(file))
    energies = [float(row["formation_energy_per_atom"]) for row in rows]
    assert len(rows) == expected.translated > 3  # of one chunk
    assert energies == sorted(energies)
    assert json.loads((tmp_path / "runs/one/summary.json").read_text())["relaxed"] == 2

    # The same through jobflow-remote's own command line.
    assert "cryslator: cryslator_flows.cli.jf_plugin" in jfr_project.jf("plugin", "list")
    assert "Jobs of two" in jfr_project.jf("cryslator", "status", "two")
    assert "Funnel of two" in jfr_project.jf("cryslator", "report", "two", "--folder", str(tmp_path / "reported"))
    assert "<h1>two</h1>" in (tmp_path / "reported/report.html").read_text()
    assert (tmp_path / "reported/summary.json").exists()
    jfr_project.jf("cryslator", "export", "two", str(tmp_path / "exported"))
    lines = (tmp_path / "exported/comparisons.jsonl").read_text().splitlines()
    exported = [RelaxationComparison.model_validate_json(line) for line in lines]
    assert len(exported) == len(list((tmp_path / "exported/relaxed").glob("*.cif"))) == 1
    assert all(isinstance(item.relaxations[0].structure, Structure) for item in exported)
    assert (tmp_path / "exported/candidates.csv").read_bytes() == (tmp_path / "reported/candidates.csv").read_bytes()


WATCH = """
import sys, time
from cryslator_flows.cli import main as cli
from cryslator_flows.cli import campaigns as cli_campaigns
cli_campaigns.sleep = lambda seconds: time.sleep(1)  # s, where 10 are too long to see much of so short a campaign
sys.argv = ["cryslator", "status", "one", "--project", sys.argv[1], "--watch"]
cli.main()
"""


def watch():
    """What `cryslator status --watch` shows in a terminal until it ends, look by look."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": python_path(), "TERM": "xterm", "COLUMNS": "200", "LINES": "60"}
    with subprocess.Popen([sys.executable, "-c", WATCH, NAME], stdout=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        # Linux has an error instead of an end.
        with suppress(OSError):
            while piece := os.read(ours, 10_000):
                shown += piece
    os.close(ours)
    assert process.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "")
    return re.split(r"(?=Jobs of one)", text)[1:]


def shown_jobs(look):
    """The table of a look: for each stage the jobs that wait, are ready, run, are done, have failed."""
    rows = re.findall(rf"^ *({'|'.join(STAGES)}) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) *$", look, flags=re.M)
    return {stage: tuple(map(int, numbers)) for stage, *numbers in rows}


def translated_candidates(label):
    rows = stage_rows(open_project(NAME).job_store, label).get(label, [])
    return sum(row["output"]["stats"]["n_translated"] for row in rows if row["metadata"]["stage"] == "translate")


def test_watching_a_campaign_while_the_runner_runs_it(run, jfr_project, tmp_path):
    """Then the campaign is submitted again, and both have results."""
    file = campaign_file(tmp_path, "one", fails_with="Mn", chunk_size=100, top_k=1)
    assert run("submit", file)[0] == 0
    jfr_project.start_runner("--single")
    looks = watch()
    jobs = [shown_jobs(look) for look in looks]
    assert {"enumerate", "select", "summarize"} <= set(jobs[0])
    ended = [sum(row[3] + row[4] for row in each.values()) for each in jobs]
    assert ended == sorted(ended)
    assert len(set(ended)) > 3
    assert any(row[2] for each in jobs for row in each.values())
    begins = [
        next(number for number, each in enumerate(jobs) if sum(each.get(name, ())[3:]))
        for name in STAGES
        if name not in ("learn", "potential")
    ]
    assert begins == sorted(begins)
    reason = f"RuntimeError: {tmp_path / 'one/fixed'} is missing"
    assert reason in next(look for look, each in zip(looks, jobs, strict=True) if "relax" in each and each["relax"][4])
    assert all(row[:3] == (0, 0, 0) for row in jobs[-1].values())
    assert jobs[-1]["relax"] == (0, 0, 0, 0, 2)
    assert re.search(r"Rate while watching: (?!0\.0)\d+\.\d jobs per minute", looks[-1])
    assert f"To run these again:\n  jf -p {NAME} job set-state PAUSED" in looks[-1]

    campaign = Campaign.from_file(file)
    first = campaign.results()
    assert (first.summary.campaign, first.funnel["relaxed"]) == ("one", 0)
    assert first.relaxations["error"].tolist() == ["a relaxation job failed"] * 2
    assert run("submit", file, "--again")[0] == 0
    wait_for(lambda: translated_candidates("one-2"), 300)
    second = campaign.results(project=NAME, name="one-2")
    assert second.summary.campaign == "one-2"
    assert first.candidates.index.tolist() == second.candidates.index.tolist()
    with pytest.raises(CampaignError, match=r"campaign 'one-3': has no results yet; did you mean 'one-2'\?"):
        campaign.results(project=NAME, name="one-3")


def test_watching_ends_with_the_database(run, jfr_project, killable_mongo, tmp_path, monkeypatch):
    assert run("submit", campaign_file(tmp_path, "one"))[0] == 0
    monkeypatch.setattr(cli_campaigns, "sleep", lambda seconds: killable_mongo.kill())
    code, out, err = run("status", "one", "--project", NAME, "--watch")
    killable_mongo.start()
    assert (code, "enumerate 0 1 0 0 0" in out) == (2, True)
    assert f"Error: project {NAME!r}: its database does not answer any more (" in err
    assert "Traceback" not in err
    assert "enumerate 0 1 0 0 0" in run("status", "one", "--project", NAME)[1]


def outcomes(label):
    results = CampaignResults(open_project(NAME).job_store, label)
    summary = results.current_summary(results.comparisons())
    return {outcome: number for outcome, number in summary.outcomes["translated"].items() if number}


def follow(project, commands):
    """Give the commands that `cryslator status` prints."""
    for command in commands:
        words = command.split()
        assert words[:3] == ["jf", "-p", NAME]
        project.jf(*words[1:])


def test_failed_relaxations_run_again_with_the_commands_that_status_prints(run, jfr_project, tmp_path):
    """The comparison has recorded the failure before."""
    file = campaign_file(tmp_path, "one", fails_with="Mn", top_k=3)
    assert run("submit", file)[0] == 0
    jfr_project.run(900)
    assert outcomes("one") == {"failed": 3}
    code, out, _ = run("status", "one", "--project", NAME)
    assert code == 0
    assert "is missing" in out
    status = remote_status(open_project(NAME), "one")
    assert {job.reason for job in status.failed} == {f"RuntimeError: {tmp_path / 'one/fixed'} is missing"}
    assert (status.totals["failed"], status.counts["relax"]["failed"], len(status.failed)) == (6, 6, 6)
    reason = status.failed[0].reason
    assert status.stops == [f"stage relax: 6 jobs failed for one reason: {reason}; fix it"]
    assert "Stage relax: 6 jobs failed for one reason" in out
    assert [command.split()[4] for command in status.reruns] == ["set-state", "rerun"]
    (tmp_path / "one/fixed").touch()
    follow(jfr_project, status.reruns)
    assert remote_status(open_project(NAME), "one").counts["relax"]["ready"] == 6
    jfr_project.run(900)
    assert remote_status(open_project(NAME), "one").totals["failed"] == 0
    assert sum(outcomes("one").values()) == 3
    assert remote_status(open_project(NAME), "one").stops == []
    assert "failed" not in outcomes("one")


def test_a_relaxation_whose_first_of_two_jobs_failed(run, jfr_project, tmp_path):
    """The second fails too, and the campaign goes on."""
    file = campaign_file(tmp_path, "one", fails_with="Mn", maker="MendableDoubleMaker", top_k=1)
    assert run("submit", file)[0] == 0
    jfr_project.run(900)
    status = remote_status(open_project(NAME), "one")
    assert status.counts["relax"] == {"failed": 4}
    assert status.counts["summarize"] == {"done": 1}
    assert sum("the job before this one failed" in job.reason for job in status.failed) == 2
    assert status.skips == []
    assert outcomes("one") == {"failed": 1}

    (tmp_path / "one/fixed").touch()
    follow(jfr_project, status.reruns)
    jfr_project.run(900)
    status = remote_status(open_project(NAME), "one")
    assert (status.totals["failed"], status.unfinished) == (0, 0)
    assert "failed" not in outcomes("one")


def test_a_relaxation_that_takes_from_two_jobs_of_which_one_failed(run, jfr_project, tmp_path):
    """It might run with what the other left: it holds the campaign up until it is given up, as `status` says."""
    file = campaign_file(tmp_path, "one", fails_with="Mn", maker="MendableTripleMaker", top_k=1)
    assert run("submit", file)[0] == 0
    jfr_project.run(900)
    status = remote_status(open_project(NAME), "one")
    assert status.counts["relax"] == {"done": 2, "failed": 2, "waiting": 2}
    assert status.counts["summarize"] == {"waiting": 1}
    _, out, err = run("report", "one", "--project", NAME, "--folder", tmp_path / "reported")
    assert "Not finished: " in err
    assert "selected 1" in out
    follow(jfr_project, status.skips)
    jfr_project.run(900)
    status = remote_status(open_project(NAME), "one")
    assert status.counts["summarize"] == {"done": 1}
    assert status.skips == []
    assert outcomes("one") == {"failed": 1}


def test_what_one_flow_leaves_is_submitted_by_the_same_command(run, jfr_project, tmp_path, monkeypatch):
    for module in (remote, submit):
        monkeypatch.setattr(module, "RELAXED_PER_FLOW", 1)
    file = campaign_file(tmp_path, "one", per_composition=None, top_k=3, controls=0)
    assert run("submit", file)[0] == 0
    assert "already submitted" in run("submit", file)[2]
    jfr_project.run(900)
    _, out, _ = run("status", "one", "--project", NAME)
    assert "2 more candidates are selected" in out
    code, out, err = run("submit", file)
    assert (code, "Submitted 2 more candidates of one" in out) == (0, True), err
    assert jfr_project.controller.count_flows(metadata={"campaign": "one"}) == 3
    assert "already submitted" in run("submit", file)[2]
    jfr_project.run(900)
    results = CampaignResults(open_project(NAME).job_store, "one")
    comparisons = results.comparisons()
    assert len(comparisons) == len({item.candidate_id for item in comparisons}) == 3
    assert results.current_summary(comparisons).relaxed == 3
    assert "more candidates" not in run("status", "one", "--project", NAME)[1]


def test_what_another_campaign_of_the_project_relaxed_is_not_relaxed_again(run, jfr_project, tmp_path):
    selection = {"per_composition": 1, "top_k": 1}
    relaxation = {"maker": "tests.flows.makers.PairPotentialRelaxMaker"}
    for name, top_k in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        content = {**GOOD, "name": name, "selection": {**selection, "top_k": top_k}, "relaxation": relaxation}
        assert run("submit", write(tmp_path / name, content))[0] == 0
        jfr_project.run(900)
    results = CampaignResults(open_project(NAME).job_store, "two")
    assert sorted(str(item.reused_from) for item in results.comparisons()) == ["None", "one"]
    assert results.stored_summary().reused == 1
    jobs = [job.metadata for job in jfr_project.jobs() if job.metadata.get("stage") == "relax"]
    relaxed = [metadata["campaign"] for metadata in jobs if "element" not in metadata]
    assert sorted(relaxed) == ["one", "one", "two", "two"]
    elements = [metadata["element"] for metadata in jobs if "element" in metadata]
    assert len(elements) == len(set(elements)) == len(results.stored_summary().element_energies)
