"""The plan of a campaign: its jobs by stage and its relaxations by start, before it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Lattice, Structure

from cryslator_flows.engines.handlers import vasp_makers
from cryslator_flows.engines.made_jobs import jobs_of
from cryslator_flows.flows.relaxation_comparison import PRERELAXED
from cryslator_flows.jobs.enumerate import PARTS_PER_JOB
from cryslator_flows.jobs.relax_lanes import LANES
from cryslator_flows.screening.fitted_references import reference_compounds

if TYPE_CHECKING:
    from cryslator_flows.campaign.file import CampaignSettings
    from cryslator_flows.campaign.potential_settings import PotentialSettings
    from cryslator_flows.campaign.round_settings import RoundSettings
    from cryslator_flows.campaign.survey import Survey
    from cryslator_flows.crystals.packing import PackedCandidates
    from cryslator_flows.documents.relaxations import Start
    from cryslator_flows.documents.stages import Stage
    from cryslator_flows.jobs.relax import RelaxSelectedMaker

# Candidates that are translated to measure the time of all.
SAMPLE = 200


@dataclass
class Plan:
    """Jobs and relaxations of a campaign. Cuts on energies may leave fewer.

    Parameters
    ----------
    survey : Survey
        Its candidates.
    selected : int
        Maximum number of candidates that the translator selects.
    relaxed : int
        Maximum number of candidates that are relaxed after translation and potential, rounds included.
    relaxations : dict
        Maximum number of relaxations by start.
    jobs : dict
        Maximum number of jobs by stage.
    elements : int
        Maximum number of elements that are relaxed too.
    compounds : int
        Number of known compounds that the potential relaxes too.
    units : dict
        Maximum number of translations and of relaxations by a potential, by stage.
    """

    survey: Survey
    selected: int = 0
    relaxed: int = 0
    relaxations: dict[Start, int] = field(default_factory=dict)
    jobs: dict[Stage, int] = field(default_factory=dict)
    elements: int = 0
    compounds: int = 0
    units: dict[Stage, int] = field(default_factory=lambda: {"translate": 0, "potential": 0})

    @property
    def costs(self) -> dict[Start, int]:
        """Relaxations by start, with those of the elements."""
        return self.relaxations | {"unrelaxed": self.relaxations.get("unrelaxed", 0) + self.elements}


def make_plan(campaign: CampaignSettings, survey: Survey) -> Plan:
    """Plan a campaign.

    Parameters
    ----------
    campaign : CampaignSettings
        The campaign.
    survey : Survey
        Its candidates.

    Raises
    ------
    CampaignError, ModelError
        A maker cannot be built, or the model does not exist.
    """
    unique = survey.counts.unique
    plan = Plan(survey, selected=min(unique, campaign.selection.top_k or unique))
    chunks = len(survey.chunks) or ceil(unique / campaign.enumeration.chunk_size)
    gathers = _gathers(chunks)
    plan.units["translate"] = unique * translations(campaign)
    plan.jobs = {"enumerate": 1, "translate": chunks, "select": 1 + gathers}
    left = plan.selected
    if campaign.potential is not None:
        _add_potential(plan, campaign.potential, chunks, gathers)
        left = min(left, campaign.potential.select.top_k or left)
    relax_maker = campaign.to_maker().select_maker.relax_maker
    if relax_maker is not None:
        _add_relaxations(plan, relax_maker, left, has_potential=campaign.potential is not None)
        plan.jobs["select"] += _waves(relax_maker, left)
        if left and relax_maker.known_elements is not None:
            plan.elements = len(survey.elements - {*relax_maker.known_elements})
            plan.jobs["relax"] += plan.elements * _jobs_each(relax_maker)
            plan.jobs["compare"] += plan.elements
            # The job that fetches phases.
            plan.jobs["select"] += bool(plan.elements and vasp_makers(relax_maker.comparison_maker.relax_maker))
        if campaign.rounds is not None:
            _add_rounds(plan, campaign.rounds, relax_maker, chunks, gathers)
    plan.jobs["summarize"] = 1
    return plan


def translations(campaign: CampaignSettings) -> int:
    """Return how often a campaign translates each candidate: again in rounds, and after an adaptation."""
    adapts = campaign.potential is not None and campaign.potential.adapt is not None
    return 1 + adapts + (0 if campaign.rounds is None else campaign.rounds.number)


def translation_seconds(campaign: CampaignSettings, chunks: list[PackedCandidates]) -> tuple[float, int]:
    """Measure the time of a translation on candidates drawn at random.

    Parameters
    ----------
    campaign : CampaignSettings
        The campaign.
    chunks : list of PackedCandidates
        Its candidates.

    Returns
    -------
    tuple
        Mean seconds of a translation without the time to load the model, and the number of candidates translated.

    Raises
    ------
    ModelError
        The model does not exist or is damaged.
    """
    from cryslator_flows.translator.translator import Translator

    drawn = _draw(chunks, SAMPLE)
    translator = Translator.from_pretrained(campaign.model)
    # The first call also prepares the network.
    list(translator.translate_stream(drawn[:1]))
    began = perf_counter()
    list(translator.translate_stream(drawn))
    return (perf_counter() - began) / max(len(drawn), 1), len(drawn)


def _draw(chunks: list[PackedCandidates], number: int) -> list[Structure]:
    """Return the structures of candidates drawn at random, always the same."""
    ends = np.cumsum([packed.n_candidates for packed in chunks])
    total = int(ends[-1]) if chunks else 0
    rows = np.sort(np.random.default_rng(0).choice(total, min(number, total), replace=False))
    drawn = []
    for packed, end in zip(chunks, ends, strict=True):
        wanted = rows[(rows < end) & (rows >= end - packed.n_candidates)] - (end - packed.n_candidates)
        drawn += [candidate.structure for candidate in packed.some(wanted)]
    return drawn


def _add_potential(plan: Plan, potential: PotentialSettings, chunks: int, gathers: int) -> None:
    """Add the batches of the potential, and the sample that adapts the translator with the translations after it."""
    plan.jobs["potential"] = ceil(plan.selected / potential.batch) + 1
    plan.jobs["select"] += 1
    plan.compounds = len(reference_compounds(plan.survey.elements))
    plan.units["potential"] = plan.selected + plan.compounds
    if potential.adapt is not None:
        plan.units["potential"] += min(potential.adapt, plan.survey.counts.unique) + plan.compounds
        plan.jobs["potential"] += ceil(min(potential.adapt, plan.survey.counts.unique) / potential.batch) + 1
        plan.jobs["select"] += 1 + gathers
        plan.jobs["translate"] += chunks
        plan.jobs["learn"] = 1


def _add_relaxations(plan: Plan, relax_maker: RelaxSelectedMaker, candidates: int, has_potential: bool) -> None:
    """Add the relaxations of some candidates, of which a few are controls."""
    controls = min(relax_maker.controls, candidates)
    numbers = dict.fromkeys(relax_maker.control_starts, controls)
    numbers[relax_maker.other_start] += candidates - controls
    each = _jobs_each(relax_maker)
    plan.relaxed += candidates
    for start, number in numbers.items():
        plan.relaxations[start] = plan.relaxations.get(start, 0) + number
        # The potential, and the symmetry of its structure.
        before = 2 if start in PRERELAXED and not (has_potential and start == "translated_mlip") else 0
        plan.jobs["relax"] = plan.jobs.get("relax", 0) + number * (each + before)
    plan.jobs["compare"] = plan.jobs.get("compare", 0) + candidates


def _add_rounds(plan: Plan, rounds: RoundSettings, relax_maker: RelaxSelectedMaker, chunks: int, gathers: int) -> None:
    """Add rounds of active learning: each relaxes a batch and translates all candidates again."""
    for _ in range(rounds.number):
        _add_relaxations(plan, relax_maker, min(rounds.batch, plan.survey.counts.unique), has_potential=False)
    plan.jobs["translate"] += chunks * rounds.number
    plan.jobs["select"] += rounds.number * (1 + gathers) + 1
    plan.jobs["learn"] = rounds.number


def _gathers(parts: int) -> int:
    """Return the number of jobs that `gather_in_tree` makes."""
    jobs = 0
    while parts > PARTS_PER_JOB:
        parts = ceil(parts / PARTS_PER_JOB)
        jobs += parts
    return jobs


def _waves(relax_maker: RelaxSelectedMaker, candidates: int) -> int:
    """Return the number of jobs that make the waves of relaxations of `relax_in_lanes`."""
    lanes = min(LANES, ceil(candidates / relax_maker.wave_size))
    return sum(ceil(len(range(first, candidates, lanes)) / relax_maker.wave_size) + 1 for first in range(lanes))


def _jobs_each(relax_maker: RelaxSelectedMaker) -> int:
    """Return the number of jobs of one relaxation."""
    crystal = Structure(Lattice.cubic(2.7), ["Mg", "O"], [[0.0] * 3, [0.5] * 3])
    return len(jobs_of(relax_maker.comparison_maker.relax_maker.make(crystal, prev_dir=None)))
