"""Files of pairs for training, and the summary of their source."""

from __future__ import annotations

import gzip
import json
from contextlib import ExitStack
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from cryslator_flows.errors import StoreError
from cryslator_flows.system.whole_files import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType


SUMMARY_FILE = "pairs.json"
# A column with the part, which the names of the files hold too.
SPLIT = "split"
# Beyond this size the rows are on the disk, in an unnamed file that ends with the process.
IN_MEMORY = 16 * 2**20


class PartCounts(BaseModel):
    """Counts of one file of pairs."""

    pairs: int = Field(description="Number of pairs")
    targets: int = Field(description="Number of their relaxed crystals")
    formulas: int = Field(description="Number of reduced formulas of the relaxed crystals")
    formation_energies: int = Field(description="Number of pairs with a formation energy")
    energies: int = Field(description="Number of pairs with an energy by the engine")


class PairsSummary(BaseModel):
    """Summary of a source and its pairs; the file ``pairs.json``."""

    kind: str = Field(description="Kind of source")
    source: str = Field(description="Path or name of the source")
    split: str = Field(description="Rule of the split: 'formula', 'given' or 'none'")
    seed: int = Field(description="Seed of the split")
    read: int = Field(description="Number of items in the source, with and without a pair")
    kept: int = Field(description="Pairs written")
    dropped: dict[str, int] = Field(description="Number of dropped items by reason, most frequent first")
    files: dict[str, PartCounts] = Field(description="Counts of each file")
    elements_without_energy: list[str] = Field(
        default_factory=list, description="Elements of the pairs that the given energies of the elements lack"
    )


def check_owner(folder: Path, kind: str, source: str) -> None:
    """Refuse to replace pairs of another source.

    Raises
    ------
    StoreError
        The folder holds pairs of another source.
    """
    try:
        there = PairsSummary.model_validate_json((folder / SUMMARY_FILE).read_text())
    except (OSError, ValueError):
        return
    if (there.kind, there.source) != (kind, source):
        raise StoreError(
            f"{folder}: holds pairs of {there.kind} {there.source}; give another folder with --output, or remove it"
        )


class PartFiles:
    """A file ``pairs-PART.jsonl.gz`` for each part, ``pairs.jsonl.gz`` for the part without a name.

    Each file is replaced as a whole when the context ends. The same pairs give the same file.

    Parameters
    ----------
    folder : Path
        The folder to write to; it is made if missing.
    parts : iterable of str
        Names of the parts.

    Raises
    ------
    StoreError
        The folder cannot be written.
    """

    def __init__(self, folder: Path, parts: Iterable[str]) -> None:
        self._parts = {part: folder / (f"pairs-{part}.jsonl.gz" if part else "pairs.jsonl.gz") for part in parts}
        self._counts = {part: PartCounts(pairs=0, targets=0, formulas=0, formation_energies=0, energies=0)
                        for part in self._parts}  # fmt: skip
        self._targets: dict[str, set[str]] = {part: set() for part in self._parts}
        self._formulas: dict[str, set[str]] = {part: set() for part in self._parts}
        self._open = ExitStack()

    def __enter__(self) -> PartFiles:
        with ExitStack() as opening:
            self._files = {}
            for part, path in self._parts.items():
                file = opening.enter_context(whole_file(path))
                # No name and no time in the header.
                self._files[part] = opening.enter_context(gzip.GzipFile("", "wb", fileobj=file, mtime=0))
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def write(self, part: str, row: dict[str, Any], formula: str) -> None:
        """Write a pair, a row with the fields of `PairRecord`, into the file of a part.

        Parameters
        ----------
        part : str
            The part.
        row : dict
            The pair.
        formula : str
            Reduced formula of its target.
        """
        self._files[part].write(
            json.dumps({key: row[key] for key in row if key != SPLIT}, separators=(",", ":")).encode() + b"\n"
        )
        counts = self._counts[part]
        counts.pairs += 1
        counts.formation_energies += row.get("formation_energy_per_atom") is not None
        counts.energies += row.get("energy_per_atom") is not None
        self._targets[part].add(row["target"])
        self._formulas[part].add(formula)

    def counts(self) -> dict[str, PartCounts]:
        """Return the counts of each file by its name."""
        for part, counts in self._counts.items():
            counts.targets, counts.formulas = len(self._targets[part]), len(self._formulas[part])
        return {path.name: self._counts[part] for part, path in self._parts.items()}


class Spool:
    """Rows as JSON lines, written once and read any number of times.

    Parameters
    ----------
    folder : Path
        Folder for a file; if it does not exist, the nearest existing folder above it.
    """

    def __init__(self, folder: Path) -> None:
        place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
        self._file = SpooledTemporaryFile(IN_MEMORY, dir=str(place))  # noqa: SIM115
        self._number = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for line in self.lines():
            yield json.loads(line)

    def append(self, row: dict[str, Any]) -> None:
        """Write a further row."""
        self._file.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")
        self._number += 1

    def lines(self) -> Iterator[bytes]:
        """Yield the written rows, line by line."""
        self._file.seek(0)
        yield from self._file
