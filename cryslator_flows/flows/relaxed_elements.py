"""Flow that relaxes an element, for its energy by the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobflow import Flow, Maker

from cryslator_flows.analysis.formation_energies import element_energies
from cryslator_flows.crystals.ground_states import MOMENTS, ground_state
from cryslator_flows.documents.references import ElementReference
from cryslator_flows.engines.by_name import chgnet_maker
from cryslator_flows.errors import StructureError
from cryslator_flows.jobs.following import end_with_first_failure
from cryslator_flows.jobs.placing import place
from cryslator_flows.jobs.read_element import ReadElementMaker
from cryslator_flows.jobs.reuse import hash_settings
from cryslator_flows.jobs.reuse_element import ReuseElementMaker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobflow import Job

    from cryslator_flows.documents.references import Known


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
    reuse_maker : ReuseElementMaker
        Maker of the job that takes a relaxation over from another campaign.

    Examples
    --------
    >>> [job.name for job in RelaxElementFlowMaker().make("Fe").jobs]
    ['Force field relax element Fe', 'read element Fe']
    """

    name: str = "relax element"
    relax_maker: Maker = field(default_factory=chgnet_maker)
    read_maker: ReadElementMaker = field(default_factory=ReadElementMaker)

    reuse_maker: ReuseElementMaker = field(default_factory=ReuseElementMaker)

    def settings_key(self) -> str:
        """Hash all that decides about the relaxation of an element."""
        return hash_settings([self.relax_maker, MOMENTS])

    def make(self, symbol: str, known: Iterable[Known] = ()) -> Flow:
        """Make the flow.

        Parameters
        ----------
        symbol : str
            The element.
        known : iterable of Known
            Relaxations of other campaigns. A converged one of this element with the same settings is not repeated.

        Returns
        -------
        Flow
            Its output is an `ElementReference`.
        """
        jobs: list[Flow | Job] = []
        reused = self._find_known(symbol, known)
        if reused is not None:
            read = self.reuse_maker.make(reused)
        else:
            try:
                relax = self.relax_maker.make(ground_state(symbol), prev_dir=None)
            except StructureError as error:
                read = self.read_maker.make(symbol, [], [], self.settings_key(), str(error))
            else:
                relax.append_name(f" element {symbol}")
                place(relax, "relax", start="unrelaxed", element=symbol)
                jobs.append(relax)
                documents = end_with_first_failure(relax)
                uuids = [document.uuid for document in documents]
                read = self.read_maker.make(symbol, documents, uuids, self.settings_key())
        read.append_name(f" {symbol}")
        place(read, "compare")
        flow = Flow([*jobs, read], output=read.output, name=f"{self.name} {symbol}")
        # As for a candidate: a failure is recorded, the campaign continues, and only this element runs again.
        flow.update_metadata({"candidate_id": f"element {symbol}"}, dynamic=True)
        return flow

    def _find_known(self, symbol: str, known: Iterable[Known]) -> ElementReference | None:
        references = (item for item in known if isinstance(item, ElementReference) and item.symbol == symbol)
        settings = self.settings_key()
        return next((item for item in references if item.settings == settings and element_energies([item])), None)
