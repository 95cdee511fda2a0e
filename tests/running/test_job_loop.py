from jobflow import Flow, JobStore, Response, job
from maggma.stores import MemoryStore

from cryslator_flows.running.local.job_loop import LocalRun


@job
def double(number):
    return 2 * number


@job
def begin():
    return Response(output=1, addition=[double(3), double(4)])


def test_a_job_may_add_a_list_of_jobs(tmp_path):
    store, journal = JobStore(MemoryStore(), additional_stores={}), MemoryStore(key="entry")
    store.connect()
    journal.connect()
    run = LocalRun(store, journal, tmp_path, lambda *_: None)
    run.run(Flow([begin()]))
    assert run.failed == set()
    assert sorted(row["output"] for row in store.query()) == [1, 6, 8]
