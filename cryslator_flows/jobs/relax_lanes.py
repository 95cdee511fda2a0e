"""Flow that relaxes selected candidates in chains, and the elements that occur."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobflow import Flow

from cryslator_flows.documents.relaxations import Digests
from cryslator_flows.engines.handlers import vasp_makers
from cryslator_flows.flows.relaxed_elements import RelaxElementFlowMaker
from cryslator_flows.jobs.fetch_phases import FetchPhasesMaker
from cryslator_flows.jobs.placing import place
from cryslator_flows.screening.known_phases import symbols_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobflow import Job

    from cryslator_flows.crystals.packing import Selection, TranslatedCandidates
    from cryslator_flows.documents.references import Known
    from cryslator_flows.jobs.relax import RelaxSelectedMaker

# Chains of waves that run side by side: one slow relaxation delays only its chain.
LANES = 4


def relax_selection(
    maker: RelaxSelectedMaker,
    selection: Selection,
    chosen: TranslatedCandidates,
    most: int | None,
    known: list[Known],
    campaign: str,
    prerelaxed: TranslatedCandidates | None = None,
) -> Flow:
    """Make the flow that relaxes the elements of selected candidates, then the first of the candidates.

    Parameters
    ----------
    maker : RelaxSelectedMaker
        Makes the relaxations.
    selection : Selection
        The selection, with the elements to relax.
    chosen : TranslatedCandidates
        The candidates, with those that are left to other flows.
    most : int or None
        Maximum number of candidates to relax.
    known : list of Known
        Relaxations of other campaigns.
    campaign : str
        Name of the campaign.
    prerelaxed : TranslatedCandidates or None
        As in `relax_in_lanes`.

    Returns
    -------
    Flow
        Its output takes the place of the selection, see `SelectMaker`.
    """
    taken, _ = split(chosen, most)
    lanes = relax_in_lanes(maker, taken, campaign, known, prerelaxed)
    elements = relax_elements(maker, selection.elements, known)
    output = {
        "n_selected": selection.n_selected,
        "stats": selection.stats,
        "potential": selection.potential,
        "references": [*selection.references, *(flow.output for flow in elements)],
        "comparisons": [*selection.comparisons, *(lane.output for lane in lanes)],
    }
    fetch = _fetch_phases(maker, chosen) if elements else []
    return Flow([*fetch, *elements, *lanes], output=output, name="relax selected")


def relax_elements(maker: RelaxSelectedMaker, symbols: Iterable[str], known: Iterable[Known]) -> list[Flow]:
    """Make the flows that relax elements with the maker of the candidates, or reuse relaxations of other campaigns."""
    element_maker = RelaxElementFlowMaker(relax_maker=maker.comparison_maker.relax_maker)
    return [element_maker.make(symbol, known) for symbol in symbols]


def _fetch_phases(maker: RelaxSelectedMaker, chosen: TranslatedCandidates) -> list[Job]:
    """Return the job that fetches the Materials Project's phases, which VASP's energies may stand beside."""
    if not vasp_makers(maker.comparison_maker.relax_maker):
        return []
    systems = {symbols_of(str(formula)) for formula in chosen.arrays()["formula"]}
    fetch = FetchPhasesMaker().make(sorted(sorted(system) for system in systems))
    place(fetch, "select")
    return [fetch]


def relax_in_lanes(
    maker: RelaxSelectedMaker,
    selected: TranslatedCandidates,
    campaign: str,
    known: list[Known],
    prerelaxed: TranslatedCandidates | None = None,
) -> list[Flow | Job]:
    """Make flows that relax the selected candidates, the most stable first in each.

    Earlier relaxations are reused here, at once: no wave carries them.

    Parameters
    ----------
    maker : RelaxSelectedMaker
        Makes the relaxations.
    selected : TranslatedCandidates
        The candidates.
    campaign : str
        Name of the campaign.
    known : list of Known
        Relaxations of other campaigns.
    prerelaxed : TranslatedCandidates or None
        The same candidates with the structures of a potential, for the start ``translated_mlip``; None without them.
    """
    maker = maker.with_controls(selected)
    reused, rows = maker.reuse(selected, campaign, known)
    n_lanes = min(LANES, -(-selected.n_candidates // maker.wave_size))
    lanes: list[Flow | Job] = []
    for first in range(n_lanes):
        ours = list(reused.values())[first::n_lanes]
        own = rows[first::n_lanes]
        wave = maker.make(
            selected.take(own),
            campaign,
            [job.output for job in ours],
            Digests(),
            None if prerelaxed is None else prerelaxed.take(own),
        )
        place(wave, "select")
        lanes.append(Flow([*ours, wave], output=wave.output, name=wave.name))
    return lanes


def split(selected: TranslatedCandidates, most: int | None) -> tuple[TranslatedCandidates, TranslatedCandidates | None]:
    """Split candidates into those to relax now, at most so many, and the others; None if there are no others."""
    if most is None or selected.n_candidates <= most:
        return selected, None
    return selected.take(range(most)), selected.take(range(most, selected.n_candidates))
