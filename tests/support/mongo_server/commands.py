"""The commands, on an in-process client of mongomock-ng."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import bson
import mongomock_ng
from bson.raw_bson import RawBSONDocument
from mongomock_ng.filtering import filter_applies
from pymongo.errors import DuplicateKeyError, OperationFailure

Document = dict[str, Any]

MAX_DOCUMENT = 16 * 1024 * 1024
# Options of every command that do not change the answer of a single server.
COMMON = {"$db", "lsid", "$clusterTime", "$readPreference", "readConcern", "writeConcern", "maxTimeMS", "comment"}
NAMES = {2: "BadValue", 20: "IllegalOperation", 26: "NamespaceNotFound", 27: "IndexNotFound", 43: "CursorNotFound"}
NAMES |= {59: "CommandNotFound", 96: "OperationFailed", 238: "NotImplemented", 11000: "DuplicateKey"}
WRITES = {"insert", "update", "delete", "findAndModify", "createIndexes", "dropIndexes", "drop", "dropDatabase"}
# Answered while another command runs, as a server does: a driver takes silence for a dead server.
STATELESS = {"hello", "ismaster", "isMaster", "ping", "buildInfo", "buildinfo"}
COMMANDS: dict[str, tuple[Callable[["Commands", Document], Document], set[str]]] = {}


def command(*names: str, options: str = "") -> Callable:
    """Register a method under its command's names, with the options that it takes besides the common ones."""

    def register(method: Callable) -> Callable:
        COMMANDS.update(dict.fromkeys(names, (method, set(options.split()))))
        return method

    return register


def failure(error: Exception) -> Document:
    """Code and message of an error, as a server tells them."""
    if isinstance(error, DuplicateKeyError):
        return {"code": 11000, "errmsg": f"E11000 duplicate key error {error.details}", **(error.details or {})}
    if isinstance(error, NotImplementedError):
        return {"code": 238, "errmsg": str(error)}
    if isinstance(error, OperationFailure):
        return {"code": error.code or 96, "errmsg": str(error)}
    return {"code": 2, "errmsg": f"{type(error).__name__}: {error}"}


def refuse_unknown(what: str, given: Iterable[str], known: set[str]) -> None:
    """Raise an error where something is given that would be ignored."""
    if unknown := set(given) - known:
        raise NotImplementedError(f"{what} with {sorted(unknown)} is not known to the test server")


def is_replacement(update: Any) -> bool:
    """Whether an update is a whole document, neither operators nor a pipeline."""
    return not isinstance(update, list) and not next(iter(update), "").startswith("$")


def with_id(collection: Any, query: Document, update: Any) -> Any:
    """The update of an upsert with the new document's id in it; an id that it has, from the journal say, is kept."""
    if "_id" in query or collection.count_documents(query):
        return update
    new = {"_id": bson.ObjectId()}
    if isinstance(update, list):
        return [{"$set": new}, *update]
    if is_replacement(update):
        return new | update
    return update | {"$setOnInsert": new | update.get("$setOnInsert", {})}


def write_each(statements: list[Document], ordered: bool, write: Callable[[int, Document], None]) -> Document:
    """Run the statements of one command; the errors of those that failed are part of the reply."""
    errors = []
    for index, statement in enumerate(statements):
        try:
            write(index, statement)
        except Exception as error:
            errors.append({"index": index, **failure(error)})
            if ordered:
                break
    return {"writeErrors": errors} if errors else {}


class Commands:
    """A server's state and its commands, one method for each."""

    def __init__(self) -> None:
        self.client = mongomock_ng.MongoClient()
        self.cursors: dict[int, tuple[str, deque[RawBSONDocument]]] = {}
        self.cursor_ids = itertools.count(1)

    def run(self, request: Document) -> Document:
        """Run a command and give its reply; ids that are made here are put into the command."""
        name = next(iter(request))
        try:
            if name not in COMMANDS:
                raise OperationFailure(f"no such command: '{name}'", 59)
            if "txnNumber" in request:
                raise OperationFailure("Transaction numbers are only allowed on a replica set member or mongos", 20)
            method, options = COMMANDS[name]
            refuse_unknown(name, request, {name} | COMMON | options)
            return {**method(self, request), "ok": 1.0}
        except Exception as error:
            reply = failure(error)
            return {"ok": 0.0, **reply, "codeName": NAMES.get(reply["code"], f"Location{reply['code']}")}

    def _collection(self, request: Document, must_exist: bool = False) -> Any:
        collection = self.client[request["$db"]][request[next(iter(request))]]
        if must_exist and collection.name not in collection.database.list_collection_names():
            raise OperationFailure(f"ns not found {collection.full_name}", 26)
        return collection

    @command("hello", "ismaster", "isMaster", options="client compression helloOk loadBalanced saslSupportedMechs")
    def hello(self, request: Document) -> Document:
        limits = {"maxBsonObjectSize": MAX_DOCUMENT, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000}
        versions = {"minWireVersion": 0, "maxWireVersion": 17, "logicalSessionTimeoutMinutes": 30, "readOnly": False}
        primary = {"isWritablePrimary": True, "ismaster": True, "helloOk": True, "localTime": datetime.now(UTC)}
        return primary | limits | versions

    @command("ping")
    @command("endSessions")
    def ping(self, request: Document) -> Document:
        return {}

    @command("buildInfo", "buildinfo")
    def build_info(self, request: Document) -> Document:
        return {"version": "6.0.0", "versionArray": [6, 0, 0, 0], "bits": 64, "maxBsonObjectSize": MAX_DOCUMENT}

    def _cursor(self, namespace: str, documents: Iterable[Document], size: int | None = None) -> Document:
        waiting = deque(RawBSONDocument(bson.encode(document)) for document in documents)
        return self._batch("firstBatch", next(self.cursor_ids), namespace, waiting, size)

    def _batch(
        self, name: str, cursor: int, namespace: str, waiting: deque[RawBSONDocument], size: int | None
    ) -> Document:
        batch: list[RawBSONDocument] = []
        length = 0
        while waiting and (size is None or len(batch) < size):
            length += len(waiting[0].raw)
            if batch and length > MAX_DOCUMENT:
                break
            batch.append(waiting.popleft())
        self.cursors[cursor] = (namespace, waiting)
        if not waiting:
            del self.cursors[cursor]
            cursor = 0
        return {"cursor": {name: batch, "id": bson.Int64(cursor), "ns": namespace}}

    @command("find", options="filter projection sort skip limit batchSize singleBatch noCursorTimeout")
    def find(self, request: Document) -> Document:
        collection = self._collection(request)
        documents = collection.find(
            request.get("filter", {}),
            request.get("projection") or None,
            skip=request.get("skip", 0),
            limit=request.get("limit", 0),
            sort=list(request.get("sort", {}).items()) or None,
        )
        return self._cursor(
            collection.full_name, documents, None if request.get("singleBatch") else request.get("batchSize")
        )

    @command("getMore", options="collection batchSize")
    def get_more(self, request: Document) -> Document:
        cursor = request["getMore"]
        if cursor not in self.cursors:
            raise OperationFailure(f"cursor id {cursor} not found", 43)
        return self._batch("nextBatch", cursor, *self.cursors[cursor], request.get("batchSize") or None)

    @command("killCursors", options="cursors")
    def kill_cursors(self, request: Document) -> Document:
        killed = [cursor for cursor in request["cursors"] if self.cursors.pop(cursor, None)]
        rest = [cursor for cursor in request["cursors"] if cursor not in killed]
        return {"cursorsKilled": killed, "cursorsNotFound": rest, "cursorsAlive": [], "cursorsUnknown": []}

    @command("aggregate", options="pipeline cursor allowDiskUse")
    def aggregate(self, request: Document) -> Document:
        stages = {stage for step in request["pipeline"] for stage in step}
        refuse_unknown("aggregate", stages & {"$out", "$merge", "$sample", "$changeStream"}, set())
        collection = self._collection(request)
        documents = collection.aggregate(request["pipeline"])
        return self._cursor(collection.full_name, documents, request.get("cursor", {}).get("batchSize"))

    @command("count", options="query limit skip")
    def count(self, request: Document) -> Document:
        options = {"limit": request["limit"]} if request.get("limit") else {}
        number = self._collection(request).count_documents(
            request.get("query", {}), skip=request.get("skip", 0), **options
        )
        return {"n": number}

    @command("distinct", options="key query")
    def distinct(self, request: Document) -> Document:
        return {"values": self._collection(request).distinct(request["key"], request.get("query") or {})}

    @command("insert", options="documents ordered")
    def insert(self, request: Document) -> Document:
        collection = self._collection(request)
        reply: Document = {"n": 0}

        def write(index: int, document: Document) -> None:
            document.setdefault("_id", bson.ObjectId())
            collection.insert_one(document)
            reply["n"] += 1

        errors = write_each(request["documents"], request.get("ordered", True), write)
        return reply | errors

    @command("update", options="updates ordered")
    def update(self, request: Document) -> Document:
        collection = self._collection(request)
        reply: Document = {"n": 0, "nModified": 0}

        def write(index: int, statement: Document) -> None:
            refuse_unknown("update", statement, {"q", "u", "upsert", "multi", "arrayFilters"})
            upsert = statement.get("upsert", False)
            if upsert:
                statement["u"] = with_id(collection, statement["q"], statement["u"])
            if is_replacement(statement["u"]):
                result = collection.replace_one(statement["q"], statement["u"], upsert)
            else:
                change = collection.update_many if statement.get("multi") else collection.update_one
                filters = statement.get("arrayFilters")
                result = change(statement["q"], statement["u"], upsert, array_filters=filters)
            reply["n"] += result.raw_result["n"]
            reply["nModified"] += result.raw_result["nModified"]
            if result.upserted_id is not None:
                reply.setdefault("upserted", []).append({"index": index, "_id": result.upserted_id})

        errors = write_each(request["updates"], request.get("ordered", True), write)
        return reply | errors

    @command("delete", options="deletes ordered")
    def delete(self, request: Document) -> Document:
        collection = self._collection(request)
        reply: Document = {"n": 0}

        def write(index: int, statement: Document) -> None:
            refuse_unknown("delete", statement, {"q", "limit"})
            delete = collection.delete_one if statement["limit"] else collection.delete_many
            reply["n"] += delete(statement["q"]).deleted_count

        errors = write_each(request["deletes"], request.get("ordered", True), write)
        return reply | errors

    @command("findAndModify", options="query sort fields update upsert new remove")
    def find_and_modify(self, request: Document) -> Document:
        collection = self._collection(request)
        query, upsert = request.get("query", {}), request.get("upsert", False)
        options = {
            "projection": request.get("fields") or None,
            "sort": list(request.get("sort", {}).items()) or None,
        }
        matched = min(collection.count_documents(query), 1)
        if request.get("remove"):
            return {"value": collection.find_one_and_delete(query, **options), "lastErrorObject": {"n": matched}}
        if upsert:
            request["update"] = with_id(collection, query, request["update"])
        update = request["update"]
        change = collection.find_one_and_replace if is_replacement(update) else collection.find_one_and_update
        value = change(query, update, upsert=upsert, return_document=request.get("new", False), **options)
        return {"value": value, "lastErrorObject": {"n": max(matched, int(upsert)), "updatedExisting": bool(matched)}}

    @command("createIndexes", options="indexes")
    def create_indexes(self, request: Document) -> Document:
        collection = self._collection(request)
        before = len(collection.index_information())
        for index in request["indexes"]:
            options = {name: index[name] for name in index if name in ("unique", "sparse", "partialFilterExpression")}
            refuse_unknown("An index", index, {"key", "name", "background", "v"} | set(options))
            collection.create_index(list(index["key"].items()), name=index["name"], **options)
        return {"numIndexesBefore": before, "numIndexesAfter": len(collection.index_information())}

    @command("listIndexes", options="cursor")
    def list_indexes(self, request: Document) -> Document:
        collection = self._collection(request, must_exist=True)
        return self._cursor(collection.full_name, collection.list_indexes())

    @command("dropIndexes", options="index")
    def drop_indexes(self, request: Document) -> Document:
        collection = self._collection(request, must_exist=True)
        if request["index"] == "*":
            collection.drop_indexes()
        elif request["index"] in collection.index_information():
            collection.drop_index(request["index"])
        else:
            raise OperationFailure(f"index not found with name [{request['index']}]", 27)
        return {}

    @command("drop")
    def drop(self, request: Document) -> Document:
        collection = self._collection(request, must_exist=True)
        collection.drop()
        return {"ns": collection.full_name}

    @command("dropDatabase")
    def drop_database(self, request: Document) -> Document:
        self.client.drop_database(request["$db"])
        return {"dropped": request["$db"]}

    @command("listCollections", options="cursor filter nameOnly authorizedCollections")
    def list_collections(self, request: Document) -> Document:
        names = sorted(self.client[request["$db"]].list_collection_names())
        documents = [{"name": name, "type": "collection", "options": {}, "info": {"readOnly": False}} for name in names]
        chosen = [document for document in documents if filter_applies(request.get("filter") or {}, document)]
        return self._cursor(f"{request['$db']}.$cmd.listCollections", chosen)

    @command("listDatabases", options="filter nameOnly")
    def list_databases(self, request: Document) -> Document:
        documents = [{"name": name, "empty": False} for name in sorted(self.client.list_database_names())]
        chosen = [document for document in documents if filter_applies(request.get("filter") or {}, document)]
        return {"databases": chosen}
