"""Job that reads the relaxation of an element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jobflow import JobConfig, Maker, OnMissing, job

from cryslator_flows.documents.references import ElementReference
from cryslator_flows.documents.relaxations import Relaxation
from cryslator_flows.jobs.compare import read_relaxation


@dataclass
class ReadElementMaker(Maker):
    """Read energy and structure of a relaxed element.

    The job runs also when the relaxation failed, and then records the failure.

    Parameters
    ----------
    name : str
        The job name.

    Examples
    --------
    >>> ReadElementMaker().make("Fe", [], [], "0123456789abcdef").name
    'read element'
    """

    name: str = "read element"

    @job(config=JobConfig(on_missing_references=OnMissing.NONE), output_schema=ElementReference)
    def make(
        self, symbol: str, documents: list[Any], job_uuids: list[str], settings: str, error: str | None = None
    ) -> ElementReference:
        """Read the relaxation of an element.

        Parameters
        ----------
        symbol : str
            The element.
        documents : list
            The task documents of its jobs in the order they ran; None for a failed job.
        job_uuids : list of str
            The uuids of these jobs.
        settings : str
            Hash of the relax maker.
        error : str or None
            Reason for which there are no jobs.
        """
        if error is None:
            relaxation = read_relaxation("unrelaxed", documents, job_uuids)
        else:
            relaxation = Relaxation(start="unrelaxed", job_uuids=[], error=error)
        return ElementReference(symbol=symbol, relaxation=relaxation, settings=settings)
