"""High-throughput crystal screening with one-shot structure translation, for atomate2 and jobflow."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryslator_flows.api import Campaign
    from cryslator_flows.documents.candidates import Translation
    from cryslator_flows.translator.translator import Translator

__all__ = ["Campaign", "Translation", "Translator"]
__version__ = "0.2.0"

_HOMES = {
    "Campaign": "cryslator_flows.api",
    "Translation": "cryslator_flows.documents.candidates",
    "Translator": "cryslator_flows.translator.translator",
}


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that importing the package stays quick."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
