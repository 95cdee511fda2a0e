"""Run makers with the double and look at what they left."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from atomate2.vasp.jobs.base import BaseVaspMaker
from jobflow import run_locally

if TYPE_CHECKING:
    from emmet.core.tasks import TaskDoc
    from jobflow import Maker
    from pymatgen.core import Structure


def poll_often(maker: Maker, seconds: float = 0.1) -> Maker:
    """The same maker, whose VASP jobs custodian polls each `seconds` instead of each ten: the double is quick."""
    update = {"_set": {"run_vasp_kwargs->custodian_kwargs->polling_time_step": seconds}}
    return maker.update_kwargs(update, class_filter=BaseVaspMaker, dict_mod=True)


def relax(maker: Maker, structure: Structure) -> list[TaskDoc | None]:
    """Run the maker here; documents in the order of the jobs, None for a job that failed."""
    flow = poll_often(maker).make(structure)
    responses = run_locally(flow, create_folders=True, ensure_success=False)
    jobs = getattr(flow, "jobs", [flow])
    return [responses[job.uuid][1].output if job.uuid in responses else None for job in jobs]


def folder(document: TaskDoc) -> Path:
    """Where the job ran."""
    return Path(document.dir_name.split(":", 1)[-1])


def only_folder(runs: Path) -> Path:
    """Where the only job ran."""
    (only,) = runs.glob("job_*")
    return only


def corrections(document: TaskDoc) -> list[tuple[str, list[str]]]:
    """Handlers that custodian applied, and the errors that they saw."""
    return [(item["handler"]["@class"], item["errors"]) for run in document.custodian for item in run.corrections]


def archived_oszicars(path: Path) -> list[bytes]:
    """OSZICAR of each archive that custodian made, in the order of their numbers."""
    contents = []
    for archive in sorted(path.glob("error.*.tar.gz")):
        with tarfile.open(archive) as files:
            contents.append(files.extractfile(f"{archive.name.removesuffix('.tar.gz')}/OSZICAR").read())
    return contents
