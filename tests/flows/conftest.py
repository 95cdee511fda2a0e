import pytest
from jobflow import JobStore
from maggma.stores import MemoryStore


def memory_store() -> JobStore:
    """A JobStore in memory, with the additional store that structures go to."""
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    store.connect()
    return store


@pytest.fixture
def store() -> JobStore:
    return memory_store()
