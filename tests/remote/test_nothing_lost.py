"""A flow is put through jobflow-remote while what it runs on is killed: nothing may be lost, nothing stored twice."""

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pymongo
import pytest
from jobflow import Flow
from jobflow_remote.jobs.runner import Runner
from jobflow_remote.jobs.state import FlowState, JobState

from cryslator_flows.crystals.enumeration import Enumeration
from cryslator_flows.flows.relaxation_comparison import RelaxationComparisonFlowMaker
from cryslator_flows.flows.screening import ScreeningFlowMaker
from cryslator_flows.jobs.enumerate import EnumerateMaker
from cryslator_flows.jobs.relax import RelaxSelectedMaker
from cryslator_flows.jobs.select import SelectMaker
from cryslator_flows.results.results import CampaignResults
from cryslator_flows.screening.cuts import Cuts
from tests.flows.test_screening import SPACES, TEMPLATES
from tests.remote.flows import Gate, add, fan_out, work
from tests.remote.makers import GatedRelaxMaker
from tests.remote.project import RemoteProject
from tests.support.waiting import wait_for
from tests.support.warm import WarmCommands, descendants, kill

UNDER_WAY = (JobState.SUBMITTED, JobState.RUNNING, JobState.BATCH_RUNNING)


@dataclass(frozen=True)
class Case:
    """A flow, the jobs in whose middle something is killed, and what has to be in the store in the end.

    Parameters
    ----------
    make
        Makes the flow, whose victims run side by side and wait at the gate in a folder.
    victims
        Name of those jobs, a pattern.
    check
        Raises an error where the outputs are not as they should be.
    seconds
        How long to wait for each step, on a busy machine.
    """

    make: Callable[[Path], Flow]
    victims: str
    check: Callable[[RemoteProject], None]
    seconds: float = 300


def check_fan_out(project: RemoteProject) -> None:
    outputs = {job.uuid: project.controller.get_job_output(job.uuid, load=True) for job in project.jobs("work")}
    by_number = sorted(outputs.values(), key=lambda output: output["number"])
    assert by_number == [{"number": n, "squares": [n**2] * 10} for n in range(1, len(outputs) + 1)]
    (total,) = project.jobs("add")
    assert project.controller.get_job_output(total.uuid) == sum(output["number"] for output in by_number)
    with pymongo.MongoClient(project.uri) as client:
        assert client[project.database]["data"].count_documents({}) == len(outputs)


def screening(gate: Path) -> Flow:
    """A campaign of two candidates, each relaxed from both starts, in waves of one."""
    relax_maker = GatedRelaxMaker(gate=str(gate))
    comparison_maker = RelaxationComparisonFlowMaker(relax_maker=relax_maker)
    relax = RelaxSelectedMaker(comparison_maker, wave_size=1, known_elements=None)
    maker = ScreeningFlowMaker(
        name="killed",
        enumerate_maker=EnumerateMaker(chunk_size=4),
        select_maker=SelectMaker(cuts=Cuts(per_composition=1, top_k=2), relax_maker=relax),
    )
    return maker.make(TEMPLATES, SPACES)


def check_campaign(project: RemoteProject) -> None:
    """Every candidate is translated once, and every selected one relaxed once from each start."""
    results = CampaignResults(project.controller.jobstore, "killed")
    summary = results.stored_summary()
    assert summary == results.current_summary(results.comparisons())
    translated = [candidate.candidate_id for chunk in results.chunks() for candidate, _ in chunk.rows()]
    expected = [candidate.candidate_id for candidate in Enumeration(TEMPLATES[0].load(), SPACES)]
    assert sorted(translated) == sorted(expected)
    comparisons = results.comparisons()
    assert summary.selected == len({item.candidate_id for item in comparisons}) == len(comparisons) == 2
    assert {item.candidate_id for item in comparisons} < set(translated)
    relaxed = [row["name"] for row in project.controller.jobstore.query({"metadata.stage": "relax"}, ["name"])]
    assert len(relaxed) == len(set(relaxed)) == 4


CASES = {
    "fan-out": Case(lambda gate: fan_out(3, gate), "work", check_fan_out),
    "campaign": Case(screening, "gated relax*", check_campaign),
}


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Where the victims wait."""
    (tmp_path / "gate").mkdir()
    return Gate(tmp_path / "gate")


def assert_nothing_lost(project: RemoteProject) -> None:
    """Every job is completed and its output is in the store, once; there is nothing else in the store."""
    jobs = project.jobs()
    assert {job.state for job in jobs} == {JobState.COMPLETED}, project.report()
    assert {flow.state for flow in project.controller.get_flows_info()} == {FlowState.COMPLETED}, project.report()
    assert sorted(project.outputs()) == sorted((job.uuid, job.index) for job in jobs)


def wait_for_the_middle(project: RemoteProject, case: Case) -> None:
    """Wait until one of the victims is completed while another one runs."""

    def in_the_middle() -> bool:
        return bool(project.jobs(case.victims, JobState.COMPLETED) and project.jobs(case.victims, *UNDER_WAY))

    wait_for(in_the_middle, case.seconds)


@pytest.mark.slow
def test_runner_in_process(jfr_project):
    jfr_project.submit(fan_out(6))
    jfr_project.run()
    assert_nothing_lost(jfr_project)
    check_fan_out(jfr_project)


@pytest.mark.slow
@pytest.mark.parametrize("jfr_binaries", [Path(sys.executable).parent], ids=["installed"])
def test_daemon_and_batch_worker(jfr_project):
    """With the installed ``jf``; all other tests have a forked one."""
    jfr_project.start_runner("--single")
    jfr_project.submit(fan_out(2), worker="batch")
    jfr_project.wait_until_finished()
    assert_nothing_lost(jfr_project)
    check_fan_out(jfr_project)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["campaign"], indirect=True)
def test_runner_is_killed(jfr_project, case, gate):
    jfr_project.start_runner()
    jfr_project.submit(case.make(gate.folder))
    wait_for_the_middle(jfr_project, case)
    jfr_project.kill_runner()
    gate.open()
    jfr_project.unlock()
    jfr_project.start_runner()
    jfr_project.wait_until_finished(case.seconds)
    assert_nothing_lost(jfr_project)
    case.check(jfr_project)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "worker"), [("fan-out", "batch"), ("campaign", "local")], indirect=["case"])
def test_process_of_a_job_is_killed(jfr_project, case, worker, gate):
    gate.close_for_all()
    jfr_project.start_runner("--single")
    jfr_project.submit(case.make(gate.folder), worker)
    running = (JobState.RUNNING, JobState.BATCH_RUNNING)
    job = wait_for(lambda: jfr_project.jobs(case.victims, *running), case.seconds)[-1]
    process = psutil.Process(int(job.remote.process_id))
    kill([process, *descendants(process)])
    gate.open()
    failed = (JobState.FAILED, JobState.REMOTE_ERROR)
    wait_for(lambda: job.uuid in [each.uuid for each in jfr_project.jobs(case.victims, *failed)], case.seconds)
    assert (job.uuid, job.index) not in jfr_project.outputs()
    jfr_project.jf("job", "rerun", "--state", "FAILED", "--state", "REMOTE_ERROR", "--wait", "60")
    jfr_project.wait_until_finished(case.seconds)
    assert_nothing_lost(jfr_project)
    case.check(jfr_project)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["campaign"], indirect=True)
def test_database_is_killed(killable_mongo, jfr_project, case, gate):
    jfr_project.start_runner("--single")
    jfr_project.submit(case.make(gate.folder))
    wait_for_the_middle(jfr_project, case)
    killable_mongo.kill()
    gate.open()
    try:
        wait_for(lambda: "pymongo.errors" in jfr_project.log(), case.seconds)
    finally:
        killable_mongo.start()
    assert len(jfr_project.runner_processes()) > 1
    # The runner would go on by itself, but each of its tasks that failed only two minutes later, and a lock that it
    # could not release would stay.
    jfr_project.unlock()
    jfr_project.start_runner("--single")
    jfr_project.wait_until_finished(case.seconds)
    assert_nothing_lost(jfr_project)
    case.check(jfr_project)


def complete_and_be_killed(project: RemoteProject, warm_commands: WarmCommands, text: str) -> None:
    """Run the first job, and let a runner complete it that is killed right after a command to the database."""
    runner = Runner()
    runner.checkout()
    runner.advance_state([JobState.CHECKED_OUT.value])
    runner.advance_state([JobState.UPLOADED.value])
    wait_for(lambda: runner.check_run_status() or project.jobs("*", JobState.DOWNLOADED), 120)
    runner.cleanup()
    command = project.folder / "complete"
    warm_commands.write(command, "tests.remote.kill_after:complete")
    result = subprocess.run([command, text], capture_output=True, text=True, check=False)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert project.controller.unlock_jobs() == 1
    assert project.controller.unlock_flows() == 1


@pytest.mark.slow
def test_runner_is_killed_before_it_makes_the_children_ready(jfr_project, warm_commands):
    first = work(3)
    jfr_project.submit(Flow([first, add([first.output["number"], 1])]))
    complete_and_be_killed(jfr_project, warm_commands, "'state': 'COMPLETED'")
    with pytest.raises(AssertionError, match=r"work COMPLETED.*\n.*add WAITING"):
        jfr_project.run()
    jfr_project.jf("job", "pause", "--state", "WAITING")
    jfr_project.jf("job", "resume", "--state", "PAUSED")
    jfr_project.run()
    assert_nothing_lost(jfr_project)


@pytest.mark.slow
def test_runner_is_killed_after_it_added_the_jobs_of_a_replace(jfr_project, warm_commands):
    jfr_project.submit(fan_out(2))
    complete_and_be_killed(jfr_project, warm_commands, "'insert': 'jobs'")
    jfr_project.run()
    assert [job.name for job in jfr_project.jobs("*", JobState.REMOTE_ERROR)] == ["plan"]
    jfr_project.jf("job", "set-state", "COMPLETED", "--state", "REMOTE_ERROR")
    assert_nothing_lost(jfr_project)
    check_fan_out(jfr_project)
