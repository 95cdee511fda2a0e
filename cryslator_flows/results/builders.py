"""maggma builders, which make collections about campaigns from the documents of a JobStore.

`RelaxationComparisonBuilder` fills ``relaxation_comparisons``, one document for each candidate of each campaign.
`CampaignSummaryBuilder` fills ``campaign_summaries``, one for each campaign, also while it runs. Both read only
new or changed documents, so they may run every few minutes beside a campaign. Give them the JobStore of the jobs, here
the store of a campaign folder, and any maggma stores as targets:

>>> from pathlib import Path
>>> from tempfile import mkdtemp
>>> from cryslator_flows.crystals.source_files import STORE_FILE
>>> from cryslator_flows.running.local.folder import open_job_store
>>> from cryslator_flows.system.sqlite_store import SQLiteStore
>>> folder = Path(mkdtemp())  # runs/NAME
>>> job_store = open_job_store(folder)
>>> comparisons = SQLiteStore(str(folder / STORE_FILE), "relaxation_comparisons", key="candidate_id")
>>> summaries = SQLiteStore(str(folder / STORE_FILE), "campaign_summaries", key="campaign")
>>> builders = [
...     RelaxationComparisonBuilder(job_store, comparisons),
...     CampaignSummaryBuilder(job_store, comparisons, summaries),
... ]
>>> for builder in builders:
...     builder.run(log_level="WARNING")

For maggma's runner, which uses several processes with ``-n``, write them to files and run
``mrun comparisons.json summaries.json``:

>>> from monty.serialization import dumpfn
>>> dumpfn(builders[0], folder / "comparisons.json")
>>> dumpfn(builders[1], folder / "summaries.json")

A document that cannot be read stops nothing. It is logged and counted in ``n_broken`` of the builder. The target holds
it with ``state: failed`` and its ``error``, as with maggma's own builders. Remove it there to try it again.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from maggma.core import Builder
from monty.json import jsanitize

from cryslator_flows.documents.references import ElementReference
from cryslator_flows.documents.relaxations import RelaxationComparison
from cryslator_flows.documents.summary import CampaignSummary
from cryslator_flows.results.results import age, load_references, stage_rows, summarize_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobflow import JobStore
    from maggma.core import Store

Document = dict[str, Any]


class _IncrementalBuilder(Builder):
    """Base of both builders: one document in the target for each item, built or failed.

    After a run `n_built` and `n_broken` are the numbers of documents that were built and that failed.
    """

    keys: tuple[str, ...]

    def __init__(self, sources: list[Store], target: Store, chunk_size: int) -> None:
        self._target = target
        self.n_built = self.n_broken = 0
        super().__init__(sources=sources, targets=[target], chunk_size=chunk_size)

    @abstractmethod
    def _find_items(self) -> list[Document]:
        """List the items to build; each holds the fields `keys` of its target document."""

    @abstractmethod
    def _build(self, item: Document) -> Document:
        """Return the content of the target document, without `keys`."""

    def _read(self, item: Document) -> Document:
        """Add to an item the fields that are read only if it is built."""
        return item

    def get_items(self) -> Iterator[Document]:
        """Yield the items that are new or changed since the last build."""
        self.n_built = self.n_broken = 0
        for key in self.keys:
            self._target.ensure_index(key)
        items = self._find_items()
        self.total = len(items)
        for item in items:
            yield self._read(item)

    def process_item(self, item: Document) -> Document:
        """Build one target document; a failed document has ``state: failed`` and an ``error``."""
        try:
            content = {**self._build(item), "state": "successful"}
        except Exception as error:
            content = {"state": "failed", "error": f"{type(error).__name__}: {error}"}
        keys = {key: item[key] for key in (*self.keys, "source")}
        return {**content, **keys, self._target.last_updated_field: datetime.now(UTC)}

    def update_targets(self, items: list[Document]) -> None:
        """Write built documents."""
        for item in items:
            if item["state"] == "failed":
                self.n_broken += 1
                self.logger.error("%s, source %s: %s", [item[key] for key in self.keys], item["source"], item["error"])
            else:
                self.n_built += 1
        if items:
            self._target.update(items, key=list(self.keys))

    def finalize(self) -> None:
        """Log the counts. The stores stay open: a closed MemoryStore cannot be opened again."""
        self.logger.info("%d built, %d broken", self.n_built, self.n_broken)


class RelaxationComparisonBuilder(_IncrementalBuilder):
    """Collect the `RelaxationComparison` of every candidate.

    If several jobs compared one candidate in one campaign, the latest counts. A document has the fields of
    `RelaxationComparison`. It also has ``campaign`` (from the job's metadata, else None), ``source`` (``uuid``,
    ``index`` and ``completed_at`` of the job), ``state`` and ``last_updated``.

    Parameters
    ----------
    job_store : JobStore
        The store with the outputs of the campaigns' jobs.
    comparisons : Store
        The collection to fill, keyed by ``campaign`` and ``candidate_id``.
    chunk_size : int
        Documents written at once.
    """

    keys = ("campaign", "candidate_id")

    def __init__(self, job_store: JobStore, comparisons: Store, chunk_size: int = 100) -> None:
        self.job_store = job_store
        self.comparisons = comparisons
        super().__init__([job_store], comparisons, chunk_size)

    def _find_items(self) -> list[Document]:
        newest: dict[tuple[str | None, str], Document] = {}
        fields = ["completed_at", "metadata", "output.candidate_id"]
        for row in self.job_store.query({"output.@class": RelaxationComparison.__name__}, fields, load=False):
            metadata = row.get("metadata") or {}
            candidate_id = row.get("output", {}).get("candidate_id") or metadata.get("candidate_id") or row["uuid"]
            key = metadata.get("campaign"), str(candidate_id)
            if key not in newest or age(row) > age(newest[key]):
                newest[key] = _source(row)
        rows = self.comparisons.query(properties=[*self.keys, "source"])
        built = {tuple(row.get(name) for name in self.keys): row.get("source") for row in rows}
        return [
            {"campaign": campaign, "candidate_id": candidate_id, "source": source}
            for (campaign, candidate_id), source in newest.items()
            if built.get((campaign, candidate_id)) != source
        ]

    def _read(self, item: Document) -> Document:
        source = {name: item["source"][name] for name in ("uuid", "index")}
        try:
            row = self.job_store.query_one(source, ["output"], load=True)
        except Exception as error:
            # An additional store may lack an object of the document; jobflow raises the error of this store.
            return {**item, "unreadable": f"additional stores: {type(error).__name__}: {error}"}
        if row is None:
            return {**item, "unreadable": "the job was removed while it was read; build again"}
        return {**item, "output": row["output"]}

    def _build(self, item: Document) -> Document:
        if "unreadable" in item:
            raise ValueError(item["unreadable"])
        return jsanitize(RelaxationComparison.model_validate(item["output"]).model_dump(), strict=True)


class CampaignSummaryBuilder(_IncrementalBuilder):
    """Sum up every campaign, finished or not.

    A campaign has a summary as soon as its enumeration is done; it covers the campaign so far. All comparisons of the
    campaign count, from all its flows. If several flows enumerated under its name, the numbers before relaxation come
    from the last flow. A document has the fields of `CampaignSummary`. It also has ``finished``,
    ``n_broken_comparisons`` (in no other number), ``source`` (a hash of its sources), ``state`` and ``last_updated``.

    Parameters
    ----------
    job_store : JobStore
        The store with the outputs of the campaigns' jobs.
    comparisons : Store
        The collection that `RelaxationComparisonBuilder` fills; run this builder first.
    summaries : Store
        The collection to fill, keyed by ``campaign``.
    chunk_size : int
        Documents written at once.
    """

    keys = ("campaign",)

    def __init__(self, job_store: JobStore, comparisons: Store, summaries: Store, chunk_size: int = 10) -> None:
        self.job_store = job_store
        self.comparisons = comparisons
        self.summaries = summaries
        super().__init__([job_store, comparisons], summaries, chunk_size)

    def _find_items(self) -> list[Document]:
        compared: dict[str, list[Document | None]] = {}
        for row in self.comparisons.query({"campaign": {"$ne": None}}, ["campaign", "source"]):
            compared.setdefault(row["campaign"], []).append(row.get("source"))
        elements = {"metadata.stage": "compare", "output.@class": ElementReference.__name__}
        for row in self.job_store.query(elements, ["uuid", "index", "completed_at", "metadata"], load=False):
            compared.setdefault(row["metadata"].get("campaign"), []).append(_source(row))
        built = {row["campaign"]: row.get("source") for row in self.summaries.query(properties=["campaign", "source"])}
        items = []
        for campaign, rows in stage_rows(self.job_store).items():
            sources = [*map(_source, rows), *compared.get(campaign, [])]
            lines = sorted(json.dumps(source, sort_keys=True, default=str) for source in sources)
            digest = sha256("\n".join(lines).encode()).hexdigest()
            if built.get(campaign) != digest:
                items.append({"campaign": campaign, "source": digest, "jobs": rows})
        return items

    def _read(self, item: Document) -> Document:
        return {
            **item,
            "comparisons": list(self.comparisons.query({"campaign": item["campaign"]})),
            "references": load_references(self.job_store, item["campaign"]),
        }

    def _build(self, item: Document) -> Document:
        readable = [row for row in item["comparisons"] if row.get("state") == "successful"]
        comparisons = [RelaxationComparison.model_validate(row) for row in readable]
        summary = summarize_rows(item["campaign"], item["jobs"], comparisons, item["references"])
        return {
            **summary.model_dump(mode="json"),
            "finished": any(row["output"].get("@class") == CampaignSummary.__name__ for row in item["jobs"]),
            "n_broken_comparisons": len(item["comparisons"]) - len(readable),
        }


def _source(row: Document) -> Document:
    return {"uuid": row["uuid"], "index": row["index"], "completed_at": row.get("completed_at")}
