"""Campaigns that stop, killed or interrupted: the same command continues where they were."""

import json
import shutil
import signal
import subprocess
from collections import Counter

import pytest

from cryslator_flows.errors import StoreError
from cryslator_flows.running.folder_status import FolderWatch
from cryslator_flows.running.local.folder import CampaignFolder
from cryslator_flows.running.local.run import CampaignRun
from tests.campaign.test_file import GOOD, write
from tests.running.test_run import MAKERS, campaign, run_counting


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", [1, 4])
def test_killed_campaign_goes_on_where_it_was(screen, tmp_path, kill_at):
    """kill -9 in the middle of a relaxation: that one is done again, after all others, and nothing else is."""
    log = tmp_path / "log"
    relaxation = {
        "relax_elements": False,
        "maker": f"{MAKERS}.LoggingRelaxMaker",
        "kwargs": {"log": str(log), "kill_at": kill_at},
    }
    file = write(tmp_path, {**GOOD, "selection": {"top_k": 3}, "relaxation": relaxation})
    command = [*screen, str(file), "-o", str(tmp_path / "run")]
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == -signal.SIGKILL
    before = log.read_text().splitlines()
    assert len(before) == kill_at
    second = subprocess.run(command, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    after = log.read_text().splitlines()
    assert len(after) == 6 + 1
    assert after[-1] == before[-1]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["relaxed"] == 3


@pytest.mark.slow
def test_a_relaxation_that_kills_its_process_is_one_failed_candidate(screen, tmp_path):
    """It is tried once more, after all others, in another process: the second run is the last."""
    log = tmp_path / "log"
    relaxation = {
        "relax_elements": False,
        "maker": f"{MAKERS}.KillingRelaxMaker",
        "kwargs": {"log": str(log), "kills": "SrMnO2"},
    }
    selection = {"top_k": 3, "controls": 0}
    file = write(tmp_path, {**GOOD, "selection": selection, "relaxation": relaxation})
    command = [*screen, str(file), "-o", str(tmp_path / "run")]
    codes, compared = [], []
    for _ in range(2):
        codes.append(subprocess.run(command, capture_output=True).returncode)
        with CampaignFolder(tmp_path / "run", read_only=True).opened() as folder:
            compared.append({item.reduced_formula for item in folder.results().comparisons()})
            failed = FolderWatch(folder).look().failed
    assert codes == [-signal.SIGKILL, 0]
    lines = log.read_text().split()
    assert Counter(lines) == {"CaMnO2": 1, "SrMnO3": 1, "SrMnO2": 2}
    assert lines[-1] == "SrMnO2"
    assert compared[0] == {*lines[: lines.index("SrMnO2")]}
    assert compared[1] == {"CaMnO2", "SrMnO3", "SrMnO2"}
    assert [job.reason.partition(":")[0] for job in failed] == ["killed"]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["selected"], summary["relaxed"], summary["outcomes"]["translated"]["failed"]) == (3, 2, 1)


class StoppedError(Exception):
    pass


@pytest.mark.parametrize(("stage", "number"), [("translate", 1), ("relax", 4), ("compare", 2)])
def test_what_is_left_is_made_again_from_the_campaign_file(tmp_path, stage, number):
    """Each job runs once, whatever was running when the campaign stopped, and the outcome is the same."""
    made = campaign(tmp_path, "LoggingRelaxMaker", log=str(tmp_path / "log"))
    done, started = Counter(), Counter()

    def stop(happening, job):
        done.update([job.name] if happening == "done" else [])
        started.update([job.metadata["stage"]] if happening == "started" else [])
        if started[stage] == number:
            raise StoppedError

    with pytest.raises(StoppedError):
        CampaignRun(made, tmp_path / "run").run(stop)
    before = done.copy()
    again = Counter()
    summary = CampaignRun(made, tmp_path / "run").run(
        lambda happening, job: (done.update([job.name] if happening == "done" else []), again.update([happening]))
    )
    assert again["reused"] == before.total() > 0
    assert again["done"] == again["queued"] - again["reused"]
    assert (again["failed"], done["enumerate"], summary.relaxed) == (0, 1, 3)
    assert len((tmp_path / "log").read_text().splitlines()) == 6


def stopped(tmp_path, stage="relax"):
    """A campaign that stopped as its first job of a stage started, and its folder."""
    made = campaign(tmp_path, "PairPotentialRelaxMaker")

    def stop(happening, job):
        if happening == "started" and job.metadata["stage"] == stage:
            raise StoppedError

    run = CampaignRun(made, tmp_path / "run")
    with pytest.raises(StoppedError):
        run.run(stop)
    return made, run.folder


def test_journal_holds_data_and_another_flow_in_it_is_refused(tmp_path):
    made, folder = stopped(tmp_path)
    with folder.opened():
        rows = list(folder.journal.query())
        assert "@callable" not in json.dumps(rows)
        assert "@module" not in json.dumps(rows)
        (wave,) = [row for row in rows if row.get("flows") and row["flows"][0][0]["name"] == "relax wave"]
        wave["flows"][0][-2]["name"] = "something else"
        folder.journal.update(wave, key="entry")
    with pytest.raises(StoreError, match="differs from the job that ran here before; undo the change") as caught:
        run_counting(CampaignRun(made, tmp_path / "run"))
    assert str(folder.path) in str(caught.value)


def test_journal_of_another_version_is_refused(tmp_path):
    made, folder = stopped(tmp_path)
    with folder.opened():
        folder.journal.update({"entry": "flow", "flow": "eJwLz0g"}, key="entry")
    with pytest.raises(StoreError, match="is not a journal of this version of cryslator-flows"):
        run_counting(CampaignRun(made, tmp_path / "run"))


def test_log_of_the_store_that_was_removed_is_missed(tmp_path, run):
    """A killed process leaves what it stored last in a file beside the store."""
    kept = tmp_path / "kept"
    made = campaign(tmp_path, "PairPotentialRelaxMaker")

    def copy(happening, job):
        if happening == "started" and job.metadata["stage"] == "relax" and not kept.exists():
            shutil.copytree(tmp_path / "run", kept)

    CampaignRun(made, tmp_path / "run").run(copy)
    code, out, _ = run("status", "mine", "--folder", kept)
    assert (code, "Stopped: not finished" in out) == (0, True)
    (kept / "campaign.sqlite-wal").unlink()
    code, _, err = run("status", "mine", "--folder", kept)
    assert code == 2
    assert "campaign.sqlite: has lost " in err
    assert "put back campaign.sqlite-wal" in err
    with pytest.raises(StoreError, match="has lost"):
        run_counting(CampaignRun(made, kept))


def test_folder_that_is_deleted_while_it_runs_is_noticed(tmp_path):
    names = []

    def delete(happening, job):
        if happening == "started" and job.metadata["stage"] == "relax":
            names.append(job.name)
            shutil.rmtree(tmp_path / "run")

    with pytest.raises(StoreError, match=r"campaign.sqlite: was removed or replaced while it was in use"):
        CampaignRun(campaign(tmp_path, "PairPotentialRelaxMaker"), tmp_path / "run").run(delete)
    assert len(names) == 1


@pytest.mark.slow
def test_interrupted_campaign_says_how_to_go_on(screen, tmp_path):
    log = tmp_path / "log"
    relaxation = {"relax_elements": False, "maker": f"{MAKERS}.LoggingRelaxMaker", "kwargs": {"log": str(log)}}
    file = write(tmp_path, {**GOOD, "selection": {"top_k": 16}, "relaxation": relaxation})
    process = subprocess.Popen(
        [*screen, str(file), "-o", str(tmp_path / "run")],
        stderr=subprocess.PIPE, text=True,
        # Whatever runs the tests in the background may have it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    while not log.exists() and process.poll() is None:
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "Run the same command to continue from here." in errors
    assert "Traceback" not in errors
