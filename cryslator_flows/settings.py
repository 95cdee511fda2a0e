"""Settings from the environment: every field reads ``CRYSLATOR_<NAME>``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from traceback import walk_tb

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from cryslator_flows.errors import ConfigurationError

PREFIX = "CRYSLATOR_"


class CryslatorSettings(BaseSettings):
    """Settings of a machine for all campaigns."""

    model_config = SettingsConfigDict(env_prefix=PREFIX)

    model_dirs: list[Path] = Field(
        default_factory=list, description='Folders with models of your own, a JSON list as in ["/data/models"]'
    )
    ledger: Path | None = Field(
        None,
        description="Absolute path of the folder where runs record their cost; None: cryslator_ledger beside each run",
    )

    @field_validator("model_dirs")
    @classmethod
    def _absolute(cls, paths: list[Path]) -> list[Path]:
        # Jobs run in folders of their own.
        return [path.expanduser().absolute() for path in paths]

    @field_validator("ledger")
    @classmethod
    def _is_one_folder(cls, path: Path | None) -> Path | None:
        if path is not None and path.is_file():
            raise ValueError("a file; a ledger is a folder")
        # On a cluster each job would have a ledger in its own folder.
        if path is not None and not path.is_absolute():
            raise ValueError("a relative path")
        return path


def read_settings() -> CryslatorSettings:
    """Read the settings from the environment.

    Raises
    ------
    ConfigurationError
        A variable has a wrong value.
    """
    try:
        return CryslatorSettings()
    except (SettingsError, ValidationError) as error:
        field = next(name for name in CryslatorSettings.model_fields if re.search(rf"\b{name}\b", str(error)))
        variable = f"{PREFIX}{field.upper()}"
        raise ConfigurationError(
            f"{variable}={os.environ.get(variable)}: cannot be read; give a valid value "
            f"({CryslatorSettings.model_fields[field].description}), or unset it"
        ) from error


def foreign_settings_mistake(error: BaseException) -> ConfigurationError | None:
    """Return the error about a broken configuration file that jobflow or atomate2 reads on import.

    Parameters
    ----------
    error : BaseException
        Any exception.

    Returns
    -------
    ConfigurationError or None
        None if the exception has another cause.
    """
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__)]
    if "pydantic_settings.main" not in modules:
        return None
    package = modules[modules.index("pydantic_settings.main") - 1].partition(".")[0]
    if package not in ("jobflow", "atomate2"):
        return None
    variable = f"{package.upper()}_CONFIG_FILE"
    path = os.environ.get(variable, f"~/.{package}.yaml")
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return ConfigurationError(f"{variable}, {path}: cannot be used ({reason}); correct the file, or move it away")


SETTINGS = read_settings()
