"""Errors with one clear line: what is wrong, where, and what to do."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def one_line(error: BaseException) -> str:
    """Return the message of an exception without line breaks, never empty."""
    return " ".join(str(error).split()) or type(error).__name__


# A password in a URI, unless it is a reference to an environment variable.
_PASSWORD = re.compile(r"(://[^\s:/@]+:)(?!\$\{\w+\}@)[^\s'\"]+@")


def without_passwords(text: str) -> str:
    """Return a text whose URIs have no password.

    >>> without_passwords("mongodb://me:secret@db.example.org/tasks does not answer")
    'mongodb://me:***@db.example.org/tasks does not answer'
    """
    return _PASSWORD.sub(r"\1***@", text)


class CryslatorError(Exception):
    """Base of all errors that a user can fix; the command line prints its message and exits with code 2.

    Parameters
    ----------
    message : str
        What is wrong, where, and what to do; without the passwords of its URIs.
    """

    def __init__(self, message: str) -> None:
        super().__init__(without_passwords(message))


class StructureError(CryslatorError, ValueError):
    """A structure that cannot be read, translated or substituted.

    Parameters
    ----------
    message : str
        What is wrong, where, and what to do.
    cause : str
        The kind of fault in a few words, equal for equal faults, to be counted.
    """

    def __init__(self, message: str, cause: str = "not a crystal") -> None:
        super().__init__(message)
        self.cause = cause


class ModelError(CryslatorError, ValueError):
    """A model that does not exist or whose files are damaged."""


class CampaignError(CryslatorError, ValueError):
    """A campaign file with a mistake in it."""


class ConfigurationError(CryslatorError, ValueError):
    """A setting of this machine, in the environment or a configuration file, with a mistake in it."""


class NotInstalledError(CampaignError):
    """A package that a campaign needs is not installed on this machine."""


class DataError(CryslatorError, ValueError):
    """A file of training or evaluation pairs, or a recipe, with a mistake in it."""


class ProjectError(CryslatorError, ValueError):
    """A jobflow-remote project that is not there, lacks something, or has what is asked for already."""


class StoreError(CryslatorError, OSError):
    """A store that cannot be opened or written."""


class CountingError(CryslatorError, ValueError):
    """Output of a relaxation whose steps cannot be counted, or counts that contradict each other."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known one, else all of them.

    >>> nearest("transalte", ["translate", "relax"])
    "did you mean 'translate'?"
    >>> nearest("x", ["translate", "relax"])
    'choose from: relax, translate'
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose from: {', '.join(names) or 'none there'}"
