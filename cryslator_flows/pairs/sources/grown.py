"""Pairs that a flow has grown, read from a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryslator_flows.documents.grown_pairs import PairsChunk
from cryslator_flows.errors import DataError
from cryslator_flows.pairs.raw import Dropped
from cryslator_flows.training.records import PairRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobflow import JobStore


def grown_pairs(job_store: JobStore, name: str) -> Iterator[PairRecord | Dropped]:
    """Yield the pairs, and the dropped candidates, of flows of `PairsFlowMaker` in a JobStore so far.

    Parameters
    ----------
    job_store : JobStore
        A connected JobStore.
    name : str
        Name of the flows. If several flows have a candidate, each of its pairs is yielded.

    Yields
    ------
    PairRecord or Dropped
        One for each candidate of finished chunks and for each of its intermediates, the input of
        `cryslator_flows.pairs.make.PairFolder`.
    """
    # Not just "pairs": jobflow would move metadata of this name to the additional store with the pairs of a chunk.
    found = job_store.query({"metadata.pairs_flow": name, "output.@class": PairsChunk.__name__}, ["uuid", "index"])
    for row in sorted(found, key=lambda row: row["uuid"]):
        # One by one: a chunk may be large, and a cursor would time out during slow use.
        document = job_store.query_one({"uuid": row["uuid"], "index": row["index"]}, ["output"], load=True)
        if document is None:
            raise DataError(f"{name!r}: job {row['uuid']} was removed while its pairs were read; read them again")
        chunk = PairsChunk.model_validate(document["output"])
        for rejection in chunk.rejections:
            yield Dropped(rejection.candidate_id, rejection.reason)
        for pair in chunk.pairs:
            yield PairRecord.model_validate(pair)
