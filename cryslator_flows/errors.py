"""Errors with one clear line: what is wrong, where, and what to do."""

from __future__ import annotations


class CryslatorError(Exception):
    """Base of all errors that a user can mend; the command line prints its message and exits with code 2."""


class StructureError(CryslatorError, ValueError):
    """A structure that cannot be read, translated or substituted."""


class ModelError(CryslatorError, ValueError):
    """A model that does not exist or whose files are damaged."""


class CampaignError(CryslatorError, ValueError):
    """A campaign file with a mistake in it."""


class DataError(CryslatorError, ValueError):
    """A file of training or evaluation pairs, or a recipe, with a mistake in it."""


class StoreError(CryslatorError, OSError):
    """A store that cannot be opened or written."""


class CountingError(CryslatorError, ValueError):
    """Output of a relaxation whose steps cannot be counted, or counts that contradict each other."""
