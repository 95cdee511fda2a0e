"""Job that counts the steps of the relaxation of one translated structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobflow import JobConfig, Maker, OnMissing, job

from cryslator_flows.documents.relaxations import TranslatedRelaxation
from cryslator_flows.errors import StructureError
from cryslator_flows.jobs.compare import read_all_runs

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from cryslator_flows.documents.candidates import Translation


@dataclass
class CountRelaxationMaker(Maker):
    """Count the steps of the relaxation of a translated structure.

    The job runs also when the relaxation failed, and then records the failure and the steps that it spent.

    Parameters
    ----------
    name : str
        The job name.
    """

    name: str = "count steps"

    @job(config=JobConfig(on_missing_references=OnMissing.NONE), output_schema=TranslatedRelaxation)
    def make(
        self,
        structure: Structure,
        translation: Translation | None,
        documents: list[Any],
        job_uuids: list[str],
        campaign: str,
        run: str,
    ) -> TranslatedRelaxation:
        """Count.

        Parameters
        ----------
        structure : Structure
            The structure that was translated.
        translation : Translation or None
            Its translation; None if it failed.
        documents : list
            The task documents of the jobs of the relaxation in the order they ran; None for a failed job.
        job_uuids : list of str
            The uuids of these jobs.
        campaign, run : str
            Names of the runs in the ledger.

        Raises
        ------
        StructureError
            The translation failed, so that nothing was relaxed.
        """
        if translation is None:
            raise StructureError("nothing was relaxed: the translation failed")
        relaxation = read_all_runs("translated", documents, job_uuids, campaign, run)
        return TranslatedRelaxation(**dict(relaxation), unrelaxed_structure=structure, translation=translation)
