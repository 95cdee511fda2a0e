"""Documents of campaigns in a JobStore, of a campaign folder or of a jobflow-remote project."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from cryslator_flows.crystals.packing import Selection, TranslatedChunk
from cryslator_flows.documents.adaptation import Adaptation, Adapted
from cryslator_flows.documents.candidates import EnumerationCounts, TranslationStats
from cryslator_flows.documents.potential import PotentialBatch, PotentialStats
from cryslator_flows.documents.references import ElementReference, FetchedPhases
from cryslator_flows.documents.relaxations import RelaxationComparison
from cryslator_flows.documents.rounds import Learned, RoundOutcome
from cryslator_flows.documents.summary import CampaignSummary
from cryslator_flows.errors import CampaignError, nearest
from cryslator_flows.jobs.gather import add_stats
from cryslator_flows.jobs.summarize import summarize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jobflow import JobStore

AnyDocument = TypeVar("AnyDocument", bound=BaseModel)
StoredRow = dict[str, Any]
STAGE_DOCUMENTS: tuple[type[BaseModel], ...] = (TranslatedChunk, Learned, Adapted, CampaignSummary)


def campaign_labels(job_store: JobStore) -> list[str]:
    """List the labels of all campaigns with documents in a connected JobStore, in alphabetical order."""
    return sorted(job_store.docs_store.distinct("metadata.campaign", {"metadata.campaign": {"$ne": None}}))


def stage_rows(job_store: JobStore, label: str | None = None) -> dict[str, list[StoredRow]]:
    """Read the documents of enumeration, translation, selection, learning and summary, without their big objects.

    Parameters
    ----------
    job_store : JobStore
        A connected JobStore.
    label : str or None
        The campaign; None for all.

    Returns
    -------
    dict
        Documents of each enumerated campaign, oldest first. Of a job the document with the highest index counts. Of
        several flows of a campaign the last flow that enumerated counts. Of translations the last round of active
        learning that has translated all chunks counts.
    """
    criteria = {
        "metadata.campaign": {"$ne": None} if label is None else label,
        # The embedded store has an index for stages, and relaxations leave large documents.
        "metadata.stage": {"$in": ["enumerate", "translate", "select", "learn", "summarize"]},
        "$or": [
            {"output.@class": {"$in": [kind.__name__ for kind in STAGE_DOCUMENTS]}},
            {"output.counts.@class": EnumerationCounts.__name__},
            {"output.n_selected": {"$exists": True}},
        ],
    }
    rows: dict[str, StoredRow] = {}
    for row in job_store.query(criteria, ["completed_at", "hosts", "metadata", "output"], load=False):
        if row["uuid"] not in rows or row["index"] > rows[row["uuid"]]["index"]:
            rows[row["uuid"]] = row
    flows: dict[tuple[str, str | None], list[StoredRow]] = {}
    newest: dict[str, str | None] = {}
    for row in sorted(rows.values(), key=age):
        campaign, flow_uuid = row["metadata"]["campaign"], _flow_uuid(row)
        flows.setdefault((campaign, flow_uuid), []).append(row)
        if "@class" not in row["output"] and "counts" in row["output"]:
            newest[campaign] = flow_uuid
    return {campaign: _newest_translations(flows[campaign, flow_uuid]) for campaign, flow_uuid in newest.items()}


def _newest_translations(rows: list[StoredRow]) -> list[StoredRow]:
    """Drop chunks that a later round translated again, and chunks of an unfinished round."""
    chunks = Counter(_round(row) for row in rows if _is(row, TranslatedChunk))
    newest = max((number for number in chunks if chunks[number] == chunks[0]), default=0)
    return [row for row in rows if not _is(row, TranslatedChunk) or _round(row) == newest]


def _round(row: StoredRow) -> int:
    """Return the round of active learning of a document; 0 before the first round, 1 after an adaptation."""
    return int(row["metadata"].get("round") or row["metadata"].get("adapted") or 0)


def summarize_rows(
    label: str, rows: list[StoredRow], comparisons: list[RelaxationComparison], references: list[ElementReference]
) -> CampaignSummary:
    """Summarize the documents so far.

    Parameters
    ----------
    label : str
        The campaign.
    rows : list of dict
        Its documents from `stage_rows`.
    comparisons : list of RelaxationComparison
        Its comparisons.
    references : list of ElementReference
        Its relaxed elements.
    """
    outputs = [row["output"] for row in rows if not _is(row, CampaignSummary)]
    learned = [row["output"]["outcomes"] for row in rows if _is(row, Learned)]
    rounds = [RoundOutcome.model_validate(outcome) for outcome in learned[-1]] if learned else []
    selections = [output for output in outputs if "n_selected" in output]
    stats = add_stats(
        [TranslationStats.model_validate(row["output"]["stats"]) for row in rows if _is(row, TranslatedChunk)],
        Counter(),
    )
    if selections:
        # A selection adds what it left out.
        stats.left_out = TranslationStats.model_validate(selections[-1]["stats"]).left_out
    return summarize(
        label,
        next(EnumerationCounts.model_validate(output["counts"]) for output in outputs[::-1] if "counts" in output),
        stats,
        selections[-1]["n_selected"] if selections else 0,
        comparisons,
        rounds,
        next(
            (PotentialStats.model_validate(found) for output in outputs[::-1] if (found := output.get("potential"))),
            None,
        ),
        next(
            (Adaptation.model_validate(row["output"]["adaptation"]) for row in rows[::-1] if _is(row, Adapted)),
            None,
        ),
        references,
    )


def load_references(job_store: JobStore, label: str) -> list[ElementReference]:
    """Read the relaxed elements of a campaign, the latest of each; empty for a campaign without them."""
    criteria = {
        "metadata.campaign": label,
        "metadata.stage": "compare",
        "output.@class": ElementReference.__name__,
    }
    rows = sorted(job_store.query(criteria, ["index", "completed_at", "output"], load=True), key=age)
    found = [ElementReference.model_validate(row["output"]) for row in rows]
    return list({item.symbol: item for item in found}.values())


def relaxed_before(job_store: JobStore, settings: Iterable[str], label: str) -> list[str]:
    """Find comparisons and relaxed elements of other campaigns with the same settings.

    Parameters
    ----------
    job_store : JobStore
        A connected JobStore.
    settings : iterable of str
        See `ScreeningFlowMaker.settings_keys` and `elements_key`.
    label : str
        The campaign that reuses them.

    Returns
    -------
    list of str
        Uuids of their jobs.
    """
    criteria = {
        "metadata.stage": "compare",
        "metadata.campaign": {"$nin": [None, label]},
        "output.settings": {"$in": [*settings]},
        "output.reused_from": None,
    }
    return [row["uuid"] for row in job_store.query(criteria, ["uuid"], load=False)]


def load_comparisons(job_store: JobStore, uuids: list[str]) -> list[RelaxationComparison]:
    """Load the comparisons of `relaxed_before`."""
    rows = job_store.query(
        {"uuid": {"$in": uuids}, "output.@class": RelaxationComparison.__name__}, ["output"], load=True
    )
    return [RelaxationComparison.model_validate(row["output"]) for row in rows]


def age(row: StoredRow) -> tuple[str, int]:
    """Return the key that sorts documents of a JobStore, oldest first."""
    return str(row.get("completed_at") or ""), row["index"]


def _flow_uuid(row: StoredRow) -> str | None:
    """Return the uuid of the outermost flow of a job."""
    return row["hosts"][-1] if row.get("hosts") else None


def _is(row: StoredRow, kind: type[BaseModel]) -> bool:
    return bool(row["output"].get("@class") == kind.__name__)


class CampaignResults:
    """The documents of one campaign, read while it runs or afterwards.

    Parameters
    ----------
    job_store : JobStore
        A connected JobStore.
    label : str
        The campaign's label, which is in the metadata of all its jobs.
    """

    def __init__(self, job_store: JobStore, label: str) -> None:
        self.job_store = job_store
        self.label = label

    def is_empty(self) -> bool:
        """Return True if no job of this campaign has left a document."""
        return self.job_store.query_one({"metadata.campaign": self.label}, ["uuid"], load=False) is None

    def stages(self) -> list[StoredRow]:
        """Read the documents of enumeration, translation, selection, learning and summary, see `stage_rows`.

        Raises
        ------
        CampaignError
            Enumeration has not ended, or the campaign does not exist.
        """
        rows = stage_rows(self.job_store, self.label).get(self.label)
        if rows is None and self.is_empty():
            known = nearest(self.label, campaign_labels(self.job_store))
            raise CampaignError(f"campaign {self.label!r}: has no results yet; {known}")
        if rows is None:
            raise CampaignError(f"campaign {self.label!r}: enumeration has not ended, there is nothing to report yet")
        return rows

    def comparisons(self) -> list[RelaxationComparison]:
        """Read the latest comparison of each candidate, lowest predicted formation energy first."""
        criteria = {
            "metadata.campaign": self.label,
            "metadata.stage": "compare",
            "output.@class": RelaxationComparison.__name__,
        }
        rows = sorted(self.job_store.query(criteria, ["completed_at"], load=False), key=age)
        latest = {item.candidate_id: item for item in self._load(rows, RelaxationComparison)}
        return sorted(latest.values(), key=lambda item: (item.formation_energy_per_atom, item.candidate_id))

    def references(self) -> list[ElementReference]:
        """Read the elements that the campaign relaxed."""
        return load_references(self.job_store, self.label)

    def fetched_phases(self) -> FetchedPhases | None:
        """Read the phases of the Materials Project that the campaign fetched; None before, or without VASP."""
        criteria = {
            "metadata.campaign": self.label,
            "metadata.stage": "select",
            "output.@class": FetchedPhases.__name__,
        }
        row = self.job_store.query_one(criteria, ["output"], sort={"completed_at": -1}, load=True)
        return None if row is None else FetchedPhases.model_validate(row["output"])

    def rounds_of(self) -> dict[str, int]:
        """Return the round of active learning by the candidate that it relaxed, also for an unfinished round."""
        criteria = {"metadata.campaign": self.label, "metadata.stage": "compare", "metadata.round": {"$ne": None}}
        rows = self.job_store.query(criteria, ["metadata"], load=False)
        return {row["metadata"]["candidate_id"]: _round(row) for row in rows}

    def selection(self) -> Selection | None:
        """Read the selection of the campaign; None before it."""
        criteria = {
            "metadata.campaign": self.label,
            "metadata.stage": "select",
            "output.@class": Selection.__name__,
        }
        row = self.job_store.query_one(criteria, ["output"], sort={"completed_at": -1}, load=True)
        return None if row is None else Selection.model_validate(row["output"])

    def selected(self) -> list[str] | None:
        """List the identifiers of the selected candidates, the most stable first; None before the selection."""
        selection = self.selection()
        return None if selection is None else selection.candidate_ids

    def potential_batches(self) -> Iterator[PotentialBatch]:
        """Yield what an interatomic potential relaxed between translation and relaxation, one job in memory at a time.

        Candidates go by their identifiers, known compounds by their formulas.
        """
        criteria = {
            "metadata.campaign": self.label,
            "metadata.stage": "potential",
            "output.@class": PotentialBatch.__name__,
        }
        rows = sorted(self.job_store.query(criteria, ["uuid", "index", "completed_at"], load=False), key=age)
        return self._load(rows, PotentialBatch)

    def chunks(self) -> Iterator[TranslatedChunk]:
        """Yield the translated chunks of the newest round of active learning, one in memory at a time."""
        return self._load([row for row in self.stages() if _is(row, TranslatedChunk)], TranslatedChunk)

    def stored_summary(self) -> CampaignSummary | None:
        """Read the summary by the campaign's last job; None before it."""
        rows = stage_rows(self.job_store, self.label).get(self.label, [])
        stored = [row for row in rows if _is(row, CampaignSummary)]
        return CampaignSummary.model_validate(stored[-1]["output"]) if stored else None

    def current_summary(self, comparisons: list[RelaxationComparison]) -> CampaignSummary:
        """Summarize the campaign so far, also while it runs.

        Parameters
        ----------
        comparisons : list of RelaxationComparison
            From `comparisons`.

        Raises
        ------
        CampaignError
            Enumeration has not ended, or the campaign does not exist.
        """
        return summarize_rows(self.label, self.stages(), comparisons, self.references())

    def _load(self, rows: list[StoredRow], kind: type[AnyDocument]) -> Iterator[AnyDocument]:
        """Yield documents with their big objects, one query each: a cursor would time out between slow uses."""
        for row in rows:
            found = self.job_store.query_one({"uuid": row["uuid"], "index": row["index"]}, ["output"], load=True)
            if found is not None:
                yield kind.model_validate(found["output"])
