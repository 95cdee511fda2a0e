"""Marks of jobs: their stage of a campaign, and the manager configuration of the stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobflow import Job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobflow import Flow

    from cryslator_flows.documents.stages import Stage

StageConfigs = dict[str, dict[str, Any]]


def jobs_of(work: Job | Flow) -> list[Job]:
    """List the jobs of a job or flow in the order they run."""
    return [work] if isinstance(work, Job) else [job for job, _ in work.iterflow()]


def place(work: Job | Flow, stage: Stage, configs: Mapping[str, dict[str, Any]], **metadata: Any) -> None:
    """Mark jobs with their stage and give them its manager configuration.

    Jobs that a relax maker makes while it runs inherit both. Jobs that other stages make are placed when they are made.

    Parameters
    ----------
    work : Job or Flow
        The jobs; changed in place.
    stage : str
        Their stage.
    configs : dict
        Stage to ``manager_config`` of jobflow: worker, resources, exec_config and priority for jobflow-remote.
    **metadata
        Further metadata of the jobs.
    """
    relax = stage == "relax"
    work.update_metadata({"stage": stage, **metadata}, dynamic=relax)
    for job in jobs_of(work):
        job.config.pass_manager_config = relax
        if stage in configs:
            job.config.manager_config = dict(configs[stage])
