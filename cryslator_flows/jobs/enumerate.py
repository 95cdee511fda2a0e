"""Job that enumerates candidates and passes them on in chunks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobflow import Flow, Maker, Response, job
from monty.itertools import chunks

from cryslator_flows.crystals.enumeration import Enumeration, SubstitutionSpace
from cryslator_flows.crystals.formula_filters import FormulaFilters
from cryslator_flows.crystals.orderings import OrderingSettings
from cryslator_flows.crystals.packing import PackedCandidates
from cryslator_flows.crystals.templates import AnyTemplateSource
from cryslator_flows.documents.candidates import EnumerationCounts
from cryslator_flows.errors import CampaignError, StructureError
from cryslator_flows.jobs.gather import GatherMaker
from cryslator_flows.jobs.placing import place
from cryslator_flows.jobs.translate_chunk import TranslateChunkMaker
from cryslator_flows.screening.acquisition import Acquisition, RandomSample
from cryslator_flows.screening.cuts import Cuts

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobflow import Job, OutputReference

# Maximum number of documents that one job reads: about 20 MB of shortlists.
PARTS_PER_JOB = 25


@dataclass
class EnumerateChunksMaker(Maker):
    """Base of makers whose job substitutes the elements of templates, chunk by chunk.

    Parameters
    ----------
    name : str
        The job name.
    charge_balanced : bool
        Drop candidates that no oxidation states known to pymatgen balance.
    rescale_volume : bool
        Scale candidates isotropically to the volume that pymatgen's DLSVolumePredictor expects.
    chunk_size : int
        Approximate number of candidates in a chunk; see `Enumeration.chunks`.
    filters : FormulaFilters
        Filters of the formulas.
    orderings : OrderingSettings
        Cells and number of the orderings of disordered templates and of partial substitutions.
    """

    name: str = "enumerate"
    charge_balanced: bool = True
    rescale_volume: bool = False
    chunk_size: int = 2000
    filters: FormulaFilters = field(default_factory=FormulaFilters)
    orderings: OrderingSettings = field(default_factory=OrderingSettings)

    def enumerate(
        self, templates: list[AnyTemplateSource], substitutions: list[SubstitutionSpace]
    ) -> tuple[list[PackedCandidates], EnumerationCounts]:
        """Return the chunks, at least one, and the counts of the enumeration.

        Raises
        ------
        StructureError
            No candidate is left, or a source of templates does not exist. The message names the keys of a campaign file
            to change.
        """
        enumeration = Enumeration(
            (template for source in templates for template in source.load()),
            substitutions,
            charge_balanced=self.charge_balanced,
            rescale_volume=self.rescale_volume,
            filters=self.filters,
            orderings=self.orderings,
        )
        chunks, counts = list(enumeration.chunks(self.chunk_size)), enumeration.counts
        if counts.unique:
            return chunks, counts
        raise StructureError(why_none(counts))


@dataclass
class EnumerateMaker(EnumerateChunksMaker):
    """Substitute the elements of templates and translate the candidates, chunk by chunk.

    The job replaces itself by one translation job for each chunk. Beyond 25 chunks it adds jobs that gather the
    shortlists of 25 others. Its output holds the `EnumerationCounts` under ``counts``, stored before the first
    translation starts. The `Shortlist` documents under ``parts`` hold all candidates that may be selected. Rounds of
    active learning use the uuids of their jobs under ``part_uuids`` and the candidates to translate again under
    ``chunks``.

    Parameters
    ----------
    name, charge_balanced, rescale_volume, chunk_size, filters, orderings
        As in `EnumerateChunksMaker`.
    translate_maker : TranslateChunkMaker
        Maker of the translation jobs.
    gather_maker : GatherMaker
        Maker of the jobs that gather shortlists.
    elements : list of str or None
        Elements whose energy by the engine is known, for rounds of active learning that relax no element; else None.

    Examples
    --------
    >>> from cryslator_flows.crystals.substitution import ExplicitMaps
    >>> from cryslator_flows.crystals.templates import AflowTemplates
    >>> maker = EnumerateMaker(chunk_size=1000)
    >>> maker.make([AflowTemplates(n_elements=3)], [ExplicitMaps(kind="maps", maps=[{"Ca": "Sr"}])]).name
    'enumerate'
    """

    translate_maker: TranslateChunkMaker = field(default_factory=TranslateChunkMaker)
    gather_maker: GatherMaker = field(default_factory=GatherMaker)
    elements: list[str] | None = None

    @job(data=["packed"])
    def make(
        self,
        templates: list[AnyTemplateSource],
        substitutions: list[SubstitutionSpace],
        cuts: Cuts,
        acquisition: Acquisition | RandomSample | None = None,
        made: dict[str, Any] | None = None,
    ) -> Response[dict[str, Any]]:
        """Enumerate.

        Parameters
        ----------
        templates : list
            Sources of templates, see `cryslator_flows.crystals.templates`.
        substitutions : list
            Substitution spaces, see `cryslator_flows.crystals.substitution`.
        cuts : Cuts
            Cuts of the selection, for the shortlists.
        acquisition : Acquisition, RandomSample or None
            Choice of the first round of active learning or of an adaptation; None without them.
        made : dict or None
            Output that this job stored before. The job then makes translations of it and enumerates nothing.

        Raises
        ------
        StructureError
            No candidate is left, or a source of templates does not exist.
        CampaignError
            A candidate has an element that `elements` lacks.
        """
        if made is None:
            chunks, counts = self.enumerate(templates, substitutions)
        else:
            chunks = [PackedCandidates.model_validate(part["packed"]) for part in made["enumerated"]]
            counts = EnumerationCounts.model_validate(made["counts"])
        jobs: list[Job] = []
        for number, packed in enumerate(chunks, 1):
            self._check_elements(packed)
            translate = self.translate_maker.make(packed, cuts, acquisition)
            translate.append_name(f" {number}")
            place(translate, "translate")
            jobs.append(translate)
        parts, gathers = gather_in_tree(
            [work.output for work in jobs], lambda group: self.gather_maker.make(group, cuts, acquisition)
        )
        for gather in gathers:
            place(gather, "select")
        output = {
            "counts": counts,
            "parts": parts,
            "chunks": [] if acquisition is None else [work.output.packed for work in jobs],
            "part_uuids": [part.uuid for part in parts],
        }
        return Response(
            # Each chunk is a separate object in the additional store.
            output={"counts": counts, "enumerated": [{"packed": packed} for packed in chunks]},
            replace=Flow([*jobs, *gathers], output=output, name="translate chunks"),
        )

    def _check_elements(self, packed: PackedCandidates) -> None:
        if self.elements is None:
            return
        new = {symbol for text in packed.arrays()["symbols"] for symbol in str(text).split()[1::2]}
        if lacking := sorted(new - set(self.elements)):
            raise CampaignError(
                f"rounds: relaxation.element_energies lacks {', '.join(lacking)}, which candidates have; rounds learn "
                "formation energies by the engine, so give the energy of every element by the same engine and "
                "settings, or remove `relax_elements: false`"
            )


def why_none(counts: EnumerationCounts) -> str:
    """Describe in words why no candidate is left, and what to change."""
    rejected = f"; first rejected template: {counts.rejected_templates[0]}" if counts.rejected_templates else ""
    if not counts.templates:
        reason = "no template passes the filters of 'templates' (elements, n_elements, max_atoms, ...); widen them"
    elif not counts.enumerated:
        reason = (
            f"the 'substitutions' apply to none of {counts.templates} templates: their elements or number of "
            "cations differ, they have the new elements already, or they have no orderings; change 'templates' or "
            "'substitutions'"
        )
    else:
        reason = (
            f"none of {counts.enumerated} substitutions in {counts.templates} templates is left "
            f"({describe_losses(counts)}); widen templates, substitutions or filters"
        )
    return f"enumeration: no candidate: {reason}{rejected}"


def describe_losses(counts: EnumerationCounts) -> str:
    """Describe in words what the enumeration dropped before it looked for equivalent candidates."""
    lost = {"not charge-balanced": counts.not_charge_balanced, **counts.filtered}
    return ", ".join(f"{number} {reason}" for reason, number in lost.items())


def gather_in_tree(
    outputs: list[OutputReference], gather: Callable[[list[OutputReference]], Job]
) -> tuple[list[OutputReference], list[Job]]:
    """Gather the outputs of many jobs by jobs that read 25 each, until at most 25 are left.

    Parameters
    ----------
    outputs : list of OutputReference
        The outputs.
    gather : callable
        Function that makes the job that gathers some outputs, of the given jobs or of jobs that gather.

    Returns
    -------
    tuple
        Outputs that together hold all, and the jobs that gather.
    """
    gathers: list[Job] = []
    while len(outputs) > PARTS_PER_JOB:
        made = [gather(list(group)) for group in chunks(outputs, PARTS_PER_JOB)]
        gathers += made
        outputs = [work.output for work in made]
    return outputs, gathers
