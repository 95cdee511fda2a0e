"""Read YAML files that users write by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import ValidationError

from cryslator_flows.errors import DataError
from cryslator_flows.schemas import StrictModel

if TYPE_CHECKING:
    from pathlib import Path

Content = TypeVar("Content", bound=StrictModel)


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error


def read_strict(path: Path, kind: type[Content]) -> Content:
    """Read a YAML file that users write by hand.

    Raises
    ------
    DataError
        The file cannot be read or a field is wrong; the message names both.
    """
    try:
        return kind.model_validate(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        reason = first["msg"].removeprefix("Value error, ")
        # Of a part of the file, the keys of the whole are no help.
        fields = f"; fields: {', '.join(kind.model_fields)}" if len(first["loc"]) < 2 else ""
        raise DataError(f"{path}, {where}: {reason}{fields}") from error
