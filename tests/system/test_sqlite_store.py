import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maggma.core import Sort
from maggma.stores import MemoryStore

from cryslator_flows.errors import StoreError
from cryslator_flows.system.sqlite_store import SQLiteStore

keys = st.tuples(st.sampled_from("abc"), st.integers(1, 2))
documents = st.lists(
    st.builds(lambda key, value: {"uuid": key[0], "index": key[1], "value": value}, keys, st.integers(0, 5)), max_size=8
)
queries = st.sampled_from(
    [
        {}, {"uuid": "a"}, {"uuid": {"$in": ["a", "b"]}}, {"uuid": {"$in": []}}, {"uuid": "a", "index": 2},
        {"value": {"$gte": 3}}, {"uuid": {"$in": ["a", None]}}, {"uuid": {"$in": ["a"], "$ne": "a"}},
        {"uuid": {"$ne": "a"}}, {"$or": [{"uuid": "a"}, {"value": 1}]},
    ]
)  # fmt: skip


@pytest.fixture
def store(tmp_path):
    store = SQLiteStore(str(tmp_path / "deep" / "a.sqlite"), key="uuid")
    store.connect()
    yield store
    store.close()


def plain(rows):
    return sorted((row["uuid"], row["index"], row["value"]) for row in rows)


@given(st.lists(documents, max_size=4), queries)
@settings(max_examples=60)
def test_answers_like_maggmas_memory_store(tmp_path_factory, updates, criteria):
    ours = SQLiteStore(str(tmp_path_factory.mktemp("s") / "a.sqlite"))
    theirs = MemoryStore()
    for store in (ours, theirs):
        store.connect()
        for update in updates:
            unique = {(row["uuid"], row["index"]): row for row in update}
            store.update([dict(row) for row in unique.values()], key=["uuid", "index"])
    assert plain(ours.query(criteria)) == plain(theirs.query(criteria))
    for properties in (None, ["uuid", "index"], ["index", "no such"], {"value": 1}, {"uuid": 0}):
        for sort in (None, {"uuid": -1, "index": 1}, {"index": Sort.Descending, "uuid": Sort.Ascending}):
            page = {"sort": sort, "skip": 1, "limit": 2} if sort else {}
            found = [
                [{name: value for name, value in row.items() if name != "_id"} for row in rows]
                for rows in (store.query(criteria, properties, **page) for store in (ours, theirs))
            ]
            assert found[0] == found[1] or (not sort and sorted(map(str, found[0])) == sorted(map(str, found[1])))
    assert ours.count(criteria) == theirs.count(criteria)
    for store in (ours, theirs):
        store.remove_docs(criteria)
    assert plain(ours.query()) == plain(theirs.query())
    ours.close()


def test_properties_sort_limit_and_groups(store):
    store.update([{"uuid": str(n), "n": n, "even": n % 2 == 0, "deep": {"x": n, "y": 0}} for n in range(6)])
    rows = list(store.query(properties=["n", "deep.x"], sort={"n": -1}, skip=1, limit=2))
    assert [(row["n"], row["deep"]) for row in rows] == [(4, {"x": 4}), (3, {"x": 3})]
    groups = {key["even"]: len(rows) for key, rows in store.groupby("even")}
    assert groups == {True: 3, False: 3}
    assert sorted(store.distinct("n")) == list(range(6))


@pytest.mark.parametrize("criteria", [{"uuid": "7"}, {"uuid": "7", "index": 1}, {"uuid": "7", "stage": "relax"}])
def test_one_document_is_found_as_fast_among_many(tmp_path, criteria):
    store = SQLiteStore(str(tmp_path / "a.sqlite"), indexed=("uuid", "stage"))
    store.connect()
    ticks = []
    store.database.set_progress_handler(lambda: ticks.append(1), 20)
    spent = []
    for number in (20, 1000):
        store.update([{"uuid": str(n), "index": 1, "stage": "relax"} for n in range(number)], key="uuid")
        for sort in (None, {"index": -1}):
            ticks.clear()
            assert store.query_one(criteria, ["index"], sort=sort)["index"] == 1
            spent.append(len(ticks))
    assert spent[2:] == pytest.approx(spent[:2], abs=5)
    store.close()


def test_changes_are_read_once_in_their_newest_state(store):
    assert store.revision == 0
    store.update([{"uuid": name, "n": 0} for name in "abc"])
    seen = list(store.changes())
    assert [row["uuid"] for _, row in seen] == ["a", "b", "c"]
    last = seen[-1][0]
    store.remove_docs({"uuid": "c"})
    store.update({"uuid": "a", "n": 1})
    store.update({"uuid": "d", "n": 1})
    store.update({"uuid": "a", "n": 2})
    assert [(row["uuid"], row["n"]) for _, row in store.changes(last)] == [("d", 1), ("a", 2)]
    assert store.revision == max(revision for revision, _ in store.changes())
    assert list(store.changes(store.revision)) == []


def test_dates_survive(store):
    when = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
    store.update({"uuid": "a", "when": when})
    assert store.query_one({"uuid": "a"})["when"].replace(tzinfo=UTC) == when


def test_another_process_sees_it(store):
    store.update({"uuid": "a"})
    code = (
        "import sys; from cryslator_flows.system.sqlite_store import SQLiteStore;"
        "s = SQLiteStore(sys.argv[1]); s.connect(); s.update({'uuid': 'b'}, key='uuid'); print(s.count())"
    )
    result = subprocess.run([sys.executable, "-c", code, store.path], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "2"
    assert store.count() == 2


WRITER = """
import sys
from cryslator_flows.system.sqlite_store import SQLiteStore
store = SQLiteStore(sys.argv[1])
store.connect()
for number in range(10**9):
    store.update([{"uuid": f"{number}-{half}", "fill": "x" * 20000} for half in "ab"], key="uuid")
    print(number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("updates", [1, 20, 50])
def test_killed_while_writing_loses_nothing_that_was_stored(tmp_path, updates):
    path = str(tmp_path / "a.sqlite")
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as writer:
        seen = [int(writer.stdout.readline()) for _ in range(updates)]
        writer.send_signal(signal.SIGKILL)
        written = [*seen, *(int(line) for line in writer.stdout)][-1]
    store = SQLiteStore(path)
    store.connect()
    found = {row["uuid"] for row in store.query(properties=["uuid"])}
    assert {f"{number}-{half}" for number in range(written + 1) for half in "ab"} <= found
    assert len(found) % 2 == 0  # both documents of an update or none
    assert store.database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store.update({"uuid": "after"}, key="uuid")


@pytest.mark.parametrize("place", ["/proc/nowhere/a.sqlite", "/dev/null/a.sqlite"])
def test_unwritable_path(place):
    with pytest.raises(StoreError, match=r"cannot be written .*choose another path"):
        SQLiteStore(place).connect()


def test_file_that_is_no_database(tmp_path):
    path = tmp_path / "a.sqlite"
    path.write_text("not a database, but quite long enough to be looked at" * 30)
    with pytest.raises(StoreError, match="not a database"):
        SQLiteStore(str(path)).connect()
    assert path.read_text().startswith("not a database")


def test_failed_write_keeps_the_rest(store):
    store.update({"uuid": "a"})
    (pages,) = store.database.execute("PRAGMA page_count").fetchone()
    store.database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="nothing stored was lost"):
        store.update([{"uuid": "b"}, {"uuid": "c", "fill": "x" * 100_000}])
    assert [row["uuid"] for row in store.query()] == ["a"]


def flip(path, word):
    """Flip a bit of each word in a file."""
    content = path.read_bytes()
    assert word in content
    path.write_bytes(content.replace(word, bytes([word[0] ^ 1]) + word[1:]))


def test_flipped_bit_is_named(store):
    store.update([{"uuid": "a", "energy": "-31415"}, {"uuid": "b", "energy": "-27182"}])
    store.close()
    path = Path(store.path)
    flip(path, b"-31415")
    store.connect()
    for question in ({}, {"uuid": "a"}):
        with pytest.raises(
            StoreError, match=r"a\.sqlite: cannot be read \(the checksum of document .*a.* not fit"
        ) as caught:
            list(store.query(question))
        assert "restore the file from a copy" in str(caught.value)
    assert store.query_one({"uuid": "b"})["energy"] == "-27182"


@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
def test_damaged_pages_are_named(store, fill):
    store.update([{"uuid": str(number), "fill": "x" * 3000} for number in range(20)])
    store.close()
    path = Path(store.path)
    content = path.read_bytes()
    path.write_bytes(content[:8192] + fill * (len(content) - 8192))

    def read():
        store.connect()
        return list(store.query())

    with pytest.raises(StoreError, match=r"a\.sqlite: cannot be "):
        read()


def test_full_disk_is_named(store):
    (pages,) = store.database.execute("PRAGMA page_count").fetchone()
    store.database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match=r"a\.sqlite: cannot be written \(No space left on device\); free some space"):
        store.update({"uuid": "a", "fill": "x" * 100_000})


def test_read_only_store_changes_nothing(store):
    store.update({"uuid": "a"})
    reading = SQLiteStore(store.path, read_only=True, key="uuid")
    reading.connect()
    store.update({"uuid": "b"})
    assert sorted(row["uuid"] for row in reading.query()) == ["a", "b"]
    with pytest.raises(StoreError, match="cannot be written"):
        reading.update({"uuid": "c"})
    assert store.count() == 2
    reading.close()
    nowhere = SQLiteStore(f"{store.path}.other", read_only=True)
    with pytest.raises(StoreError, match="cannot be read"):
        nowhere.connect()
    assert not Path(nowhere.path).exists()


def test_relative_path_where_jobs_change_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("a.sqlite")
    store.connect()
    (tmp_path / "job").mkdir()
    monkeypatch.chdir(tmp_path / "job")
    store.update({"uuid": "a"}, key="uuid")
    assert store.count() == 1
    store.close()
    assert not list((tmp_path / "job").iterdir())


def test_not_connected(tmp_path):
    with pytest.raises(StoreError, match="connect"):
        list(SQLiteStore(str(tmp_path / "a.sqlite")).query())
    assert not (tmp_path / "a.sqlite").exists()


def test_survives_serialisation(store):
    again = SQLiteStore.from_dict(store.as_dict())
    assert again == store
    assert sqlite3.sqlite_version_info >= (3, 9)  # JSON functions
