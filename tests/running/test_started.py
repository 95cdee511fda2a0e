"""Looking at a campaign folder: status, report and export, at any moment of the campaign."""

import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
from collections import Counter

import pandas as pd
import pytest
import yaml
from pymatgen.core import Structure

from cryslator_flows.api import Campaign
from cryslator_flows.documents.relaxations import RelaxationComparison
from cryslator_flows.results.export import write_candidates
from cryslator_flows.running.folder_status import FolderWatch
from cryslator_flows.running.local.folder import CampaignFolder
from cryslator_flows.running.local.run import CampaignRun
from cryslator_flows.screening.hulls import Competition
from tests.campaign.test_file import GOOD, write
from tests.conftest import ROOT
from tests.system.test_sqlite_store import flip

MAKER = "tests.flows.makers.FussyRelaxMaker"


READ = """
import sys
from cryslator_flows.cli.main import main
for line in sys.stdin.read().splitlines():
    sys.argv = ["cryslator", *line.split()]
    try:
        main()
    except SystemExit as end:
        assert not end.code, line
"""


def read_without_writing(folder, lines, restrict):
    """Give commands in a process that `restrict` keeps from writing; a superuser loses the right to write anywhere."""
    result = subprocess.run(
        [sys.executable, "-c", READ], input=lines, cwd=folder, capture_output=True, text=True, preexec_fn=restrict,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result


def obey_permissions():
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE


def write_no_byte():
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


class PowerCutError(Exception):
    pass


def start(tmp_path, monkeypatch, until=None, **kwargs):
    """Run a campaign in runs/mine, until a stage is queued for the first time if one is named."""
    monkeypatch.chdir(tmp_path)
    relaxation = {"relax_elements": False, "maker": MAKER, "kwargs": kwargs}
    file = write(tmp_path, {**GOOD, "selection": {"top_k": 4, "per_composition": 1}, "relaxation": relaxation})
    run = CampaignRun(Campaign.from_file(file), tmp_path / "runs/mine")

    def report(happening, job):
        if happening == "started" and job.metadata["stage"] == until:
            raise PowerCutError

    if until is None:
        run.run(report)
    else:
        with pytest.raises(PowerCutError):
            run.run(report)
    return run.folder


@pytest.mark.slow
def test_folder_that_cannot_be_written_is_read(tmp_path, monkeypatch):
    """A finished one, and one whose process was killed, which leaves two files beside the store."""
    monkeypatch.setattr(sys.modules[__name__], "MAKER", "tests.pairs.makers.LargeAtomsRelaxMaker")
    folder = start(tmp_path, monkeypatch, fails_with="Sr")
    with folder.opened():
        shutil.copytree(folder.path, tmp_path / "killed")
    commands = "status mine -f {0}\nreport mine -f {0}\nreport mine -f {0} -o {1}.html\nexport mine {1} -f {0}\n"
    lines = ["pairs campaign runs/mine -o pairs\n"]
    for place in ("runs/mine", "killed"):
        lines.append(commands.format(place, f"out-{place[:4]}"))
        for path in [tmp_path / place, *(tmp_path / place).rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)

    def times():
        return {path: path.stat().st_mtime for name in ("runs", "killed") for path in (tmp_path / name).rglob("*")}

    before = times()
    result = read_without_writing(tmp_path, "".join(lines), obey_permissions)
    assert times() == before
    assert result.stdout.count("Funnel of mine") == 4
    assert result.stderr.count("write the page elsewhere with --output") == 4
    for name in ("out-runs", "out-kill"):
        assert (tmp_path / f"{name}.html").exists()
        assert len(pd.read_csv(tmp_path / name / "relaxations.csv")) == 8
    assert (tmp_path / "pairs" / "pairs.json").exists()
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)


@pytest.mark.slow
def test_campaign_is_read_where_not_one_byte_can_be_written(tmp_path, monkeypatch):
    folder = start(tmp_path, monkeypatch, fails_with="Sr")
    with folder.opened():
        shutil.copytree(folder.path, tmp_path / "killed")
    lines = "status mine -f runs/mine\nstatus mine -f killed\n"
    result = read_without_writing(tmp_path, lines, write_no_byte)
    assert result.stdout.count("RuntimeError: no Sr here") == 2


def test_flipped_bit_in_a_comparison_is_named(run, tmp_path, monkeypatch):
    folder = start(tmp_path, monkeypatch)
    flip(folder.path / "campaign.sqlite", b'energy_per_atom"')
    for arguments in (["report", "mine"], ["export", "mine", "plain"], ["pairs", "campaign", "mine", "-o", "pairs"]):
        code, _, err = run(*arguments)
        assert code == 2
        assert f"store {folder.path / 'campaign.sqlite'}: cannot be read (the checksum of document" in err


def test_status_of_a_finished_campaign(run, tmp_path, monkeypatch):
    folder = start(tmp_path, monkeypatch, fails_with="Sr")
    with folder.opened():
        status = FolderWatch(folder).look()
    assert status.counts["relax"] == {"done": 4, "failed": 4}
    assert status.counts["compare"] == {"done": 4}
    command = f"cryslator screen CAMPAIGN_FILE --output {folder.path} --rerun-failed"
    assert (status.unfinished, status.reruns) == (0, [command])
    code, out, _ = run("status", "mine")
    assert code == 0
    assert "Jobs of mine, folder" in out
    assert "RuntimeError: no Sr here" in out
    assert out.count("RuntimeError: no Sr here") == 1
    assert "and 1 more" in out
    assert "Finished; 4 jobs failed." in out


@pytest.mark.parametrize(("until", "waiting"), [("translate", {"select", "summarize"}), ("relax", set())])
def test_status_of_a_campaign_that_was_stopped(run, tmp_path, monkeypatch, until, waiting):
    folder = start(tmp_path, monkeypatch, until)
    with folder.opened():
        status = FolderWatch(folder).look()
        assert not folder.is_running
    assert status.counts[until]["waiting"] >= 1
    assert all(status.counts[stage]["waiting"] >= 1 for stage in waiting)
    assert status.counts["enumerate"]["done"] >= 1
    assert status.totals["running"] == status.totals["failed"] == 0
    assert status.go_on == f"cryslator screen CAMPAIGN_FILE --output {folder.path}"


def test_status_while_it_runs(tmp_path, monkeypatch):
    seen = []

    def look(happening, job):
        if happening == "done" and job.metadata["stage"] == "relax":
            seen.append(FolderWatch(run.folder).look())

    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, {**GOOD, "relaxation": {"relax_elements": False, "maker": MAKER}})
    run = CampaignRun(Campaign.from_file(file), tmp_path / "runs/mine")
    run.run(look)
    assert [status.counts["relax"]["done"] for status in seen] == list(range(1, len(seen) + 1))
    assert seen[0].unfinished > seen[-1].unfinished > 0
    assert {status.go_on for status in seen} == {None}


def test_a_watch_sees_the_same_and_reads_each_change_once(tmp_path, monkeypatch):
    """Through failures, a second run of them, and a start from the beginning."""
    monkeypatch.chdir(tmp_path)
    file = write(
        tmp_path, {**GOOD, "relaxation": {"relax_elements": False, "maker": MAKER, "kwargs": {"fails_with": "Sr"}}}
    )
    run = CampaignRun(Campaign.from_file(file), tmp_path / "runs/mine")
    other = CampaignFolder(tmp_path / "runs/mine", read_only=True)
    watch, changes = FolderWatch(other), other.journal.changes
    written, read = Counter(), []

    def counted(since):
        rows = list(changes(since))
        read.extend(rows)
        return rows

    monkeypatch.setattr(other.journal, "changes", counted)

    def look(happening, job):
        written.update([happening])
        other.journal.connect()
        seen, fresh = watch.look(), FolderWatch(run.folder).look()
        for name in ("counts", "rounds", "go_on", "reruns"):
            assert getattr(seen, name) == getattr(fresh, name)
        assert {job.job_id for job in seen.failed} == {job.job_id for job in fresh.failed}

    run.run(look)
    assert written["failed"] > 0
    # The flow, the campaign, what it reuses, and each job as it started and as it ended.
    n_written = 3 + sum(written[happening] for happening in ("started", "done", "failed", "skipped"))
    assert len(read) <= n_written
    run.run(look, rerun_failed=True)
    with run.folder.opened() as folder:
        folder.start(run.campaign.content(), [])
    run.run(look)
    other.journal.close()


def test_status_names_the_command_for_a_failed_stage(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.cif").write_text("nonsense")
    file = write(tmp_path, {**GOOD, "templates": [{"source": "files", "path": "a.cif"}]})
    assert run("screen", file)[0] == 2
    code, out, _ = run("status", file)
    assert code == 0
    assert "a.cif: not readable" in out
    assert f"To run these again: cryslator screen CAMPAIGN_FILE --output {tmp_path / 'runs/mine'}" in out
    assert "Stopped" not in out
    with CampaignFolder(tmp_path / "runs/mine").opened() as folder:
        status = FolderWatch(folder).look()
    assert status.counts == {"enumerate": {"failed": 1}, "select": {"skipped": 1}, "summarize": {"failed": 1}}
    assert (status.is_finished, status.go_on, len(status.failed)) == (True, None, 2)
    assert status.failed[1].reason.startswith("nothing to summarize")


def test_a_campaign_of_which_nothing_converged_fails_and_says_why(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relaxation = {"relax_elements": False, "maker": MAKER, "kwargs": {"fails_with": "O"}}
    file = write(tmp_path, {**GOOD, "relaxation": relaxation})
    code, _, err = run("screen", file)
    assert code == 1
    assert "No relaxation converged" in err
    page = (tmp_path / "runs/mine/report.html").read_text()
    assert "4 jobs failed: RuntimeError: no O here" in page
    assert "No relaxation ended" in page
    assert "test double" not in page.split("<script")[0]


@pytest.mark.parametrize(
    ("template", "substitution", "words"),
    [
        ({"elements": ["Xe"]}, {}, "no template passes the filters of 'templates'"),
        ({}, {"kind": "species", "pools": {"Xe": ["Ca"]}}, "the 'substitutions' apply to none of"),
        ({}, {"kind": "maps", "maps": [{"Ca": "Na", "Ti": "Mg"}]}, "not charge-balanced); widen"),
    ],
)
def test_why_there_is_no_candidate(run, tmp_path, monkeypatch, template, substitution, words):
    monkeypatch.chdir(tmp_path)
    content = dict(GOOD)
    content["templates"] = [{**GOOD["templates"][0], "prototypes": ["AB3C_cP5_221_a_c_b"], **template}]
    content["substitutions"] = [substitution or GOOD["substitutions"][0]]
    code, _, err = run("screen", write(tmp_path, content))
    assert code == 2
    assert words in err


def test_report_of_a_campaign_that_was_stopped_is_that_of_what_is_there(run, tmp_path, monkeypatch):
    start(tmp_path, monkeypatch, "summarize", fails_with="Sr")
    code, out, err = run("report", "mine")
    assert code == 0
    assert "Not finished: 1 jobs wait or run" in err
    assert "failed: RuntimeError: no Sr here" in err
    assert "relaxed 2 converged" in out
    assert "running: 1 job to go" in (tmp_path / "runs/mine/report.html").read_text()
    before = json.loads((tmp_path / "runs/mine/summary.json").read_text())
    folder = start(tmp_path, monkeypatch, fails_with="Sr")
    code, _, err = run("report", "mine", "-o", "mine.html")
    assert (code, "Not finished" in err) == (0, False)
    assert "<h1>mine</h1>" in (tmp_path / "mine.html").read_text()
    code, _, err = run("report", "mine", "-o", "nowhere/mine.html")
    assert (code, "nowhere/mine.html: cannot be written" in err.replace("\n", "")) == (2, True)
    code, _, err = run("report", "mine", "-o", "runs/mine/campaign.sqlite")
    assert (code, "campaign.sqlite: is read by this command" in err) == (2, True)
    assert json.loads((tmp_path / "runs/mine/summary.json").read_text()) == before
    with folder.opened():
        assert folder.results().stored_summary().model_dump(mode="json") == before


def test_energies_of_the_elements_may_be_given_when_the_campaign_has_ended(run, tmp_path, monkeypatch):
    """They change neither the campaign nor its store, only what a report from the campaign file says."""
    start(tmp_path, monkeypatch)
    content = yaml.safe_load((tmp_path / "campaign.yaml").read_text())
    content["relaxation"]["element_energies"] = {"Mn": -1.0, "O": -2.0, "Ca": -3.0, "Sr": -3.0}
    write(tmp_path, content)
    assert run("report", "campaign.yaml", "-o", "given.html")[0] == run("report", "mine", "-o", "without.html")[0] == 0
    assert Campaign.from_file("campaign.yaml").results().relaxed["formation_energy_per_atom"].notna().all()
    words = "energy minus its energies of the elements"
    assert words in (tmp_path / "given.html").read_text()
    assert words not in (tmp_path / "without.html").read_text()
    assert run("screen", "campaign.yaml")[0] == 0
    assert words in (tmp_path / "runs/mine/report.html").read_text()
    calcium = content["relaxation"]["element_energies"].pop("Ca")
    write(tmp_path, content)
    assert run("report", "campaign.yaml", "-o", "some.html")[0] == 0
    assert "more are left out: they have elements without an energy (Ca)" in (tmp_path / "some.html").read_text()
    content["relaxation"]["element_energies"] |= {"Ca": calcium}
    del content["relaxation"]["element_energies"]["O"]
    write(tmp_path, content)
    assert run("report", "campaign.yaml", "-o", "part.html")[0] == 0
    assert "the file lacks O" in (tmp_path / "part.html").read_text()


def test_report_before_enumeration_has_ended(run, tmp_path, monkeypatch):
    start(tmp_path, monkeypatch, "enumerate")
    code, _, err = run("report", "mine")
    assert code == 2
    assert "campaign 'mine': has no results yet" in err


def test_export(run, tmp_path, monkeypatch):
    folder = start(tmp_path, monkeypatch, fails_with="Sr")
    code, out, _ = run("export", "mine", "plain", "--entries", "plain/entries.json")
    assert (code, "entries.json (" in out) == (0, True)
    for file in (
        "relaxations.csv (8)",
        "relaxations.jsonl (8)",
        "comparisons.jsonl (4)",
        "selected (4)",
        "relaxed (2)",
    ):
        assert f"plain/{file}" in out
    lines = (tmp_path / "plain/comparisons.jsonl").read_text().splitlines()
    with folder.opened():
        comparisons = folder.results().comparisons()
        n_translated = folder.results().current_summary(comparisons).translated
    assert [RelaxationComparison.model_validate_json(line) for line in lines] == comparisons
    table, records = pd.read_csv("plain/candidates.csv"), pd.read_json("plain/candidates.jsonl", lines=True)
    assert len(table) == n_translated
    for name in ("candidate_id", "formula", "substitution", "out_of_domain", "selected"):
        assert table[name].tolist() == records[name].tolist()
    energies = "formation_energy_per_atom"
    assert table[energies].tolist() == pytest.approx(records[energies].tolist())
    assert set(table["candidate_id"][table["selected"]]) == {item.candidate_id for item in comparisons}
    relaxations = pd.read_json("plain/relaxations.jsonl", lines=True)
    assert relaxations["start"].tolist() == ["unrelaxed", "translated"] * 4
    files = sorted((tmp_path / "plain/selected").glob("*.cif"))
    assert [path.stem for path in files] == sorted(f"{i.reduced_formula}-{i.candidate_id}" for i in comparisons)
    by_name = {path.stem.split("-")[1]: Structure.from_file(path) for path in files}
    assert all(by_name[i.candidate_id].matches(i.translated_structure, scale=False) for i in comparisons)
    (tmp_path / "file").write_text("")
    code, _, err = run("export", "mine", "file")
    assert code == 2
    assert "file: cannot be written" in err


def test_candidates_come_one_chunk_at_a_time_and_leave_sorted(tmp_path, monkeypatch):
    folder = start(tmp_path, monkeypatch, "select")
    with folder.opened():
        (chunk,) = folder.results().chunks()
    half = chunk.translated.n_candidates // 2
    parts = [chunk.translated.take(range(half, chunk.translated.n_candidates)), chunk.translated.take(range(half))]
    given = (chunk.model_copy(update={"translated": part}) for part in parts)
    assert write_candidates(tmp_path / "split.csv", given, Competition({}), None) == chunk.translated.n_candidates
    write_candidates(tmp_path / "whole.csv", [chunk], Competition({}), None)
    assert (tmp_path / "split.csv").read_text() == (tmp_path / "whole.csv").read_text()


def test_an_output_folder_is_found_by_its_option(run, tmp_path, monkeypatch):
    folder = start(tmp_path, monkeypatch, "translate")
    folder.path.rename(tmp_path / "elsewhere")
    code, out, _ = run("status", "mine", "--folder", "elsewhere")
    assert code == 0
    assert "Jobs of mine" in out
    code, _, err = run("status", "yours", "--folder", "elsewhere")
    assert (code, "elsewhere is the folder of campaign 'mine'; give this name" in err) == (2, True)
    (tmp_path / "runs").mkdir(exist_ok=True)
    (tmp_path / "elsewhere").rename(tmp_path / "runs/mine")
    monkeypatch.setattr("jobflow_remote.SETTINGS.projects_folder", str(tmp_path / "none"))
    code, _, err = run("status", "mime")
    assert (code, "campaign folder" in err, "did you mean 'mine'?" in err) == (2, True, True)
