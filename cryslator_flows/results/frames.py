"""Results of a campaign so far, as pandas DataFrames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from cryslator_flows.crystals.packing import PREDICTED, PackedCandidates, TranslatedCandidates
from cryslator_flows.documents.candidates import TRANSLATED
from cryslator_flows.documents.rounds import RoundOutcome
from cryslator_flows.documents.summary import Savings
from cryslator_flows.results.relaxed_frame import relaxed_frame
from cryslator_flows.screening.fitted_references import FittedReferences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from cryslator_flows.crystals.packing import TranslatedChunk
    from cryslator_flows.documents.references import ElementReference
    from cryslator_flows.documents.relaxations import RelaxationComparison
    from cryslator_flows.documents.summary import CampaignSummary
    from cryslator_flows.results.results import CampaignResults
    from cryslator_flows.screening.hulls import Competition

CANDIDATE_COLUMNS = [
    "candidate_id", "formula", "template_id", "substitution", "n_atoms", *TRANSLATED, "energy_above_known_hull",
    "selected",
]  # fmt: skip
RELAXATION_COLUMNS = [
    "candidate_id", "formula", "template_id", "start", "outcome", "energy_per_atom", "energy_difference",
    "engine", "ionic_steps", "electronic_steps", "n_kpoints", "attempts", "converged", "guard", "synthetic",
    "wall_time", "core_hours", "prerelaxation_engine", "prerelaxation_ionic_steps", "prerelaxation_wall_time",
    "dir_name", "error", "round", "reused_from", "job_uuids",
]  # fmt: skip
POTENTIAL_COLUMNS = [
    "formula", "fitted_formation_energy_per_atom", "energy_above_known_hull", "ionic_steps", "converged", "seconds",
    "error", "selected",
]  # fmt: skip
ROUND_COLUMNS = [name for name in RoundOutcome.model_fields if name not in ("round", "metrics", "dropped")]
# Columns in which many candidates have the same text.
SHARED_TEXTS = (
    "formula", "template_id", "substitution", "unknown_elements", "domain_reason", "model_name", "model_version"
)  # fmt: skip
FUNNEL = ["enumerated", "unique", "translated", "selected", "relaxed"]
# Columns of whole numbers or booleans, which a missing value would otherwise turn into floats or objects.
RELAXATION_TYPES = {
    "ionic_steps": "Int64",
    "electronic_steps": "Int64",
    "n_kpoints": "Int64",
    "attempts": "Int64",
    "round": "Int64",
    "prerelaxation_ionic_steps": "Int64",
    "converged": "boolean",
    "synthetic": "boolean",
}


@dataclass(frozen=True)
class CampaignFrames:
    """The results of a campaign, read at once: no store stays open, and a running campaign continues.

    Parameters
    ----------
    summary : CampaignSummary
        Funnel, savings and versions.
    candidates : DataFrame
        The translated candidates by ``candidate_id``, lowest predicted formation energy first. Columns are the fields
        of `Translation`, energies in eV/atom. ``energy_above_known_hull`` is relative to known compounds and
        references, see `Competition.energies_above`. ``selected`` is missing before the selection. ``relaxed`` is
        True if a relaxation is known to have converged.
    relaxations : DataFrame
        See `relaxations_frame`.
    savings : DataFrame
        A row for each kind of step and start; columns are the fields of `Savings`.
    rounds : DataFrame
        A row for each ``round`` of active learning; columns are the fields of `RoundOutcome` and the metrics of the
        fine-tuning. Empty without rounds.
    funnel : Series
        Number of candidates after each stage. Before the selection, the values for selection and relaxation are
        missing.
    comparisons : dict
        The comparisons of relaxed candidates by ``candidate_id``, with the unrelaxed, translated and relaxed
        structures.
    potential : DataFrame
        See `potential_frame`; empty without a potential.
    relaxed : DataFrame
        The relaxed candidates with their energies by the engine, the most stable first, see `relaxed_frame`.
    references : dict
        The relaxed elements by symbol.
    """

    summary: CampaignSummary
    candidates: pd.DataFrame
    relaxations: pd.DataFrame
    savings: pd.DataFrame
    rounds: pd.DataFrame
    funnel: pd.Series
    comparisons: dict[str, RelaxationComparison]
    potential: pd.DataFrame
    relaxed: pd.DataFrame
    references: dict[str, ElementReference]

    def to_dataframe(self) -> pd.DataFrame:
        """Return one table: `candidates`, with the columns of `relaxed` as ``relaxed_...``; they may be missing."""
        more = self.relaxed.drop(columns=["formula", "template_id", "n_atoms"]).add_prefix("relaxed_")
        return self.candidates.join(more)

    @classmethod
    def read(
        cls, results: CampaignResults, competition: Competition, element_energies: dict[str, float] | None = None
    ) -> CampaignFrames:
        """Read all results of a finished or running campaign.

        Parameters
        ----------
        results : CampaignResults
            The results of the campaign.
        competition : Competition
            Phases that the candidates may decompose into.
        element_energies : dict or None
            Energies of the elements by the engine, in eV/atom; None for those that the campaign relaxed.

        Raises
        ------
        CampaignError
            Enumeration has not ended, or the campaign does not exist.
        """
        comparisons = results.comparisons()
        summary = results.current_summary(comparisons)
        relaxations = relaxations_frame(comparisons, results.rounds_of())
        candidates = _candidates_frame(results.chunks(), competition, results.selected())
        converged = relaxations.loc[relaxations["converged"].fillna(False), "candidate_id"]
        candidates["relaxed"] = candidates.index.isin(converged)
        savings = pd.DataFrame([item.model_dump() for item in summary.savings], columns=list(Savings.model_fields))
        counts = summary.counts
        stages = {
            "enumerated": counts.enumerated,
            "unique": counts.unique,
            "translated": summary.translated,
        }
        if any("n_selected" in row["output"] for row in results.stages()):
            stages |= {"selected": summary.selected, "relaxed": summary.relaxed}
        funnel = pd.Series(stages, FUNNEL, dtype="Int64", name="candidates")
        by_id = {item.candidate_id: item for item in comparisons}
        potential = potential_frame(results, summary, competition)
        known = summary.element_energies if element_energies is None else element_energies
        return cls(
            summary,
            candidates,
            relaxations,
            savings,
            _rounds_frame(summary.rounds),
            funnel,
            by_id,
            potential,
            relaxed_frame(comparisons, known, competition, results.fetched_phases()),
            {item.symbol: item for item in results.references()},
        )


def _rounds_frame(outcomes: list[RoundOutcome]) -> pd.DataFrame:
    rows = [item.model_dump(include={"round", *ROUND_COLUMNS}) | item.metrics for item in outcomes]
    metrics = dict.fromkeys(name for item in outcomes for name in item.metrics)
    return pd.DataFrame(rows, columns=["round", *ROUND_COLUMNS, *metrics]).set_index("round")


def relaxations_frame(comparisons: list[RelaxationComparison], rounds: dict[str, int]) -> pd.DataFrame:
    """Make a table with a row for each relaxation of each candidate.

    Parameters
    ----------
    comparisons : list of RelaxationComparison
        The relaxed candidates.
    rounds : dict
        The rounds of active learning by the candidates that they relaxed.

    Returns
    -------
    DataFrame
        Candidate, start and jobs, with energies in eV/atom. ``outcome`` compares the end with the end from the
        unrelaxed start; it is None for the unrelaxed start. The cost is as in `RelaxationCost`, with electronic steps
        summed and wall time in s. ``prerelaxation_...`` is the cost of a potential before. Unknown values are missing,
        never 0.
    """
    rows = [
        row | {"round": rounds.get(comparison.candidate_id)}
        for comparison in comparisons
        for row in _relaxation_rows(comparison)
    ]
    return pd.DataFrame(rows, columns=RELAXATION_COLUMNS).astype(RELAXATION_TYPES)


def potential_frame(results: CampaignResults, summary: CampaignSummary, competition: Competition) -> pd.DataFrame:
    """Make a table of the candidates that an interatomic potential relaxed, lowest formation energy first.

    The sample of an adaptation is among them.

    Parameters
    ----------
    results : CampaignResults
        The results of the campaign.
    summary : CampaignSummary
        Its summary, with the potential's energies of the elements. The table is empty without the stage, or before it
        has ended.
    competition : Competition
        Phases that the candidates may decompose into.

    Returns
    -------
    DataFrame
        By ``candidate_id``: formula, formation energy and energy above the known hull by the potential in eV/atom,
        ionic steps, convergence, wall time in s, reason of a failure, and whether the candidate is selected. The
        formation energy is fitted: from energies of the elements that fit known compounds, see `FittedReferences`.
    """
    stats, sample = summary.potential, summary.adaptation
    if stats is None:
        return pd.DataFrame(columns=POTENTIAL_COLUMNS, index=pd.Index([], name="candidate_id"))
    energies = {**({} if sample is None else sample.element_energies), **stats.element_energies}
    references = FittedReferences(energies, stats.formation_energy_error or np.nan, stats.n_compounds)
    chosen = set(results.selected() or ())
    rows = []
    for item in (item for batch in results.potential_batches() for item in batch.relaxed if item.name != item.formula):
        energy = item.energy_per_atom
        rows.append({
            "candidate_id": item.name,
            "fitted_formation_energy_per_atom": np.nan
            if energy is None
            else references.formation_energy(item.formula, energy),
            "selected": item.name in chosen,
            **item.model_dump(include={"formula", "ionic_steps", "converged", "seconds", "error"}),
        })  # fmt: skip
    frame = pd.DataFrame(rows).drop_duplicates("candidate_id", keep="last").set_index("candidate_id")
    above = competition.energies_above(frame["formula"].tolist(), frame["fitted_formation_energy_per_atom"].tolist())
    frame["energy_above_known_hull"] = above
    return frame[POTENTIAL_COLUMNS].sort_values("fitted_formation_energy_per_atom")


def _relaxation_rows(comparison: RelaxationComparison) -> Iterable[dict[str, Any]]:
    for item in comparison.relaxations:
        cost, ending = item.cost, comparison.ending(item.start)
        row: dict[str, Any] = {
            **comparison.model_dump(include={"candidate_id", "template_id", "reused_from"}),
            **item.model_dump(include={"start", "energy_per_atom", "error"}),
            "formula": comparison.reduced_formula,
            "job_uuids": " ".join(item.job_uuids),
        }
        if ending is not None:
            row |= {"outcome": ending.outcome, "energy_difference": ending.energy_difference}
        if cost is not None:
            row |= cost.model_dump(exclude={"electronic_steps", "discarded_electronic_steps"})
            row["electronic_steps"] = cost.total_electronic_steps
        if (before := item.prerelaxation) is not None:
            row |= {f"prerelaxation_{name}": getattr(before, name) for name in ("engine", "ionic_steps", "wall_time")}
        yield row


def candidate_rows(
    translated: TranslatedCandidates, competition: Competition, chosen: list[str] | None
) -> Iterator[tuple[Any, ...]]:
    """Yield `candidate_columns` of each candidate, from the columns alone: no structure is made.

    `chosen` are the selected candidates, see `CampaignResults.selected`.
    """
    columns = _candidate_columns(translated, competition, chosen)
    above = columns["energy_above_known_hull"]
    columns["energy_above_known_hull"] = np.where(np.isnan(above), None, above)
    return zip(*(column.tolist() for column in columns.values()), strict=True)


def candidate_columns(arrays: Iterable[str]) -> list[str]:
    """Return the columns of a table of candidates: `CANDIDATE_COLUMNS` and the predicted properties among `arrays`."""
    return [*CANDIDATE_COLUMNS, *sorted(name for name in arrays if name.startswith(PREDICTED))]


def _candidate_columns(
    translated: TranslatedCandidates, competition: Competition, chosen: list[str] | None
) -> dict[str, Any]:
    """Return arrays, and categoricals for texts that many candidates share, since strings take most of the memory."""
    columns = translated.arrays()
    templates = np.array(list(translated.template_texts()), dtype=np.str_)
    columns["template_id"] = templates[columns["template"]]
    columns["substitution"] = columns["symbols"]
    columns["energy_above_known_hull"] = competition.energies_above(
        columns["formula"].tolist(), columns["formation_energy_per_atom"]
    )
    ids = columns["candidate_id"]
    columns["selected"] = np.full(len(ids), None) if chosen is None else np.isin(ids, np.array(chosen, dtype=np.str_))
    return {
        name: _categorical(columns[name], _arrows if name == "substitution" else str)
        if name in SHARED_TEXTS
        else columns[name]
        for name in candidate_columns(columns)
    }


def _categorical(texts: NDArray[np.str_], shown: Callable[[str], str]) -> pd.Categorical:
    distinct, codes = np.unique(texts, return_inverse=True)
    return pd.Categorical.from_codes(codes, pd.Index([shown(text) for text in distinct], dtype=str))


def _arrows(symbols: str) -> str:
    names = symbols.split()
    return " ".join(f"{old}->{new}" for old, new in zip(names[::2], names[1::2], strict=True))


def _candidates_frame(
    chunks: Iterable[TranslatedChunk], competition: Competition, chosen: list[str] | None
) -> pd.DataFrame:
    # Gives columns to a campaign without a chunk.
    parts = [_candidate_columns(TranslatedCandidates.add(PackedCandidates.pack([]), [], []), competition, chosen)]
    parts = [_candidate_columns(chunk.translated, competition, chosen) for chunk in chunks] or parts
    columns = {}
    for name in list(parts[0]):
        pieces = [part.pop(name) for part in parts]
        columns[name] = (
            union_categoricals(pieces, sort_categories=True) if name in SHARED_TEXTS else np.concatenate(pieces)
        )
    frame = pd.DataFrame(columns, copy=False).astype({"selected": "boolean"})
    return frame.sort_values(["formation_energy_per_atom", "candidate_id"]).set_index("candidate_id")
