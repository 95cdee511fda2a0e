"""Later jobs of a relaxation, which fail if the job before them failed, instead of waiting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobflow import Maker, OnMissing, OutputReference, job

from cryslator_flows.engines.made_jobs import jobs_of, undecorated
from cryslator_flows.errors import StructureError

if TYPE_CHECKING:
    from jobflow import Flow, Job
    from pymatgen.core import Structure


@dataclass
class FollowingRelaxMaker(Maker):
    """Run another maker's job if there is a structure for it.

    Parameters
    ----------
    maker : Maker
        The other maker.
    name : str
        The job name.
    """

    maker: Maker
    name: str = "following relaxation"

    @job
    def make(self, structure: Structure | None, *args: Any, **kwargs: Any) -> Any:
        """Run the job of the other maker.

        Parameters
        ----------
        structure : Structure or None
            Structure from the job before this one; None if it failed.
        *args, **kwargs
            Passed on.

        Raises
        ------
        StructureError
            The structure is None.
        """
        if structure is None:
            raise StructureError("no structure to relax: the job before this one failed")
        return undecorated(type(self.maker).make)(self.maker, structure, *args, **kwargs)


def end_with_first_failure(relaxation: Job | Flow) -> list[OutputReference]:
    """Let later jobs of a relaxation start, and fail, if the job that makes their structure failed.

    Otherwise they would wait in jobflow-remote without end, and the wave of their candidate with them. A maker's job
    that takes outputs of two other jobs stays as it is, since it may be able to run with one of them.

    Parameters
    ----------
    relaxation : Job or Flow
        The jobs of one relaxation; changed in place.

    Returns
    -------
    list of OutputReference
        Outputs of the jobs that calculate, in the order they run; the job of the flow's output is the last. Functions
        between makers and after them, the removal of WAVECAR for instance, leave no energy and count no steps.
    """
    jobs = jobs_of(relaxation)
    for following in jobs:
        maker = following.maker
        structure = following.function_kwargs.get("structure", next(iter(following.function_args), None))
        if (
            maker is not None
            and hasattr(type(maker).make, "original")
            and following.function.__name__ == "make"
            and isinstance(structure, OutputReference)
            and {*following.input_uuids} == {structure.uuid}
        ):
            following.function = FollowingRelaxMaker(maker, name=following.name).make
            following.config.on_missing_references = OnMissing.NONE
        elif maker is None:
            following.config.on_missing_references = OnMissing.NONE
    end = getattr(relaxation.output, "uuid", None)
    calculations = [job for job in jobs if job.maker is not None or job.uuid == end] or jobs
    # References without a schema: jobflow rebuilds the JSON schema of a task document at each access.
    return [OutputReference(job.uuid) for job in sorted(calculations, key=lambda job: job.uuid == end)]
