"""The run of one job in its folder."""

from __future__ import annotations

import json
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobflow import Flow
from monty.json import MontyDecoder, MontyEncoder

from cryslator_flows.errors import CryslatorError, StoreError, without_passwords
from cryslator_flows.system.current_folder import working_in
from cryslator_flows.system.whole_files import FULL, unwritable

if TYPE_CHECKING:
    from jobflow import Job, JobStore, Response


@dataclass(frozen=True)
class Made:
    """Flows and requests of a finished job."""

    flows: list[Flow]
    stop_children: bool


@dataclass(frozen=True)
class Failure:
    """Reason of a failed job."""

    reason: str
    traceback: str


def call_job(job: Job, store: JobStore, root_dir: Path) -> Made | Failure:
    """Run a job in its folder.

    Raises
    ------
    StoreError
        Its output cannot be stored, or a disk is full: the job has not failed.
    """
    folder = root_dir / f"{job.uuid}-{job.index}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with working_in(folder, "job.out"):
            response = job.run(store)
    except StoreError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise unwritable(root_dir, error) from error
        reason = str(error) if isinstance(error, CryslatorError) else f"{type(error).__name__}: {error}"
        return Failure(without_passwords(" ".join(reason.split())), without_passwords(traceback.format_exc()))
    return Made(_flows(response), bool(response.stop_children))


def call_here(task: str) -> str | Failure:
    """Run a job that another process sent, and return its flows and requests as JSON."""
    job, store, root_dir = MontyDecoder().decode(task)
    store.connect()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = call_job(job, store, Path(root_dir))
    finally:
        store.close()
    return made if isinstance(made, Failure) else json.dumps([made.flows, made.stop_children], cls=MontyEncoder)


def _flows(response: Response[Any]) -> list[Flow]:
    made = (response.replace, response.detour, response.addition)
    # `Job.run` has turned a tuple or a dictionary into a flow.
    return [flow if isinstance(flow, Flow) else Flow(flow) for flow in made if flow is not None]  # type: ignore[arg-type]
