"""Read pairs of unrelaxed and relaxed crystals, and relaxed crystals alone, from JSON lines."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pymatgen.core import Composition, Element, Lattice, Structure

from cryslator_flows.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Vector = tuple[float, float, float]
Record = TypeVar("Record", bound=BaseModel)


def _known_elements(symbols: list[str]) -> list[str]:
    for symbol in symbols:
        if not Element.is_valid_symbol(symbol):
            raise ValueError(f"{symbol!r} is no element symbol")
    return symbols


Species = Annotated[list[str], Field(min_length=1), AfterValidator(_known_elements)]


class Geometry(BaseModel):
    """Cell and positions of one crystal."""

    lattice: tuple[Vector, Vector, Vector] = Field(description="Rows are lattice vectors, in angstrom")
    frac: list[Vector] = Field(description="Fractional coordinates of every atom")


class PairRecord(BaseModel):
    """A substituted crystal and what became of it when it was relaxed; same atoms in the same order."""

    model_config = ConfigDict(extra="allow")  # other columns may be a recipe's target

    target: str = Field(description="Identifier of the relaxed crystal; pairs of one target share it")
    species: Species = Field(description="Element symbol of every atom")
    unrelaxed: Geometry
    relaxed: Geometry
    formation_energy_per_atom: float | None = Field(None, description="Of the relaxed crystal, in eV/atom")

    @model_validator(mode="after")
    def _same_atoms(self) -> PairRecord:
        for name in ("unrelaxed", "relaxed"):
            count = len(getattr(self, name).frac)
            if count != len(self.species):
                raise ValueError(f"{name}.frac has {count} rows for {len(self.species)} species")
        return self

    def structure(self, which: str) -> Structure:
        """The ``unrelaxed`` or ``relaxed`` structure."""
        geometry: Geometry = getattr(self, which)
        return Structure(Lattice(geometry.lattice), self.species, geometry.frac)

    @property
    def reduced_formula(self) -> str:
        """Reduced formula of the target."""
        return str(Composition(Counter(self.species)).reduced_formula)


class UnrelaxedRecord(BaseModel):
    """An unrelaxed crystal that nobody relaxed."""

    model_config = ConfigDict(extra="allow")

    species: Species
    unrelaxed: Geometry

    @model_validator(mode="after")
    def _same_atoms(self) -> UnrelaxedRecord:
        if (count := len(self.unrelaxed.frac)) != len(self.species):
            raise ValueError(f"unrelaxed.frac has {count} rows for {len(self.species)} species")
        return self


class RelaxedRecord(BaseModel):
    """A relaxed crystal alone."""

    model_config = ConfigDict(extra="allow")

    species: Species
    lattice_parameters: tuple[float, float, float, float, float, float] = Field(
        description="a, b, c in angstrom, alpha, beta, gamma in degrees"
    )
    frac: list[Vector]
    split: str = "train"
    geometry: Literal["PBE", "other"] = Field(
        "PBE",
        description="other: relaxed with another functional than the pairs, so that the target alone is learnt from it",
    )
    formation_energy_per_atom: float | None = None

    @property
    def structure(self) -> Structure:
        """The crystal as a pymatgen structure."""
        return Structure(Lattice.from_parameters(*self.lattice_parameters), self.species, self.frac)


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Numbered JSON values of a ``.jsonl`` or ``.jsonl.gz`` file.

    Raises
    ------
    DataError
        The file cannot be read, or a line is not JSON.
    """
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {number}: not JSON ({error.msg}); mend or remove that line") from error
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); give a .jsonl or .jsonl.gz file") from error


def check_record(path: Path, number: int, row: Any, kind: type[Record]) -> Record:
    """A record of what `read_lines` gave.

    Raises
    ------
    DataError
        The record misses a field; the message names file, line and field.
    """
    try:
        return kind.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "record"
        raise DataError(f"{path}, line {number}, {where}: {first['msg']}; mend or remove that line") from error


def read_records(path: Path, kind: type[Record]) -> Iterator[Record]:
    """Checked records of a ``.jsonl`` or ``.jsonl.gz`` file.

    Raises
    ------
    DataError
        The file cannot be read or a record misses a field; the message names file, line and field.
    """
    for number, row in read_lines(path):
        yield check_record(path, number, row, kind)
