"""maggma stores that users describe."""

from __future__ import annotations

import logging
from inspect import signature
from typing import TYPE_CHECKING, Any

from cryslator_flows.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from maggma.core import Store

# Arguments of maggma's embedded stores that are paths.
STORE_PATHS = ("path", "database_path", "paths")


def open_store(spec: dict[str, Any], name: str) -> Store:
    """Connect a maggma store.

    Parameters
    ----------
    spec : dict
        ``type`` and arguments, as in a jobflow.yaml.
    name : str
        What to call it in an error.

    Raises
    ------
    StoreError
        There is no such store, or it or one of its files cannot be read.
    """
    from jobflow import JobStore

    skipped = _Errors()
    try:
        store = JobStore.from_dict_spec({"docs_store": spec}).docs_store
        store.key = spec.get("key", _default_key(store))
        store.logger.addHandler(skipped)
        try:
            store.connect()
        finally:
            store.logger.removeHandler(skipped)
    except Exception as error:
        raise StoreError(
            f"{name} {spec.get('type')!r}: cannot be opened ({type(error).__name__}: {error}); "
            "give 'type' and arguments as in a jobflow.yaml"
        ) from error
    # maggma goes on without a file that it cannot read.
    if skipped.messages:
        store.close()
        raise StoreError(f"{name} {spec.get('type')!r}: {skipped.messages[0]} Restore this file, or leave it out")
    return store


class _Errors(logging.Handler):
    """Keeps the messages of logged errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.messages.append(record.getMessage())


def _default_key(store: Store) -> str:
    """The key that a store has if none is given; a JobStore makes it uuid."""
    declared = (signature(kind).parameters.get("key") for kind in type(store).__mro__[:-1])
    return next(str(parameter.default) for parameter in declared if parameter is not None)


def absolute_paths(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Arguments of a store with the file names of maggma's embedded stores counted from `folder`."""
    changed = dict(spec)
    for key in STORE_PATHS:
        if isinstance(spec.get(key), list):
            changed[key] = [str(folder / value) for value in spec[key]]
        elif key in spec:
            changed[key] = str(folder / spec[key])
    return changed
