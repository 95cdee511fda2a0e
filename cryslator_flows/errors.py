"""Errors with one clear line: problem, place and fix."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def one_line(error: BaseException) -> str:
    """Return the message of an exception without line breaks, never empty."""
    return " ".join(str(error).split()) or type(error).__name__


# A password in a URI, but not a reference to an environment variable.
_PASSWORD = re.compile(r"(://[^\s:/@]+:)(?!\$\{\w+\}@)[^\s'\"]+@")


def without_passwords(text: str) -> str:
    """Return a text with the passwords of its URIs removed.

    >>> without_passwords("mongodb://me:secret@db.example.org/tasks does not answer")
    'mongodb://me:***@db.example.org/tasks does not answer'
    """
    return _PASSWORD.sub(r"\1***@", text)


class CryslatorError(Exception):
    """Base of all errors that a user can fix.

    The command line prints the message and exits with code 2.

    Parameters
    ----------
    message : str
        Problem, place and fix. Passwords in URIs are removed.
    """

    def __init__(self, message: str) -> None:
        super().__init__(without_passwords(message))


class StructureError(CryslatorError, ValueError):
    """Error about a structure that cannot be read, translated or substituted.

    Parameters
    ----------
    message : str
        Problem, place and fix.
    cause : str
        Kind of fault in a few words, by which faults are counted. Equal faults have equal words.
    """

    def __init__(self, message: str, cause: str = "not a crystal") -> None:
        super().__init__(message)
        self.cause = cause


class ModelError(CryslatorError, ValueError):
    """Error about a model that does not exist or has damaged files."""


class CampaignError(CryslatorError, ValueError):
    """Error about a mistake in a campaign file."""


class PreflightError(CampaignError):
    """Error about everything that must be fixed before a campaign starts.

    Parameters
    ----------
    findings : sequence of str
        Problem, place and fix of each, at least one.
    """

    def __init__(self, findings: Sequence[str]) -> None:
        self.findings = [without_passwords(finding) for finding in dict.fromkeys(findings)]
        first, *others = self.findings
        super().__init__(" | ".join([f"{len(self.findings)} mistakes: {first}", *others]) if others else first)


class ConfigurationError(CryslatorError, ValueError):
    """Error about a setting of this machine, in the environment or in a configuration file."""


class NotInstalledError(CampaignError):
    """Error about a package that a campaign needs and this machine lacks."""


class DataError(CryslatorError, ValueError):
    """Error about a mistake in a recipe or in a file of training or evaluation pairs."""


class ProjectError(CryslatorError, ValueError):
    """Error about a jobflow-remote project that is missing, is incomplete, or already has the requested entry."""


class StoreError(CryslatorError, OSError):
    """Error about a store that cannot be opened or written."""


class CountingError(CryslatorError, ValueError):
    """Error about steps of a relaxation that cannot be counted, or about counts that contradict each other."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error about an unknown name: the nearest known name, or else all known names.

    >>> nearest("transalte", ["translate", "relax"])
    "did you mean 'translate'?"
    >>> nearest("x", ["translate", "relax"])
    'choose from: relax, translate'
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose from: {', '.join(names) or 'none there'}"
