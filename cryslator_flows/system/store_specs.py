"""maggma stores described by users."""

from __future__ import annotations

import json
import logging
import os
import re
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryslator_flows.errors import StoreError, one_line, without_passwords

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maggma.core import Store

# Arguments of maggma's embedded stores that are paths.
STORE_PATHS = ("path", "database_path", "paths")
# Arguments that open a store.
SECRETS = re.compile("passw|secret|token|credential|private_key|api_?key|connection_string", re.IGNORECASE)
HIDDEN = "***"
REFERENCE = re.compile(r"\$\{(\w+)\}")


def make_store(spec: dict[str, Any], name: str) -> Store:
    """Make a maggma store without connecting it.

    Parameters
    ----------
    spec : dict
        ``type`` and arguments, as in a jobflow.yaml. References ``${NAME}`` are read from the environment.
    name : str
        Name of the store in an error.

    Raises
    ------
    StoreError
        The store type is unknown, or its arguments are wrong.
    """
    from jobflow import JobStore

    spec = _with_environment(spec, name)
    try:
        store = JobStore.from_dict_spec({"docs_store": spec}).docs_store
        store.key = spec.get("key", _default_key(store))
    except Exception as error:
        raise _cannot_open(spec, name, error) from error
    return store


def open_store(spec: dict[str, Any], name: str) -> Store:
    """Make a maggma store and connect it; arguments as in `make_store`.

    Raises
    ------
    StoreError
        The store type is unknown, or the store or one of its files cannot be read.
    """
    skipped = _Errors()
    spec = _with_environment(spec, name)
    store = make_store(spec, name)
    store.logger.addHandler(skipped)
    try:
        store.connect()
    except Exception as error:
        raise _cannot_open(spec, name, error) from error
    finally:
        store.logger.removeHandler(skipped)
    # maggma continues without a file that it cannot read.
    if skipped.messages:
        store.close()
        raise StoreError(f"{name} {spec.get('type')!r}: {skipped.messages[0]} Restore this file, or leave it out")
    return store


def _cannot_open(spec: dict[str, Any], name: str, error: Exception) -> StoreError:
    reason = f"{type(error).__name__}: {one_line(error)}"
    # Longer ones first: one may be a part of another.
    for secret in sorted(_secrets(spec), key=len, reverse=True):
        reason = reason.replace(secret, HIDDEN)
    return StoreError(
        f"{name} {spec.get('type')!r}: cannot be opened ({reason}); give 'type' and arguments as in a jobflow.yaml"
    )


def _secrets(value: Any, key: str = "") -> Iterator[str]:
    """Yield the values that `without_secrets` hides, as a package may put them into its errors."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _secrets(item, f"{key} {name}")
    elif isinstance(value, list):
        for item in value:
            yield from _secrets(item, key)
    elif value and SECRETS.search(key):
        yield str(value)


class _Errors(logging.Handler):
    """Handler that keeps the messages of logged errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.messages.append(record.getMessage())


def without_secrets(value: Any, key: str = "") -> Any:
    """Return the description of a store without its secrets.

    Parameters
    ----------
    value : Any
        ``type`` and arguments, or one of the arguments.
    key : str
        Name of the argument.

    Returns
    -------
    Any
        The description with ``***`` in place of passwords, tokens and keys, also in URIs. References to the
        environment, ``${NAME}``, stay.
    """
    if isinstance(value, str) and REFERENCE.fullmatch(value):
        return value
    if SECRETS.search(key) and value is not None:
        return HIDDEN
    if isinstance(value, dict):
        return {name: without_secrets(item, str(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return without_passwords(value) if isinstance(value, str) else value


def lacks_environment(spec: dict[str, Any]) -> bool:
    """Return True if a store needs a variable that this environment lacks."""
    return any(found not in os.environ for found in REFERENCE.findall(json.dumps(spec, default=str)))


def _with_environment(value: Any, name: str) -> Any:
    """Return the description of a store with references replaced by their values. Errors contain `name`."""
    if isinstance(value, dict):
        return {key: _with_environment(item, f"{name}, {key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_with_environment(item, name) for item in value]
    if not isinstance(value, str):
        return value
    if HIDDEN in value:
        raise StoreError(
            f"{name}: a flow does not keep it; write ${{NAME}} there, and export NAME where the store is read"
        )
    if lacking := [found for found in REFERENCE.findall(value) if found not in os.environ]:
        raise StoreError(f"{name}: {lacking[0]} is not set in the environment; export it where the store is read")
    return REFERENCE.sub(lambda match: os.environ[match[1]], value)


def _default_key(store: Store) -> str:
    """Return the default key of a store. A JobStore uses uuid."""
    declared = (signature(kind).parameters.get("key") for kind in type(store).__mro__[:-1])
    return next(str(parameter.default) for parameter in declared if parameter is not None)


def absolute(path: Path | str, folder: Path) -> Path:
    """Return the absolute path of a path that a user wrote: ``~`` expanded, relative to `folder`."""
    # Unlike Path.expanduser, os.path.expanduser does not raise for an unknown user.
    return folder / os.path.expanduser(str(path))  # noqa: PTH111


def store_paths(spec: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield name and value of each argument of a store that is a path or a list of paths."""
    return ((key, spec[key]) for key in STORE_PATHS if spec.get(key) is not None)


def absolute_paths(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the arguments of a store, with file names of maggma's embedded stores relative to `folder`."""
    changed = dict(spec)
    for key, value in store_paths(spec):
        some = isinstance(value, list)
        changed[key] = [str(absolute(path, folder)) for path in value] if some else str(absolute(value, folder))
    return changed
