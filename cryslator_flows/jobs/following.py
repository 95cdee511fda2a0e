"""Later jobs of a relaxation, which fail where the job before them failed, instead of waiting for ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobflow import Job, Maker, OnMissing, OutputReference, job

from cryslator_flows.engines.undecorated import undecorated
from cryslator_flows.errors import StructureError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure


@dataclass
class FollowingRelaxMaker(Maker):
    """Runs another maker's job where there is a structure for it.

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
            What the job before this one left; None if it failed.
        *args, **kwargs
            Handed on.

        Raises
        ------
        StructureError
            There is no structure.
        """
        if structure is None:
            raise StructureError("no structure to relax: the job before this one failed")
        return undecorated(type(self.maker).make)(self.maker, structure, *args, **kwargs)


def end_with_first_failure(relaxation: Sequence[Job]) -> None:
    """Let later jobs of a relaxation start, and fail, where the job that should hand them the structure failed.

    Else jobflow-remote would have them wait for ever, and the wave of their candidate with them. A job that takes
    anything from two others is left as it is, since it might go on with what one of them left.

    Parameters
    ----------
    relaxation : sequence of Job
        The jobs of one relaxation; changed in place.
    """
    for following in relaxation:
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
