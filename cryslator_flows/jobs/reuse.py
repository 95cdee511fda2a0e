"""Job that copies the relaxations of a candidate from another campaign."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobflow import Maker, job
from monty.json import jsanitize
from pymatgen.core.structure_matcher import StructureMatcher

from cryslator_flows.crystals.moments import moments_of
from cryslator_flows.documents.candidates import Candidate, Translation
from cryslator_flows.documents.relaxations import RelaxationComparison, Start

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pymatgen.core import Structure

# Tight and unscaled: a relaxation is reused for its own start, not for a structure that relaxes to the same end.
SAME_STRUCTURE = StructureMatcher(ltol=0.005, stol=0.01, angle_tol=0.1, primitive_cell=False, scale=False)


@dataclass
class ReuseMaker(Maker):
    """Write a relaxation of another campaign as a comparison of this campaign.

    Parameters
    ----------
    name : str
        The job name.
    """

    name: str = "reuse"

    @job(output_schema=RelaxationComparison)
    def make(
        self,
        relaxed: RelaxationComparison,
        candidate: Candidate,
        translation: Translation,
        starts: list[Start],
        campaign: str,
    ) -> RelaxationComparison:
        """Reuse a comparison.

        Parameters
        ----------
        relaxed : RelaxationComparison
            From `find_known`.
        candidate : Candidate
            The candidate of this campaign.
        translation : Translation
            Its translation.
        starts : list of str
            The starts of this campaign.
        campaign : str
            Name of this campaign.
        """
        return relaxed.model_copy(
            update={
                "campaign": campaign,
                "candidate_id": candidate.candidate_id,
                "template_id": candidate.template_id,
                "substitution": candidate.substitution,
                "formation_energy_per_atom": translation.formation_energy_per_atom,
                "formation_energy_uncertainty": translation.formation_energy_uncertainty,
                "formation_energy_uncertainty_90": translation.formation_energy_uncertainty_90,
                "unrelaxed_structure": candidate.structure,
                "translated_structure": translation.structure,
                "relaxations": [item for item in relaxed.relaxations if item.start in starts],
                "endings": [item for item in relaxed.endings if item.start in starts],
                "reused_from": relaxed.reused_from or relaxed.campaign,
            }
        )


def hash_settings(content: list[Any]) -> str:
    """Hash makers and numbers to 16 hexadecimal digits; versions of packages do not count."""
    text = json.dumps(_without_versions(jsanitize(content, strict=True)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_versions(content: Any) -> Any:
    """Return JSON content without the versions of packages that monty writes into it."""
    if isinstance(content, dict):
        return {key: _without_versions(value) for key, value in content.items() if key != "@version"}
    return [_without_versions(item) for item in content] if isinstance(content, list) else content


def find_known(
    candidate: Candidate, starts: Sequence[Start], settings: str, known: Iterable[RelaxationComparison]
) -> RelaxationComparison | None:
    """Find relaxations of the same unrelaxed structure with the same settings.

    Parameters
    ----------
    candidate : Candidate
        The candidate.
    starts : sequence of str
        The required starts. A comparison counts only if it has all of them and all converged.
    settings : str
        Hash of the settings, see `RelaxationComparisonFlowMaker.settings_key`.
    known : iterable of RelaxationComparison
        Earlier relaxations.

    Returns
    -------
    RelaxationComparison or None
        The first match; None without one.
    """
    for comparison in known:
        before = comparison.unrelaxed_structure
        relaxations = [comparison.relaxation(start) for start in starts]
        if (
            comparison.settings == settings
            and comparison.reduced_formula == candidate.reduced_formula
            and all(item is not None and item.cost is not None and item.cost.converged for item in relaxations)
            and before is not None
            and len(before) == len(candidate.structure)
            and _moments(before) == _moments(candidate.structure)
            and SAME_STRUCTURE.fit(before, candidate.structure)
        ):
            return comparison
    return None


def _moments(structure: Structure) -> list[Any] | None:
    """Return the moments of a structure whatever the order of its sites; other moments may end in another minimum."""
    moments = moments_of(structure)
    return None if moments is None else sorted(moments, key=repr)
