"""A jobflow-remote project on this machine, its runner and its database server, as processes that can be killed."""

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import pymongo
import yaml
from jobflow import Flow
from jobflow_remote import JobController, submit_flow
from jobflow_remote.jobs.data import JobInfo
from jobflow_remote.jobs.runner import Runner
from jobflow_remote.jobs.state import FlowState, JobState

from tests.support.waiting import wait_for
from tests.support.warm import descendants, kill, python_path

NAME = "cryslator_test"
# Seconds between two looks of the runner. A look at batches starts a process, and jobs are counted as they come and go.
DELAYS = {"checkout": 0.2, "check_run_status": 0.2, "advance_status": 0.2, "update_batch": 1, "refresh_limited": 2}


class MongoServer:
    """The test server of tests/support/mongo_server in a process of its own."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = 0
        self.start()

    def start(self) -> None:
        """Start, again on the same port where it has run before, with the data that there is."""
        command = [
            sys.executable,
            "-m",
            "tests.support.mongo_server",
            "--port",
            str(self.port),
            "--data",
            str(self.data),
        ]
        environment = os.environ | {"PYTHONPATH": python_path()}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.communicate()


class RemoteProject:
    """A project with the workers ``local``, ``gpu`` and ``batch``, its files in one folder, its data in one database.

    ``local`` runs three jobs at a time, ``gpu`` one, ``batch`` two. Jobs find ``jf`` in ``binaries``. The environment
    has to name the projects folder and the project, see the fixture ``jfr_project``.
    """

    def __init__(self, folder: Path, uri: str, database: str, binaries: Path) -> None:
        self.folder, self.uri, self.database, self.binaries = folder, uri, database, binaries
        # supervisord's socket must have a short path, which pytest's folders need not have.
        self.daemon = Path(tempfile.mkdtemp(prefix="jfr"))
        self.projects = folder / "projects"
        self.projects.mkdir()
        (self.projects / f"{NAME}.yaml").write_text(yaml.safe_dump(self._configuration()))

    def _store(self, collection: str) -> dict[str, Any]:
        store = {"type": "MongoStore", "uri": self.uri, "database": self.database, "collection_name": collection}
        # A server that was killed is given up sooner than after the usual 30 s.
        return store | {"mongoclient_kwargs": {"serverSelectionTimeoutMS": 5000}}

    def _configuration(self) -> dict[str, Any]:
        worker = {
            "type": "local",
            "scheduler_type": "shell",
            "pre_run": f"export PATH='{self.binaries}':$PATH PYTHONPATH='{python_path()}'",
            "timeout_execute": 60,
        }
        batch = {"parallel_jobs": 2, "max_wait": 20, "sleep_time": 0.5}
        batch |= {"jobs_handle_dir": str(self.folder / "handle"), "work_dir": str(self.folder / "batches")}
        return {
            "name": NAME,
            "base_dir": str(self.folder / NAME),
            "daemon_dir": str(self.daemon),
            "log_level": "info",
            "runner": {f"delay_{name}": seconds for name, seconds in DELAYS.items()} | {"delta_retry": [1, 1, 1]},
            "workers": {
                "local": worker | {"work_dir": str(self.folder / "local"), "max_jobs": 3},
                "gpu": worker | {"work_dir": str(self.folder / "gpu"), "max_jobs": 1},
                "batch": worker | {"work_dir": str(self.folder / "batch"), "max_jobs": 1, "batch": batch},
            },
            "queue": {"store": self._store("jobs")},
            "jobstore": {"docs_store": self._store("outputs"), "additional_stores": {"data": self._store("data")}},
        }

    @cached_property
    def controller(self) -> JobController:
        return JobController.from_project_name(NAME)

    def submit(self, flow: Flow, worker: str = "local") -> None:
        submit_flow(flow, worker=worker, project=NAME)

    def jobs(self, name: str = "*", *states: JobState) -> list[JobInfo]:
        """What the queue says of the jobs of this name, a pattern, in one of these states or any; the oldest first."""
        return self.controller.get_jobs_info(name=name, states=list(states) or None, sort=[("created_on", 1)])

    def outputs(self) -> list[tuple[str, int]]:
        """uuid and index of every document in the job store."""
        with pymongo.MongoClient(self.uri) as client:
            return [(document["uuid"], document["index"]) for document in client[self.database]["outputs"].find()]

    def log(self) -> str:
        """What the processes of the runner have written."""
        return (self.folder / NAME / "log" / "runner.log").read_text()

    def jf(self, *arguments: str) -> str:
        """Run the command line of jobflow-remote and return what it prints."""
        result = subprocess.run(["jf", *arguments], capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode == 0, f"jf {arguments}: {result.stdout}{result.stderr}"
        return result.stdout

    def all_finished(self) -> bool:
        """Whether every flow is finished, well or not."""
        finished = {FlowState.COMPLETED, FlowState.FAILED, FlowState.STOPPED}
        return all(flow.state in finished for flow in self.controller.get_flows_info())

    def run(self, seconds: int = 300) -> None:
        """Run the Runner in this process until all flows are finished; an error where they are not by then."""
        runner = Runner(project_name=NAME)
        try:
            runner.run_all_jobs(max_seconds=seconds)
        finally:
            runner.cleanup()
        assert self.all_finished(), self.report()

    def start_runner(self, *options: str) -> None:
        """Start the daemon: supervisord and the processes of the runner, four of them without other options."""
        self.jf("runner", "start", *options)

    def runner_processes(self) -> list[psutil.Process]:
        """supervisord and its children, where it runs."""
        configuration = str(self.daemon / "supervisord.conf")
        found = [each for each in psutil.process_iter(["cmdline"]) if configuration in (each.info["cmdline"] or [])]
        return [process for each in found for process in (each, *descendants(each))]

    def kill_runner(self) -> None:
        """kill -9 of the daemon, all its processes; the jobs go on."""
        processes = self.runner_processes()
        assert processes, "The runner does not run"
        kill(processes)

    def unlock(self) -> None:
        """Free what a runner that died has left locked, and stop one that still runs."""
        self.jf("admin", "unlock-runner")
        self.jf("runner", "stop", "--wait")
        self.jf("admin", "unlock", "--yes")
        self.jf("admin", "unlock-flow", "--yes")

    def wait_until_finished(self, seconds: float = 300) -> None:
        """Wait until a daemon has finished all flows."""
        try:
            wait_for(self.all_finished, seconds)
        except TimeoutError:
            raise AssertionError(self.report()) from None

    def report(self) -> str:
        """State and error of each job."""
        return "\n".join(
            f"{job.db_id} {job.name} {job.state.name} {job.lock_id or ''} {job.error or job.remote.error or ''}"
            for job in self.jobs()
        )

    def close(self) -> None:
        """Kill whatever still runs in the project's folder, and drop its database."""
        kill(self.runner_processes())
        kill([process for process in psutil.process_iter() if self._runs_here(process)])
        shutil.rmtree(self.daemon)
        self.controller.close()
        with pymongo.MongoClient(self.uri) as client:
            client.drop_database(self.database)

    def _runs_here(self, process: psutil.Process) -> bool:
        try:
            return process.pid != os.getpid() and Path(process.cwd()).is_relative_to(self.folder)
        except psutil.Error:
            return False
