"""Marks of jobs: their stage of a campaign, and the manager configuration of the stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobflow import CURRENT_JOB

from cryslator_flows.engines.made_jobs import jobs_of

if TYPE_CHECKING:
    from jobflow import Flow, Job

    from cryslator_flows.documents.stages import Stage

StageConfigs = dict[str, dict[str, Any]]

# Stages whose jobs make jobs of other stages; the key of their ``manager_config`` with the configurations of all.
MAKES_OTHERS: tuple[Stage, ...] = ("enumerate", "select")
ALL_STAGES = "stages"


def place(work: Job | Flow, stage: Stage, **metadata: Any) -> None:
    """Mark jobs with their stage; inside a job, give them its manager configuration, see `configure_stages`.

    Jobs that a relax maker makes while it runs inherit both. Jobs that other stages make are placed when they are made.

    Parameters
    ----------
    work : Job or Flow
        The jobs; changed in place.
    stage : str
        Their stage.
    **metadata
        Further metadata of the jobs.
    """
    relax = stage == "relax"
    work.update_metadata({"stage": stage, **metadata}, dynamic=relax)
    for job in jobs_of(work):
        job.config.pass_manager_config = relax
    if CURRENT_JOB.job is not None:
        configure_stages(work, CURRENT_JOB.job.config.manager_config.get(ALL_STAGES, {}))


def configure_stages(work: Job | Flow, configs: StageConfigs) -> None:
    """Give placed jobs, and the jobs that they make, the manager configuration of their stage.

    Only jobs that make jobs of other stages carry all configurations. With jobflow's dynamic ``update_config`` each
    relaxation would carry a filter for each maker, and each worker would import all makers to read it.

    Parameters
    ----------
    work : Job or Flow
        The jobs; changed in place.
    configs : dict
        Stage to ``manager_config`` of jobflow: worker, resources, exec_config and priority for jobflow-remote.
    """
    for job in jobs_of(work):
        stage = job.metadata["stage"]
        carried = {ALL_STAGES: configs} if configs and stage in MAKES_OTHERS else {}
        job.config.manager_config = {**configs.get(stage, job.config.manager_config), **carried}
