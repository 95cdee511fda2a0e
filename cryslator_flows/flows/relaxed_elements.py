"""Flow that relaxes an element, for its energy by the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobflow import Flow, Maker

from cryslator_flows.crystals.ground_states import ground_state
from cryslator_flows.engines.by_name import chgnet_maker
from cryslator_flows.errors import StructureError
from cryslator_flows.jobs.following import end_with_first_failure
from cryslator_flows.jobs.placing import place
from cryslator_flows.jobs.read_element import ReadElementMaker

if TYPE_CHECKING:
    from jobflow import Job


@dataclass
class RelaxElementFlowMaker(Maker):
    """Relax the stable crystal of an element, see `ground_state`.

    Parameters
    ----------
    name : str
        The flow name.
    relax_maker : Maker
        Any atomate2 maker with ``make(structure, prev_dir=None)``, the same as for the candidates.
    read_maker : ReadElementMaker
        Maker of the job that reads energy and structure.

    Examples
    --------
    >>> [job.name for job in RelaxElementFlowMaker().make("Fe").jobs]
    ['Force field relax element Fe', 'read element Fe']
    """

    name: str = "relax element"
    relax_maker: Maker = field(default_factory=chgnet_maker)
    read_maker: ReadElementMaker = field(default_factory=ReadElementMaker)

    def make(self, symbol: str) -> Flow:
        """Make the flow.

        Parameters
        ----------
        symbol : str
            The element.

        Returns
        -------
        Flow
            Its output is an `ElementReference`.
        """
        jobs: list[Flow | Job] = []
        try:
            relax = self.relax_maker.make(ground_state(symbol), prev_dir=None)
        except StructureError as error:
            read = self.read_maker.make(symbol, [], [], str(error))
        else:
            relax.append_name(f" element {symbol}")
            place(relax, "relax", start="unrelaxed", element=symbol)
            jobs.append(relax)
            documents = end_with_first_failure(relax)
            read = self.read_maker.make(symbol, documents, [document.uuid for document in documents])
        read.append_name(f" {symbol}")
        place(read, "compare")
        flow = Flow([*jobs, read], output=read.output, name=f"{self.name} {symbol}")
        # As for a candidate: a failure is recorded, the campaign continues, and only this element runs again.
        flow.update_metadata({"candidate_id": f"element {symbol}"}, dynamic=True)
        return flow
