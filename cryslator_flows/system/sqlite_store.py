"""An embedded maggma store that survives crashes, with all documents in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bson import json_util
from maggma.core import Sort, Store
from maggma.stores import MemoryStore
from monty.json import jsanitize

from cryslator_flows.errors import StoreError
from cryslator_flows.system.whole_files import unwritable

if TYPE_CHECKING:
    from collections.abc import Iterator


class SQLiteStore(Store):
    """MongoDB-style documents in a table of an SQLite file.

    Every update is one transaction. After a crash the file holds all documents of an update or none.
    Several processes may read and write at once. SQLite finds and sorts documents by the fields in `indexed` and by
    jobflow's ``index``. maggma's MemoryStore applies the rest of a MongoDB query to the documents found. Each document
    has a checksum, and a document that does not match its checksum is an error. Each has a revision, larger than all
    before it: `changes` reads only documents written since the last look.

    Parameters
    ----------
    path : str
        The SQLite file. It is created when the store connects.
    collection_name : str
        The table.
    indexed : tuple of str
        Fields with an index, such as ``uuid`` or ``metadata.stage``. Their values must be strings or numbers.
    read_only : bool
        Never write. This mode also reads a file in a folder that cannot be written.
    **kwargs
        Arguments of `maggma.core.Store`.
    """

    def __init__(
        self,
        path: str,
        collection_name: str = "documents",
        indexed: tuple[str, ...] = ("uuid", "blob_uuid"),
        read_only: bool = False,
        **kwargs: Any,
    ) -> None:
        self.path = str(path)
        self.collection_name = collection_name
        self.indexed = tuple(indexed)
        self.read_only = read_only
        self.kwargs = kwargs  # as_dict reads this attribute
        self._database: sqlite3.Connection | None = None
        self._file, self._inode = Path(self.path), 0
        super().__init__(**kwargs)

    @property
    def name(self) -> str:
        """Name of the store."""
        return f"sqlite://{self.path}/{self.collection_name}"

    @property
    def _collection(self) -> Any:
        return self._memory(None)._collection

    @property
    def database(self) -> sqlite3.Connection:
        """Return the open database.

        Raises
        ------
        StoreError
            The store is not connected.
        """
        if self._database is None:
            raise StoreError(f"store {self.path}: not connected; call connect() first")
        return self._database

    def connect(self, force_reset: bool = False) -> None:
        """Open the file. Create it and its folder if they are missing and the store is not read-only.

        Raises
        ------
        StoreError
            The path cannot be written or read, or the file is not an SQLite file.
        """
        if self._database is not None and not force_reset:
            return
        try:
            self._database = self._open_to_read() if self.read_only else self._open_to_write()
            # Jobs change the folder to which a relative path refers.
            self._file = Path(self.path).absolute()
            self._inode = self._file.stat().st_ino
        except (OSError, sqlite3.Error) as error:
            if self.read_only:
                raise self._unreadable(error) from error
            raise unwritable(Path(self.path), error) from error

    def _open_to_write(self) -> sqlite3.Connection:
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self.path, timeout=60)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        with database:
            table = self.collection_name
            database.execute(
                f'CREATE TABLE IF NOT EXISTS "{table}" '
                "(revision INTEGER PRIMARY KEY AUTOINCREMENT, identity TEXT UNIQUE NOT NULL, document TEXT NOT NULL, "
                "checksum INTEGER NOT NULL)"
            )
            for field in self.indexed:
                database.execute(
                    f'CREATE INDEX IF NOT EXISTS "{table}_{field}" ON "{table}" (json_extract(document, \'$.{field}\'))'
                )
        return database

    def _open_to_read(self) -> sqlite3.Connection:
        """Open the file as immutable where SQLite cannot write its two extra files beside it."""
        uri, log = Path(self.path).absolute().as_uri(), Path(f"{self.path}-wal")
        try:
            return _open(f"{uri}?mode=ro")
        except sqlite3.OperationalError:
            # The log holds changes that are not in the file yet.
            if log.exists() and log.stat().st_size:
                raise
            return _open(f"{uri}?mode=ro&immutable=1")

    def _unreadable(self, reason: Exception | str) -> StoreError:
        return StoreError(
            f"store {self.path}: cannot be read ({reason}); restore the file from a copy, or start again in another "
            "folder"
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError) as error:
            raise self._unreadable(error) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction, which is committed when the context ends."""
        try:
            moved = self._file.stat().st_ino != self._inode
        except OSError:
            moved = True
        if moved:
            raise StoreError(
                f"store {self.path}: was removed or replaced while it was in use; documents stored since are lost; "
                "give the same command again"
            )
        try:
            with self.database as database:
                yield database
        except sqlite3.Error as error:
            raise unwritable(self._file, error, getattr(error, "sqlite_errorname", "") == "SQLITE_FULL") from error

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    @property
    def _fields(self) -> tuple[str, ...]:
        """Fields by which SQLite finds and sorts; few documents differ in the last alone, which has no index."""
        return (*self.indexed, "index")

    def _where(self, criteria: dict[str, Any] | None) -> tuple[str, list[str], bool]:
        """Return a condition on `_fields`, its values, and True if it is all that `criteria` says."""
        clauses: list[str] = []
        values: list[str] = []
        rest = dict(criteria or {})
        for field in self._fields:
            wanted = rest.get(field)
            if isinstance(wanted, str | int):
                wanted = {"$in": [wanted]}
            if isinstance(wanted, dict) and isinstance(wanted.get("$in"), list):
                # A plus keeps SQLite from an index: that of the first field leaves the fewest documents.
                plus = "+" if clauses else ""
                clauses.append(f"{plus}json_extract(document, '$.{field}') IN (SELECT value FROM json_each(?))")
                values.append(json.dumps(wanted["$in"]))
                if len(wanted) == 1 and None not in wanted["$in"]:
                    del rest[field]
        return f" WHERE {' AND '.join(clauses)}" if clauses else "", values, not rest

    def _read(self, where: str, values: list[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
        with self._reading():
            if not self._is_there():
                return
            rows = self.database.execute(
                f'SELECT rowid, identity, document, checksum FROM "{self.collection_name}"{where}', values
            ).fetchall()  # All at once: who reads may write meanwhile.
            for revision, identity, text, checksum in rows:
                if checksum != _checksum(identity, text):
                    raise ValueError(f"the checksum of document {identity} in {self.collection_name} does not fit")
                # BSON's own types, which take six times as long to read, have names with a dollar.
                document = json_util.loads(text) if '"$' in text else json.loads(text)
                yield revision, {**document, "_id": identity}

    def changes(self, since: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Read what was written after a revision, oldest first, each document once, in its newest state.

        Parameters
        ----------
        since : int
            The last revision that was seen; 0 for all documents.

        Yields
        ------
        tuple
            Revision and document. A document that was removed does not come.
        """
        return self._read(" WHERE rowid > ? ORDER BY rowid", [since])

    @property
    def revision(self) -> int:
        """Revision of the newest document; 0 without documents."""
        with self._reading():
            if not self._is_there():
                return 0
            return self.database.execute(f'SELECT MAX(rowid) FROM "{self.collection_name}"').fetchone()[0] or 0

    def _is_there(self) -> bool:
        """Return False if the table does not exist, as in a read-only file without documents."""
        tables = self.database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [self.collection_name])
        return tables.fetchone() is not None

    def _memory(self, criteria: dict[str, Any] | None) -> MemoryStore:
        store = MemoryStore(key=self.key, last_updated_field=self.last_updated_field)
        store.connect()
        where, values, _ = self._where(criteria)
        documents = [document for _, document in self._read(where, values)]
        if documents:
            store._collection.insert_many(documents)
        return store

    def count(self, criteria: dict[str, Any] | None = None) -> int:
        """Return the number of documents that match."""
        where, values, is_all = self._where(criteria)
        with self._reading():
            if is_all and self._is_there():
                counting = f'SELECT COUNT(*) FROM "{self.collection_name}"{where}'
                return int(self.database.execute(counting, values).fetchone()[0])
        return int(self._memory(criteria).count(criteria))

    def query(
        self,
        criteria: dict[str, Any] | None = None,
        properties: dict[str, Any] | list[str] | None = None,
        sort: dict[str, Sort | int] | None = None,
        skip: int = 0,
        limit: int = 0,
    ) -> Iterator[dict[str, Any]]:
        """Yield the documents that match; arguments as in `maggma.core.Store.query`."""
        where, values, is_all = self._where(criteria)
        plain = isinstance(properties, list | None) and not any("." in name for name in properties or ())
        if not (is_all and plain and set(sort or ()) <= {*self._fields}):
            yield from self._memory(criteria).query(criteria, properties, sort, skip=skip, limit=limit)
            return
        keys = [
            f"+json_extract(document, '$.{field}') {'DESC' if Sort(order) == Sort.Descending else 'ASC'}"
            for field, order in (sort or {}).items()
        ]
        order = f" ORDER BY {', '.join([*keys, 'rowid'])} LIMIT {limit or -1} OFFSET {skip}"
        for _, document in self._read(where + order, values):
            names = ["_id", *properties] if properties else document
            yield {name: document[name] for name in names if name in document}

    def groupby(
        self,
        keys: list[str] | str,
        criteria: dict[str, Any] | None = None,
        properties: dict[str, Any] | list[str] | None = None,
        sort: dict[str, Sort | int] | None = None,
        skip: int = 0,
        limit: int = 0,
    ) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Yield documents in groups; arguments as in `maggma.core.Store.groupby`."""
        yield from self._memory(criteria).groupby(keys, criteria, properties, sort, skip, limit)

    def update(self, docs: list[dict[str, Any]] | dict[str, Any], key: list[str] | str | None = None) -> None:
        """Write documents in one transaction. A document with equal `key` fields is replaced.

        Raises
        ------
        StoreError
            The file cannot be written, its disk is full, or it was removed. No document of this update is stored.
        """
        names = [key or self.key] if isinstance(key or self.key, str) else list(key or self.key)
        rows = []
        for document in jsanitize(docs if isinstance(docs, list) else [docs], allow_bson=True, recursive_msonable=True):
            document.pop("_id", None)
            identity, text = json.dumps([[name, document[name]] for name in names]), json_util.dumps(document)
            rows.append((identity, text, _checksum(identity, text)))
        with self._writing() as database:
            database.executemany(
                f'INSERT OR REPLACE INTO "{self.collection_name}" (identity, document, checksum) VALUES (?, ?, ?)', rows
            )

    def remove_docs(self, criteria: dict[str, Any]) -> None:
        """Remove the documents that match."""
        matching = [(document["_id"],) for document in self.query(criteria)]
        with self._writing() as database:
            database.executemany(f'DELETE FROM "{self.collection_name}" WHERE identity = ?', matching)

    def ensure_index(self, key: str, unique: bool = False) -> bool:  # noqa: ARG002
        """Return True if `key` has an index."""
        return key in self.indexed

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SQLiteStore) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


def _open(uri: str) -> sqlite3.Connection:
    database = sqlite3.connect(uri, timeout=60, uri=True)
    database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    return database


def _checksum(identity: str, text: str) -> int:
    return zlib.crc32(text.encode(), zlib.crc32(identity.encode()))
