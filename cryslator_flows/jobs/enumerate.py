"""Job that enumerates candidates and sends them on in chunks."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobflow import Flow, Maker, Response, job

from cryslator_flows.crystals.enumeration import Enumeration, SubstitutionSpace, in_chunks
from cryslator_flows.crystals.templates import AnyTemplateSource
from cryslator_flows.errors import StructureError
from cryslator_flows.jobs.translate import TranslateMaker


@dataclass
class EnumerateMaker(Maker):
    """Substitute the elements of templates and translate the candidates, chunk by chunk.

    The job replaces itself by one translation job for each chunk. Its output holds the `EnumerationCounts` under
    ``counts``, stored before the first translation starts, and a `TranslatedChunk` for each chunk under ``chunks``.

    Parameters
    ----------
    name : str
        The job name.
    charge_balanced : bool
        Drop candidates that no oxidation states known to pymatgen balance.
    rescale_volume : bool
        Scale candidates isotropically to the volume that pymatgen's DLSVolumePredictor expects.
    chunk_size : int
        Candidates in a translation job.
    translate_maker : TranslateMaker
        Maker of the translation jobs.
    """

    name: str = "enumerate"
    charge_balanced: bool = True
    rescale_volume: bool = False
    chunk_size: int = 500
    translate_maker: TranslateMaker = field(default_factory=TranslateMaker)

    @job
    def make(self, templates: list[AnyTemplateSource], substitutions: list[SubstitutionSpace]) -> Response:
        """Enumerate.

        Parameters
        ----------
        templates : list
            Sources of templates, see `cryslator_flows.crystals.templates`.
        substitutions : list
            Substitution spaces, see `cryslator_flows.crystals.substitution`.

        Raises
        ------
        StructureError
            No candidate is left, or a source of templates does not exist.
        """
        enumeration = Enumeration(
            (template for source in templates for template in source.load()),
            substitutions,
            charge_balanced=self.charge_balanced,
            rescale_volume=self.rescale_volume,
        )
        jobs = []
        for number, chunk in enumerate(in_chunks(enumeration, self.chunk_size), 1):
            translate = self.translate_maker.make(chunk)
            translate.append_name(f" {number}")
            jobs.append(translate)
        counts = enumeration.counts
        if not jobs:
            rejected = f"; first rejected template: {counts.rejected_templates[0]}" if counts.rejected_templates else ""
            raise StructureError(
                f"enumeration: no candidate from {counts.templates} templates and {counts.enumerated} substitutions "
                f"({counts.not_charge_balanced} not charge-balanced); widen templates or substitutions{rejected}"
            )
        output = {"counts": counts, "chunks": [translate.output for translate in jobs]}
        return Response(output={"counts": counts}, replace=Flow(jobs, output=output, name="translate chunks"))
