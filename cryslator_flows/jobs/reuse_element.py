"""Job that copies the relaxation of an element from another campaign."""

from __future__ import annotations

from dataclasses import dataclass

from jobflow import Maker, job

from cryslator_flows.documents.references import ElementReference


@dataclass
class ReuseElementMaker(Maker):
    """Write a relaxed element of another campaign as an element of this campaign.

    Parameters
    ----------
    name : str
        The job name.
    """

    name: str = "reuse element"

    @job(output_schema=ElementReference)
    def make(self, reference: ElementReference) -> ElementReference:
        """Reuse an element; parameter `reference` as in the other campaign."""
        return reference
