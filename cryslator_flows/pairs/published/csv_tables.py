"""CSV tables beside structures."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING

from cryslator_flows.errors import DataError, one_line

if TYPE_CHECKING:
    from pathlib import Path


def read_rows(table: Path) -> list[list[str]]:
    """Read the rows of a CSV file, with the header, without empty rows and without spaces around cells.

    Raises
    ------
    DataError
        The file is not text.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            rows = [[cell.strip() for cell in row] for row in csv.reader(lines)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read as a table ({one_line(error)}); fix or remove it") from error
    return [row for row in rows if any(row)]


def to_number(cell: str) -> float | None:
    """Return a finite number, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
