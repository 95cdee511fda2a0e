"""Chains of relaxations of selected candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobflow import Flow

from cryslator_flows.documents.relaxations import Digests
from cryslator_flows.jobs.placing import place

if TYPE_CHECKING:
    from jobflow import Job

    from cryslator_flows.crystals.packing import TranslatedCandidates
    from cryslator_flows.documents.relaxations import RelaxationComparison
    from cryslator_flows.jobs.relax import RelaxSelectedMaker

# Chains of waves that run side by side: one slow relaxation delays only its chain.
LANES = 4


def relax_in_lanes(
    maker: RelaxSelectedMaker,
    selected: TranslatedCandidates,
    campaign: str,
    known: list[RelaxationComparison],
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
    known : list of RelaxationComparison
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
