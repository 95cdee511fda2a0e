import pytest
from jobflow import JobStore
from maggma.stores import MemoryStore
from monty.json import jsanitize

from cryslator_flows.documents.candidates import Rejection
from cryslator_flows.documents.grown_pairs import PairCounts, PairsChunk
from cryslator_flows.errors import DataError
from cryslator_flows.pairs.sources.grown import grown_pairs


def test_a_chunk_that_is_removed_while_pairs_are_read_is_reported():
    store = JobStore(MemoryStore())
    store.connect()
    for uuid in ("a", "b"):
        rejection = Rejection(candidate_id=f"candidate {uuid}", reason="failed")
        chunk = PairsChunk(counts=PairCounts(), rejections=[rejection], pairs=[])
        metadata = {"pairs_flow": "oxides"}
        store.update(
            {"uuid": uuid, "index": 1, "metadata": metadata, "output": jsanitize(chunk, strict=True, enum_values=True)}
        )
    found = grown_pairs(store, "oxides")
    assert next(found).name == "candidate a"
    store.docs_store.remove_docs({"uuid": "b"})
    with pytest.raises(DataError, match="job b was removed"):
        next(found)
