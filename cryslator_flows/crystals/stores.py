"""maggma stores that users describe."""

from __future__ import annotations

import os
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryslator_flows.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maggma.core import Store

# Arguments of maggma's embedded stores that are paths.
STORE_PATHS = ("path", "database_path", "paths")


def make_store(spec: dict[str, Any], name: str) -> Store:
    """Make a maggma store without connecting it.

    Parameters
    ----------
    spec : dict
        ``type`` and arguments, as in a jobflow.yaml.
    name : str
        What to call it in an error.

    Raises
    ------
    StoreError
        There is no such store, or its arguments are others.
    """
    from jobflow import JobStore

    try:
        store = JobStore.from_dict_spec({"docs_store": spec}).docs_store
        store.key = spec.get("key", _default_key(store))
    except Exception as error:
        raise _cannot_open(spec, name, error) from error
    return store


def open_store(spec: dict[str, Any], name: str) -> Store:
    """Make and connect a maggma store; arguments as of `make_store`.

    Raises
    ------
    StoreError
        There is no such store, or it cannot be opened.
    """
    store = make_store(spec, name)
    try:
        store.connect()
    except Exception as error:
        raise _cannot_open(spec, name, error) from error
    return store


def _cannot_open(spec: dict[str, Any], name: str, error: Exception) -> StoreError:
    return StoreError(
        f"{name} {spec.get('type')!r}: cannot be opened ({type(error).__name__}: {error}); "
        "give 'type' and arguments as in a jobflow.yaml"
    )


def _default_key(store: Store) -> str:
    """The key that a store has if none is given; a JobStore makes it uuid."""
    declared = (signature(kind).parameters.get("key") for kind in type(store).__mro__[:-1])
    return next(str(parameter.default) for parameter in declared if parameter is not None)


def absolute(path: Path | str, folder: Path) -> Path:
    """Return a path that a user wrote, ``~`` expanded, counted from `folder`."""
    # As Path.expanduser, which raises where there is no such user.
    return folder / os.path.expanduser(str(path))  # noqa: PTH111


def store_paths(spec: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Return the arguments of a store that are paths, or lists of paths, by name."""
    return ((key, spec[key]) for key in STORE_PATHS if spec.get(key) is not None)


def absolute_paths(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Arguments of a store with the file names of maggma's embedded stores counted from `folder`."""
    changed = dict(spec)
    for key, value in store_paths(spec):
        some = isinstance(value, list)
        changed[key] = [str(absolute(path, folder)) for path in value] if some else str(absolute(value, folder))
    return changed
