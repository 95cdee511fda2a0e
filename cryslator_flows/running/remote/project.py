"""A jobflow-remote project; each missing part is one clear error before anything is submitted."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monty.itertools import chunks

from cryslator_flows.errors import ProjectError, nearest
from cryslator_flows.results.results import CampaignResults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobflow import JobStore
    from jobflow_remote.config.base import Project
    from jobflow_remote.config.manager import ConfigManager
    from jobflow_remote.jobs.jobcontroller import JobController

    from cryslator_flows.campaign.remote_settings import StageSettings
    from cryslator_flows.crystals.packing import TranslatedCandidates

# Candidates that one flow relaxes, in some thousands of jobs. A flow of 80,000 jobs does not fit into a document.
RELAXED_PER_FLOW = 500
DATABASE_PATIENCE = 5000  # ms, instead of MongoDB's default of 30 s


@dataclass
class RemoteProject:
    """A project of jobflow-remote; made by `open_project`.

    Parameters
    ----------
    project : jobflow_remote.config.base.Project
        Its configuration.
    path : Path
        The file of the configuration.
    """

    project: Project
    path: Path

    @property
    def name(self) -> str:
        """Name of the project."""
        return str(self.project.name)

    @property
    def command(self) -> str:
        """First words of jobflow-remote's commands for this project."""
        return f"jf -p {self.name}"

    @cached_property
    def controller(self) -> JobController:
        """Access to the jobs and flows of the project.

        Raises
        ------
        ProjectError
            The database cannot be reached, or was never initialised.
        """
        self._reach_database()
        controller = self.project.get_job_controller()
        if controller.auxiliary.find_one({"next_id": {"$exists": True}}) is None:
            raise ProjectError(
                f"project {self.name!r}: its database is empty; initialise it once with: {self.command} admin reset"
            )
        return controller

    @property
    def job_store(self) -> JobStore:
        """Connected JobStore with the outputs of the project's jobs.

        Raises
        ------
        ProjectError
            The database cannot be reached, or was never initialised.
        """
        return self.controller.jobstore

    def close(self) -> None:
        """Close the connections of the controller."""
        if "controller" in vars(self):
            self.controller.close()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Raise one clear error if the database stops to answer.

        Raises
        ------
        ProjectError
            It does not answer any more.
        """
        from pymongo.errors import PyMongoError

        try:
            yield
        except PyMongoError as error:
            reason = str(error).split(",")[0]
            raise ProjectError(
                f"project {self.name!r}: its database does not answer any more ({reason}); jobs continue "
                "by themselves; try again when the database is back"
            ) from error

    def _reach_database(self) -> None:
        from pymongo.errors import PyMongoError

        for what, store in (
            ("queue", self.project.get_queue_store()),
            ("jobstore", self._unconnected_job_store().docs_store),
        ):
            arguments = getattr(store, "mongoclient_kwargs", None)
            if isinstance(arguments, dict):
                arguments.setdefault("serverSelectionTimeoutMS", DATABASE_PATIENCE)
            try:
                store.connect()
                store.query_one({}, ["uuid"])
            except PyMongoError as error:
                reason = str(error).split(",")[0]
                raise ProjectError(
                    f"project {self.name!r}: the database of its {what} ({store.name}) does not answer ({reason}); "
                    f"start it, or correct {what} in {self.path}"
                ) from error

    def _unconnected_job_store(self) -> JobStore:
        store = self.project.get_jobstore()
        if store is None:
            raise ProjectError(f"project {self.name!r}: it has no jobstore; add one in {self.path}")
        return store

    def check_data_store(self) -> None:
        """Check that the project's JobStore has the additional store for big objects.

        Raises
        ------
        ProjectError
            The additional store is missing.
        """
        stores = self._unconnected_job_store().additional_stores  # type: ignore[has-type]  # jobflow gives no type
        if "data" not in stores:
            raise ProjectError(
                f"project {self.name!r}: its jobstore has no additional store 'data', where structures go; "
                f"add jobstore.additional_stores.data in {self.path}"
            )

    def check_stage(self, stage: str, settings: StageSettings) -> None:
        """Check that the project has the worker and the execution configuration of a stage.

        Raises
        ------
        ProjectError
            It has not.
        """
        for kind, name, known in (
            ("worker", settings.worker, self.project.workers),
            ("exec_config", settings.exec_config, self.project.exec_config),
        ):
            if name is not None and name not in known:
                raise ProjectError(
                    f"stage {stage}, {kind} {name!r}: unknown in project {self.name!r} ({self.path}); "
                    f"{nearest(name, known)}"
                )

    def runs_here(self, worker: str) -> bool:
        """Return True if a worker runs on the machine of the runner."""
        return bool(self.project.workers[worker].is_local)


def open_project(name: str | None = None) -> RemoteProject:
    """Open a project of jobflow-remote.

    Parameters
    ----------
    name : str or None
        Its name; None for jobflow-remote's default: ``JFREMOTE_PROJECT``, or the only project.

    Raises
    ------
    ProjectError
        jobflow-remote is not installed, the project does not exist, its file has a mistake, or it has no worker.
    """
    try:
        from jobflow_remote.config.base import ConfigError, ProjectUndefinedError
        from jobflow_remote.config.manager import ConfigManager
    except ImportError as error:
        raise ProjectError("jobflow-remote is not installed; pip install 'cryslator-flows[remote]'") from error
    try:
        manager = ConfigManager()
    except ConfigError as error:
        raise ProjectError(f"jobflow-remote projects: {error}; rename one") from error
    try:
        data = manager.get_project_data(name)
    except ProjectUndefinedError as error:
        raise ProjectError(_undefined(manager)) from error
    except ConfigError as error:
        raise ProjectError(_unknown(manager, name)) from error
    opened = RemoteProject(data.project, Path(data.filepath))
    if not opened.project.workers:
        raise ProjectError(f"project {opened.name!r}: it has no worker; add one under workers in {opened.path}")
    return opened


def part_name(label: str, number: int) -> str:
    """Return the name of a further flow of a campaign in metadata; the first flow has the label itself."""
    return f"{label}-part-{number}"


def remaining_parts(
    project: RemoteProject, label: str
) -> dict[int, tuple[TranslatedCandidates, TranslatedCandidates | None]]:
    """Read the selected candidates of a campaign whose relaxations are not submitted yet.

    Parameters
    ----------
    project : RemoteProject
        The project.
    label : str
        The campaign's label.

    Returns
    -------
    dict
        Candidates by the number of the flow that will relax them, and the same from `Selection.prerelaxed`.
    """
    selection = CampaignResults(project.job_store, label).selection()
    if selection is None or selection.remaining is None:
        return {}
    left, prerelaxed = selection.remaining, selection.prerelaxed
    submitted = set(project.controller.flows.distinct("metadata.part", {"metadata.campaign": label}))
    return {
        part: (left.take(rows), None if prerelaxed is None else prerelaxed.take(rows))
        for part, rows in enumerate(chunks(range(left.n_candidates), RELAXED_PER_FLOW), 1)
        if part_name(label, part) not in submitted
    }


def _undefined(manager: ConfigManager) -> str:
    names = sorted(manager.projects)
    if names:
        return f"several jobflow-remote projects ({', '.join(names)}); name one with --project, or set JFREMOTE_PROJECT"
    return (
        f"no jobflow-remote project in {manager.projects_folder}; put workflows/jobflow-remote/laptop.yaml there and "
        "adapt it, or make one with: jf project generate NAME"
    )


def _unknown(manager: ConfigManager, name: str | None) -> str:
    name = manager.select_project_name(name)
    for path in sorted(manager.projects_folder.glob(f"{name}.*")):
        if path.suffix.lstrip(".") in manager.projects_ext:
            return f"project {name!r}: {path} is not a project file ({_mistake(path)}); fix it"
    remedy = nearest(name, manager.projects)
    return f"project {name!r}: no such jobflow-remote project in {manager.projects_folder}; {remedy}"


def _mistake(path: Path) -> str:
    """Describe the mistake in a project file in one line."""
    from jobflow_remote.config.base import Project
    from monty.serialization import loadfn
    from pydantic import ValidationError

    try:
        content: Any = loadfn(path)
        Project.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        # The message for a store that cannot be built has a whole traceback.
        message = first["msg"].strip().splitlines()[-1]
        return f"{'.'.join(map(str, first['loc']))}: {message}"
    except Exception as error:
        return " ".join(f"{type(error).__name__}: {error}".split())
    return "it has another name"
