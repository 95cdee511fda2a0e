"""Job that selects translated candidates and has them relaxed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jobflow import Flow, Maker, Response, job

from cryslator_flows.jobs.selection import Row, cap_per_composition, energies_above_hull, is_control
from cryslator_flows.schemas import Start, TranslatedChunk


@dataclass
class SelectMaker(Maker):
    """Keep the most stable translated candidates and send them to relaxation.

    Candidates whose translated atoms nearly coincide are always dropped. The others are ranked by predicted
    formation energy. The job replaces itself by one flow for each selected candidate; its output holds the number
    selected under ``n_selected``, stored before the first relaxation starts, and a `RelaxationComparison` for each of
    them under ``comparisons``.

    Parameters
    ----------
    name : str
        The job name.
    max_formation_energy : float or None
        Drop candidates above this predicted formation energy, in eV/atom.
    max_energy_above_hull : float or None
        Drop candidates further above the hull of campaign and references, in eV/atom.
    max_uncertainty : float or None
        Drop candidates whose formation energy is less certain than this, in eV/atom.
    in_domain_only : bool
        Drop candidates unlike the model's training data, see `Translation.out_of_domain`.
    per_composition : int or None
        Keep at most this many of one reduced formula.
    top_k : int or None
        Keep at most this many in all.
    control_share : float
        Share of the selected candidates that are relaxed from all starts, to measure the saving.
    references : dict
        Formula to formation energy of known phases for the hull, in eV/atom.
    control_starts : tuple of str
        The starts of that share; the other candidates are relaxed from their translated structure alone.
    comparison_maker : Maker or None
        Maker of the flow that relaxes one candidate; None stops after the selection.
    """

    name: str = "select"
    max_formation_energy: float | None = None
    max_energy_above_hull: float | None = None
    max_uncertainty: float | None = None
    in_domain_only: bool = False
    per_composition: int | None = None
    top_k: int | None = None
    control_share: float = 1.0
    references: dict[str, float] = field(default_factory=dict)
    control_starts: tuple[Start, ...] = ("unrelaxed", "translated")
    comparison_maker: Maker | None = None

    def select(self, rows: list[Row]) -> list[Row]:
        """Apply the cuts, most stable first.

        Parameters
        ----------
        rows : list of (Candidate, Translation)
            Translated candidates.

        Returns
        -------
        list of (Candidate, Translation)
            Those that are kept, by predicted formation energy.
        """
        if self.max_energy_above_hull is not None:
            above = energies_above_hull(rows, self.references)
            rows = [row for row, energy in zip(rows, above, strict=True) if energy <= self.max_energy_above_hull]
        kept = [
            (candidate, translation)
            for candidate, translation in rows
            if not translation.atoms_too_close
            and not (self.in_domain_only and translation.out_of_domain)
            and _within(translation.formation_energy_per_atom, self.max_formation_energy)
            and _within(translation.formation_energy_uncertainty, self.max_uncertainty)
        ]
        kept.sort(key=lambda row: (row[1].formation_energy_per_atom, row[0].candidate_id))
        return cap_per_composition(kept, self.per_composition)[: self.top_k]

    @job
    def make(self, chunks: list[TranslatedChunk], campaign: str) -> Response:
        """Select.

        Parameters
        ----------
        chunks : list of TranslatedChunk
            Outputs of the translation jobs.
        campaign : str
            Name of the campaign.
        """
        rows = [row for chunk in chunks for row in zip(chunk.candidates, chunk.translations, strict=True)]
        selected = self.select(rows)
        output: dict[str, Any] = {
            "n_selected": len(selected),
            "candidate_ids": [candidate.candidate_id for candidate, _ in selected],
        }
        if self.comparison_maker is None or not selected:
            return Response(output={**output, "comparisons": []})
        flows = []
        for candidate, translation in selected:
            control = is_control(candidate.candidate_id, self.control_share)
            starts: list[Start] = list(self.control_starts) if control else ["translated"]
            flows.append(self.comparison_maker.make(candidate, translation, starts, campaign))
        compared = {**output, "comparisons": [flow.output for flow in flows]}
        return Response(output=output, replace=Flow(flows, output=compared, name="relax selected"))


def _within(value: float, limit: float | None) -> bool:
    return limit is None or value <= limit
