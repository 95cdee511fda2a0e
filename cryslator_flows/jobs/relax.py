"""Job that makes the relaxations of selected candidates, one wave at a time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import repeat
from typing import TYPE_CHECKING

from jobflow import Flow, JobConfig, Maker, OnMissing, Response, job

from cryslator_flows.crystals.packing import TranslatedCandidates
from cryslator_flows.documents.relaxations import Digests, RelaxationComparison, Start
from cryslator_flows.jobs.placing import place
from cryslator_flows.jobs.potential_relax import elements_of
from cryslator_flows.jobs.reuse import ReuseMaker, find_known

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobflow import Job

    from cryslator_flows.documents.candidates import Translation
    from cryslator_flows.documents.references import ElementReference, Known
    from cryslator_flows.flows.relaxation_comparison import RelaxationComparisonFlowMaker

# Starts from the nearest to the relaxed structure to the farthest, as measured with DFT in workflows/dft-savings.
NEAREST: tuple[Start, ...] = ("translated_mlip", "mlip", "translated", "scaled", "unrelaxed")


@dataclass
class RelaxSelectedMaker(Maker):
    """Relax candidates in waves; the next wave is made when the last relaxation of a wave has ended or failed.

    The output of the last wave is the `Digests` of all waves.

    Parameters
    ----------
    name : str
        The job name.
    comparison_maker : RelaxationComparisonFlowMaker
        Maker of the flow that relaxes one candidate.
    reuse_maker : ReuseMaker
        Maker of the job that takes a relaxation over from another campaign.
    wave_size : int
        Candidates in a wave.
    controls : int
        Number of candidates that are relaxed from all starts, to measure the saving; see `with_controls`.
    control_starts : tuple of str
        The starts of these candidates; the others are relaxed from `other_start` alone.
    control_ids : tuple of str
        These candidates.
    uncertain_above : float or None
        A candidate whose translated structure may be farther from the minimum, in angstrom, starts from
        ``translated_mlip`` in place of ``translated``, see `Translation.distance_90`; None for no such limit.
    known_elements : tuple of str or None
        Elements whose energies by the engine are known. All others that occur are relaxed too, see
        `RelaxElementFlowMaker`; None to relax no element.

    Examples
    --------
    >>> from cryslator_flows.flows.relaxation_comparison import RelaxationComparisonFlowMaker
    >>> maker = RelaxSelectedMaker(RelaxationComparisonFlowMaker(), wave_size=20, controls=10)
    >>> maker.other_start
    'translated'
    """

    comparison_maker: RelaxationComparisonFlowMaker
    name: str = "relax wave"
    reuse_maker: ReuseMaker = field(default_factory=ReuseMaker)
    wave_size: int = 50
    controls: int = 20
    control_starts: tuple[Start, ...] = ("unrelaxed", "translated")
    control_ids: tuple[str, ...] = ()
    uncertain_above: float | None = None
    known_elements: tuple[str, ...] | None = ()

    @property
    def other_start(self) -> Start:
        """Start of all other candidates: of the control starts the one nearest to the relaxed structure."""
        return next(start for start in NEAREST if start in self.control_starts)

    def with_controls(self, chosen: TranslatedCandidates) -> RelaxSelectedMaker:
        """Return the same maker with controls chosen at random from some candidates; identifiers are hashes."""
        names = sorted(chosen.arrays()["candidate_id"].tolist())
        return replace(self, control_ids=tuple(names[: self.controls]))

    def elements_to_relax(self, chosen: TranslatedCandidates, relaxed: Iterable[ElementReference] = ()) -> list[str]:
        """List the elements of some candidates that are not known and not relaxed yet, in alphabetical order."""
        if self.known_elements is None:
            return []
        known = {*self.known_elements, *(item.symbol for item in relaxed)}
        return [symbol for symbol in elements_of(chosen) if symbol not in known]

    @job(config=JobConfig(on_missing_references=OnMissing.NONE))
    def make(
        self,
        selected: TranslatedCandidates,
        campaign: str,
        ended: list[RelaxationComparison | None],
        digests: Digests,
        prerelaxed: TranslatedCandidates | None = None,
    ) -> Response[Digests]:
        """Relax the first candidates of a list and leave the others to the next job.

        Parameters
        ----------
        selected : TranslatedCandidates
            Candidates still to relax.
        campaign : str
            Name of the campaign.
        ended : list of RelaxationComparison or None
            The wave before this one; for the first one what other campaigns relaxed.
        digests : Digests
            Digests of the waves before `ended`.
        prerelaxed : TranslatedCandidates or None
            `selected` with the structures of a potential, for the start ``translated_mlip``; None without them.
        """
        latest = [comparison.digest() for comparison in ended if comparison is not None]
        so_far = Digests(comparisons=[*digests.comparisons, *latest])
        if not selected.n_candidates:
            return Response(output=so_far)
        n_wave = min(self.wave_size, selected.n_candidates)
        wave, others = range(n_wave), range(n_wave, selected.n_candidates)
        flows = self.comparisons(selected.take(wave), campaign, None if prerelaxed is None else prerelaxed.take(wave))
        following = self.make(
            selected.take(others),
            campaign,
            [flow.output for flow in flows],
            so_far,
            None if prerelaxed is None else prerelaxed.take(others),
        )
        place(following, "select")
        return Response(replace=Flow([*flows, following], output=following.output, name="relax wave"))

    def reuse(
        self, chosen: TranslatedCandidates, campaign: str, known: Iterable[Known]
    ) -> tuple[dict[int, Job], list[int]]:
        """Make the jobs that reuse relaxations of other campaigns.

        Parameters
        ----------
        chosen : TranslatedCandidates
            The candidates.
        campaign : str
            Name of the campaign.
        known : iterable of Known
            Relaxations of other campaigns.

        Returns
        -------
        tuple
            By row of `chosen` the jobs that reuse a relaxation, each with a `RelaxationComparison` as its output. Then
            the rows of the candidates to relax.
        """
        by_formula: dict[str, list[RelaxationComparison]] = defaultdict(list)
        for item in known:
            if isinstance(item, RelaxationComparison):
                by_formula[item.reduced_formula].append(item)
        formulas = chosen.arrays()["formula"].tolist()
        rows = [row for row, formula in enumerate(formulas) if formula in by_formula]
        settings_key = cache(self.comparison_maker.settings_key)
        jobs: dict[int, Job] = {}
        for row, (candidate, translation) in zip(rows, chosen.take(rows).rows(), strict=True):
            starts = self.starts_of(candidate.candidate_id, translation)
            settings = settings_key(translation.model_name, translation.model_version, tuple(starts))
            relaxed = find_known(candidate, starts, settings, by_formula[candidate.reduced_formula])
            if relaxed is not None:
                jobs[row] = self.reuse_maker.make(relaxed, candidate, translation, starts, campaign)
                place(jobs[row], "compare", candidate_id=candidate.candidate_id)
        return jobs, [row for row in range(chosen.n_candidates) if row not in jobs]

    def comparisons(
        self, chosen: TranslatedCandidates, campaign: str, prerelaxed: TranslatedCandidates | None = None
    ) -> list[Flow]:
        """Make the flows that relax candidates and compare their starts.

        Parameters
        ----------
        chosen : TranslatedCandidates
            The candidates.
        campaign : str
            Name of the campaign.
        prerelaxed : TranslatedCandidates or None
            `chosen` with the structures of a potential; None without them.

        Returns
        -------
        list of Flow
            Each has a `RelaxationComparison` as its output.
        """
        structures = repeat(None) if prerelaxed is None else (item.structure for _, item in prerelaxed.rows())
        return [
            self.comparison_maker.make(
                candidate, translation, self.starts_of(candidate.candidate_id, translation), campaign, structure
            )
            for (candidate, translation), structure in zip(chosen.rows(), structures, strict=False)
        ]

    def starts_of(self, candidate_id: str, translation: Translation) -> list[Start]:
        """Return the starts of a candidate: all if it is a control."""
        if candidate_id in self.control_ids:
            return list(self.control_starts)
        limit, distance = self.uncertain_above, translation.distance_90()
        if self.other_start == "translated" and limit is not None and distance is not None and distance > limit:
            return ["translated_mlip"]
        return [self.other_start]
