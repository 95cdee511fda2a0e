from collections import Counter

import pytest
from jobflow import Flow, JobConfig, JobStore, OnMissing, Response, job
from maggma.stores import MemoryStore

from cryslator_flows.running.local.job_loop import LocalRun


@job
def double(number):
    return 2 * number


@job
def begin():
    return Response(output=1, addition=[double(3), double(4)])


@job
def end(reason):
    if reason:
        raise ValueError(reason)


@job(config=JobConfig(on_missing_references=OnMissing.NONE))
def follow(before):
    raise ValueError("nothing before")


def run_counting(tmp_path, jobs):
    store, journal = JobStore(MemoryStore(), additional_stores={}), MemoryStore(key="entry")
    store.connect()
    journal.connect()
    happened = Counter()
    LocalRun(store, journal, tmp_path, lambda what, _: happened.update([what])).run(Flow(jobs))
    return happened["failed"], happened["skipped"]


@pytest.mark.parametrize(
    ("reasons", "counts"),
    [
        ([f"no file in process {number}" for number in range(8)], (5, 3)),
        (["no file", "no disk", *["no file"] * 6], (8, 0)),
        (["no file", "", *["no file"] * 6], (7, 0)),
    ],
)
def test_stage_stops_only_if_its_first_jobs_fail_alike(tmp_path, reasons, counts):
    jobs = [end(reason) for reason in reasons]
    for made in jobs:
        made.update_metadata({"stage": "relax"})
    assert run_counting(tmp_path, jobs) == counts


def test_jobs_that_fail_for_the_failure_before_them_do_not_count(tmp_path):
    jobs = []
    for number in range(6):
        first = end("ABCDEF"[number])
        jobs += [first, follow(first.output)]
    for made in jobs:
        made.update_metadata({"stage": "relax"})
    assert run_counting(tmp_path, jobs) == (12, 0)


def test_a_job_may_add_a_list_of_jobs(tmp_path):
    store, journal = JobStore(MemoryStore(), additional_stores={}), MemoryStore(key="entry")
    store.connect()
    journal.connect()
    run = LocalRun(store, journal, tmp_path, lambda *_: None)
    run.run(Flow([begin()]))
    assert run.failed == set()
    assert sorted(row["output"] for row in store.query()) == [1, 6, 8]
