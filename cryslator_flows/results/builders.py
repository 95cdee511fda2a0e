"""maggma builders: from the documents of a JobStore to collections that answer questions about campaigns.

`RelaxationComparisonBuilder` fills ``relaxation_comparisons``, one document for each candidate of each campaign, and
`CampaignSummaryBuilder` fills ``campaign_summaries``, one for each campaign, also while it runs. Both look only at
what is new or changed since they ran last, so they may run every few minutes beside a campaign. Give them the JobStore
that the jobs write to, here that of a campaign folder, and any maggma stores as targets:

>>> from pathlib import Path
>>> from tempfile import mkdtemp
>>> from cryslator_flows.running.local.folder import STORE_FILE, open_job_store
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

For maggma's runner, which takes several processes with ``-n``, write them to files and call
``mrun comparisons.json summaries.json``:

>>> from monty.serialization import dumpfn
>>> dumpfn(builders[0], folder / "comparisons.json")
>>> dumpfn(builders[1], folder / "summaries.json")

A document that cannot be read stops nothing: it is logged, counted in ``n_broken`` of the builder, and stands in the
target with ``state: failed`` and its ``error``, as with maggma's own builders. Remove it there to have it tried again.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from maggma.core import Builder
from monty.json import jsanitize

from cryslator_flows.documents.relaxations import RelaxationComparison
from cryslator_flows.documents.summary import CampaignSummary
from cryslator_flows.results.results import age, stage_rows, summarize_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobflow import JobStore
    from maggma.core import Store

Document = dict[str, Any]


class _IncrementalBuilder(Builder):
    """What both builders share: a document of the target for each item, whether it could be built or not.

    After a run `n_built` and `n_broken` tell how many documents were built and how many could not be.
    """

    keys: tuple[str, ...]

    def __init__(self, sources: list[Store], target: Store, chunk_size: int) -> None:
        self._target = target
        self.n_built = self.n_broken = 0
        super().__init__(sources=sources, targets=[target], chunk_size=chunk_size)

    @abstractmethod
    def _find_items(self) -> list[Document]:
        """What to build; each item holds the fields `keys` of its target document."""

    @abstractmethod
    def _build(self, item: Document) -> Document:
        """The content of the target document, beside `keys`."""

    def _read(self, item: Document) -> Document:
        """Add to an item what is read only if it is built."""
        return item

    def get_items(self) -> Iterator[Document]:
        """What is new or changed since the last build."""
        self.n_built = self.n_broken = 0
        for key in self.keys:
            self._target.ensure_index(key)
        items = self._find_items()
        self.total = len(items)
        for item in items:
            yield self._read(item)

    def process_item(self, item: Document) -> Document:
        """Build one target document; one that cannot be built has ``state: failed`` and an ``error``."""
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
        """Say what was done. The stores stay open: a MemoryStore that was closed cannot be opened again."""
        self.logger.info("%d built, %d broken", self.n_built, self.n_broken)


class RelaxationComparisonBuilder(_IncrementalBuilder):
    """Collect the `RelaxationComparison` of every candidate.

    Of several jobs that compared one candidate in one campaign the latest counts. A document has the fields of
    `RelaxationComparison`, ``campaign`` (from the job's metadata, None without), ``source`` (``uuid``, ``index`` and
    ``completed_at`` of the job), ``state`` and ``last_updated``.

    Parameters
    ----------
    job_store : JobStore
        Where the jobs of the campaigns leave their outputs.
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
            # An additional store may lack what the document refers to; jobflow raises what that store raises.
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

    A campaign has a summary from the moment its enumeration is done; it tells what happened so far. All comparisons of
    the campaign enter, whichever flow made them; if several flows enumerated under its name, the numbers before
    relaxation are those of the last one. A document has the fields of `CampaignSummary`, ``finished``,
    ``n_broken_comparisons`` (left out of all other numbers), ``source`` (a hash of all that it was made from),
    ``state`` and ``last_updated``.

    Parameters
    ----------
    job_store : JobStore
        Where the jobs of the campaigns leave their outputs.
    comparisons : Store
        The collection that `RelaxationComparisonBuilder` fills; let that one run first.
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
        return {**item, "comparisons": list(self.comparisons.query({"campaign": item["campaign"]}))}

    def _build(self, item: Document) -> Document:
        readable = [row for row in item["comparisons"] if row.get("state") == "successful"]
        comparisons = [RelaxationComparison.model_validate(row) for row in readable]
        summary = summarize_rows(item["campaign"], item["jobs"], comparisons)
        return {
            **summary.model_dump(mode="json"),
            "finished": any(row["output"].get("@class") == CampaignSummary.__name__ for row in item["jobs"]),
            "n_broken_comparisons": len(item["comparisons"]) - len(readable),
        }


def _source(row: Document) -> Document:
    return {"uuid": row["uuid"], "index": row["index"], "completed_at": row.get("completed_at")}
