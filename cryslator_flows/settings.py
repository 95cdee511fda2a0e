"""Settings from the environment: every field reads ``CRYSLATOR_<NAME>``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class CryslatorSettings(BaseSettings):
    """What a machine may want to set once for all campaigns."""

    model_config = SettingsConfigDict(env_prefix="CRYSLATOR_")

    model_dirs: list[Path] = Field(
        default_factory=list, description='Folders with models of your own, a JSON list as in ["/data/models"]'
    )
    ledger: Path | None = Field(
        None,
        description="File where runs record what they spent; None: cryslator_ledger.jsonl beside each run's folder",
    )


SETTINGS = CryslatorSettings()
