import secrets
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pymongo
import pytest
from jobflow_remote.utils.db import MongoLock
from maggma.stores import MongoStore
from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import AutoReconnect, BulkWriteError, DuplicateKeyError, OperationFailure

from tests.conftest import ROOT
from tests.remote.project import MongoServer
from tests.support.waiting import wait_for


@pytest.fixture
def collection(mongo_uri):
    with pymongo.MongoClient(mongo_uri) as client:
        database = client[f"cryslator_test_{secrets.token_hex(6)}"]
        yield database["things"]
        client.drop_database(database.name)


@pytest.fixture
def killable(tmp_path):
    server = MongoServer(tmp_path / "journal")
    yield server
    server.kill()


@pytest.fixture
def survivor(killable):
    """A collection whose client stays the same while its server is killed."""
    with pymongo.MongoClient(killable.uri) as client:
        yield client["database"]["things"]


def numbers(documents):
    return [document["number"] for document in documents]


def test_find(collection):
    collection.insert_many([{"number": number, "even": number % 2 == 0} for number in range(10)])
    assert numbers(collection.find({"number": {"$gte": 3}}, sort=[("even", -1), ("number", 1)], skip=1, limit=4)) == [
        6, 8, 3, 5,
    ]  # fmt: skip
    assert numbers(collection.find(sort=[("number", -1)], batch_size=3)) == list(range(9, -1, -1))
    assert collection.find_one({"number": 4}, {"_id": 0, "even": 1}) == {"even": True}
    assert collection.find_one({"number": 40}) is None
    assert collection.count_documents({"even": True}) == 5
    assert collection.estimated_document_count() == 10
    assert collection.distinct("even", {"number": {"$lt": 1}}) == [True]


def test_dotted_projection_stays_nested(collection):
    collection.insert_one({"job": {"name": "relax", "hosts": ["a"]}, "state": "READY"})
    assert collection.find_one({}, {"_id": 0, "job.name": 1}) == {"job": {"name": "relax"}}


def test_regular_expressions(collection):
    collection.insert_many([{"name": "relax CaTiO3"}, {"name": "static"}])
    assert collection.count_documents({"name": {"$regex": "^relax"}}) == 1
    assert collection.count_documents({"name": {"$not": {"$regex": "^relax"}}}) == 1


def test_answers_above_16_megabytes_come_in_batches(collection):
    collection.insert_many([{"number": number, "text": "x" * 1_000_000} for number in range(20)])
    assert numbers(collection.find(sort=[("number", 1)])) == list(range(20))
    assert numbers(collection.aggregate([{"$sort": {"number": -1}}])) == list(range(19, -1, -1))


def test_update_operators(collection):
    collection.insert_one(
        {"_id": 1, "count": 1, "log": [1, 2], "tags": ["a"], "jobs": [{"state": "a"}, {"state": "b"}]}
    )
    result = collection.update_one(
        {"_id": 1},
        {
            "$inc": {"count": 2},
            "$push": {"log": {"$each": [3, 4], "$slice": -3}},
            "$addToSet": {"tags": {"$each": ["a", "b"]}},
            "$set": {"deep.value": 1},
        },
    )
    assert (result.matched_count, result.modified_count) == (1, 1)
    collection.update_one({"_id": 1}, {"$set": {"jobs.$[old].state": "c"}}, array_filters=[{"old.state": "b"}])
    assert collection.find_one({}) == {
        "_id": 1,
        "count": 3,
        "log": [2, 3, 4],
        "tags": ["a", "b"],
        "jobs": [{"state": "a"}, {"state": "c"}],
        "deep": {"value": 1},
    }
    assert collection.update_one({"_id": 1}, {"$set": {"count": 3}}).modified_count == 0
    assert collection.update_many({"_id": 2}, {"$set": {"count": 3}}).matched_count == 0


def test_pipeline_updates(collection):
    collection.insert_many([{"number": number, "state": "READY" if number else "DONE"} for number in range(3)])
    state = {"$cond": {"if": {"$eq": ["$state", "READY"]}, "then": "RUNNING", "else": "$state"}}
    assert collection.update_many({}, [{"$set": {"state": state}}]).modified_count == 2
    assert [document["state"] for document in collection.find(sort=[("number", 1)])] == ["DONE", "RUNNING", "RUNNING"]


def test_lock_of_jobflow_remote_is_held_by_one(collection):
    collection.insert_one({"name": "job", "lock_id": None})
    with MongoLock(collection, {"name": "job"}, get_locked_doc=True) as first:
        with MongoLock(collection, {"name": "job"}, get_locked_doc=True) as second:
            assert first.locked_document["name"] == "job"
            assert second.locked_document is None
            assert second.unavailable_document["lock_id"] == first.lock_id
        first.update_on_release = {"$set": {"state": "DONE"}}
    document = collection.find_one({})
    assert (document["state"], document["lock_id"]) == ("DONE", None)


def test_find_and_modify(collection):
    collection.insert_many([{"number": number} for number in (2, 1, 3)])
    before = collection.find_one_and_update({}, {"$inc": {"number": 10}}, sort=[("number", 1)], projection=["number"])
    assert before["number"] == 1
    after = collection.find_one_and_replace({"number": 11}, {"number": 5}, return_document=ReturnDocument.AFTER)
    assert after == {"_id": before["_id"], "number": 5}
    assert collection.find_one_and_delete({}, sort=[("number", -1)])["number"] == 5
    assert collection.find_one_and_update({"number": 7}, {"$set": {"name": "x"}}) is None
    made = collection.find_one_and_update(
        {"number": 7}, {"$set": {"name": "x"}}, upsert=True, return_document=ReturnDocument.AFTER
    )
    assert (made["number"], made["name"]) == (7, "x")
    assert sorted(numbers(collection.find())) == [2, 3, 7]


def test_upserts(collection):
    result = collection.update_one({"uuid": "a"}, {"$set": {"index": 1}, "$setOnInsert": {"new": True}}, upsert=True)
    assert collection.find_one({"_id": result.upserted_id}) == {
        "_id": result.upserted_id, "uuid": "a", "index": 1, "new": True,
    }  # fmt: skip
    assert collection.replace_one({"uuid": "b"}, {"uuid": "b", "_id": 5}, upsert=True).upserted_id == 5
    writes = [UpdateOne({"uuid": uuid}, {"$set": {"seen": True}}, upsert=True) for uuid in "abc"]
    assert list(collection.bulk_write(writes, ordered=False).upserted_ids) == [2]
    assert collection.count_documents({"seen": True}) == 3


def test_unique_indexes(collection):
    name = collection.create_index([("uuid", 1), ("index", 1)], unique=True)
    with pytest.raises(BulkWriteError) as failure:
        collection.insert_many([{"uuid": "a", "index": index} for index in (1, 2, 1, 3)])
    (error,) = failure.value.details["writeErrors"]
    assert (error["index"], error["code"], failure.value.details["nInserted"]) == (2, 11000, 2)
    with pytest.raises(BulkWriteError) as failure:
        collection.insert_many([{"uuid": "a", "index": index} for index in (1, 2, 3)], ordered=False)
    assert [error["index"] for error in failure.value.details["writeErrors"]] == [0, 1]
    for change in (
        lambda: collection.update_one({"index": 3}, {"$set": {"index": 1}}),
        lambda: collection.find_one_and_update({"index": 3}, {"$set": {"index": 1}}),
        lambda: collection.insert_one({"uuid": "a", "index": 1}),
    ):
        with pytest.raises(DuplicateKeyError):
            change()
    assert sorted(document["index"] for document in collection.find()) == [1, 2, 3]
    assert collection.index_information()[name]["unique"]
    collection.drop_index(name)
    collection.insert_one({"uuid": "a", "index": 1})
    with pytest.raises(DuplicateKeyError):
        collection.create_index([("uuid", 1), ("index", 1)], unique=True)
    with pytest.raises(OperationFailure, match="index not found"):
        collection.drop_index(name)


def test_aggregate(collection):
    flows = collection.database["flows"]
    collection.insert_many([{"uuid": uuid, "state": state, "big": "x"} for uuid, state in ("aR", "bR", "cF")])
    flows.insert_one({"name": "flow", "jobs": ["a", "c"]})
    groups = collection.aggregate([{"$group": {"_id": "$state", "count": {"$sum": 1}}}, {"$sort": {"_id": 1}}])
    assert list(groups) == [{"_id": "F", "count": 1}, {"_id": "R", "count": 2}]
    lookup = {"from": collection.name, "localField": "jobs", "foreignField": "uuid", "as": "list"}
    lookup["pipeline"] = [{"$project": {"_id": 0, "uuid": 1, "state": 1}}]
    (flow,) = flows.aggregate([{"$lookup": lookup}, {"$match": {"list.state": "F"}}])
    assert flow["list"] == [{"uuid": "a", "state": "R"}, {"uuid": "c", "state": "F"}]


def test_collections_and_databases(collection):
    database = collection.database
    collection.insert_one({})
    database["others"].create_index("name")
    assert sorted(database.list_collection_names()) == ["others", "things"]
    assert database.name in database.client.list_database_names()
    collection.drop()
    database["never there"].drop_indexes()
    assert database.list_collection_names() == ["others"]
    assert collection.delete_many({}).deleted_count == 0
    database.client.drop_database(database.name)
    assert database.name not in database.client.list_database_names()


def test_delete(collection):
    collection.insert_many([{"number": number} for number in range(5)])
    assert collection.delete_one({"number": {"$gt": 2}}).deleted_count == 1
    assert collection.delete_many({"number": {"$gt": 1}}).deleted_count == 2


def test_store_of_maggma(mongo_uri, collection):
    store = MongoStore(collection.database.name, "outputs", uri=mongo_uri)
    with store:
        store.ensure_index("uuid")
        store.update(
            [{"uuid": "a", "index": 1, "output": 1}, {"uuid": "a", "index": 2, "output": 2}], ["uuid", "index"]
        )
        store.update({"uuid": "a", "index": 2, "output": 3}, ["uuid", "index"])
        assert sorted(document["output"] for document in store.query({"uuid": "a"})) == [1, 3]
        assert [len(group) for _, group in store.groupby("uuid")] == [2]
        assert store.distinct("index") == [1, 2]


def test_unknown_commands_are_named(collection):
    with pytest.raises(OperationFailure, match="no such command") as failure:
        collection.database.command("noSuchThing")
    assert (failure.value.code, failure.value.details["codeName"]) == (59, "CommandNotFound")


def test_options_that_would_be_ignored_are_refused(survivor):
    survivor.insert_one({"name": "a"})
    with pytest.raises(OperationFailure, match="collation") as failure:
        survivor.find_one({"name": "A"}, collation={"locale": "en", "strength": 2})
    assert failure.value.code == 238
    with pytest.raises(OperationFailure, match="collation"):
        survivor.update_one({"name": "A"}, {"$set": {"name": "b"}}, collation={"locale": "en"})
    with pytest.raises(OperationFailure, match=r"\$out"):
        survivor.aggregate([{"$out": "others"}])
    with (
        pytest.raises(OperationFailure, match="Transaction numbers") as failure,
        survivor.database.client.start_session() as session,
        session.start_transaction(),
    ):
        survivor.find_one({}, session=session)
    assert failure.value.code == 20


def test_updates_are_atomic(collection):
    collection.insert_one({"_id": 1, "next": 0})

    def take(_):
        return collection.find_one_and_update({"_id": 1}, {"$inc": {"next": 1}})["next"]

    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(take, range(100)))
    assert sorted(taken) == list(range(100))


def test_kill_loses_no_acknowledged_write(killable, survivor):
    survivor.create_index("number", unique=True)
    acknowledged = []
    stop = threading.Event()

    def write():
        for number in range(100_000):
            if stop.is_set():
                return
            try:
                survivor.insert_one({"_id": f"{threading.get_ident()} {number}", "number": secrets.token_hex()})
            except AutoReconnect:
                continue
            acknowledged.append(f"{threading.get_ident()} {number}")

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    for _ in range(2):
        before = len(acknowledged)
        wait_for(lambda before=before: len(acknowledged) > before + 30, 30)
        killable.kill()
        killable.start()
    stop.set()
    for writer in writers:
        writer.join()
    found = set(survivor.distinct("_id"))
    assert set(acknowledged) <= found
    assert len(found) <= len(acknowledged) + 2 * len(writers)
    assert "number_1" in survivor.index_information()


def test_restart_gives_the_same_documents(killable, survivor):
    survivor.update_one({"name": "operators"}, {"$set": {"number": 1}}, upsert=True)
    survivor.replace_one({"name": "replacement"}, {"name": "replacement"}, upsert=True)
    survivor.find_one_and_update({"name": "pipeline"}, [{"$set": {"number": {"$add": [1, 1]}}}], upsert=True)
    survivor.insert_many([{"name": name} for name in "abc"])
    survivor.update_many({"name": {"$regex": "[ab]"}}, {"$push": {"list": 1}})
    survivor.delete_one({"name": "c"})
    survivor.database["dropped"].insert_one({})
    survivor.database["dropped"].drop()
    before = list(survivor.find())
    assert len(before) == 5
    killable.kill()
    killable.start()
    assert list(survivor.find()) == before
    assert survivor.database.list_collection_names() == ["things"]


@pytest.mark.parametrize("lost", [1, 30, "all but two"])
def test_broken_end_of_the_journal_is_cut_off(killable, survivor, lost):
    survivor.insert_one({"number": 1})
    size = killable.data.stat().st_size
    survivor.insert_one({"number": 2})
    killable.kill()
    content = killable.data.read_bytes()
    killable.data.write_bytes(content[: size + 2] if lost == "all but two" else content[:-lost])
    killable.start()
    assert numbers(survivor.find()) == [1]
    assert killable.data.stat().st_size == size
    survivor.insert_one({"number": 3})
    killable.kill()
    killable.start()
    assert numbers(survivor.find()) == [1, 3]


def test_journal_belongs_to_one_server(killable):
    command = [sys.executable, "-m", "tests.support.mongo_server", "--data", str(killable.data)]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"{killable.data} is in use by another server" in second.stderr
