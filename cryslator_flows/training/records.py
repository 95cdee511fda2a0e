"""Records of pairs of unrelaxed and relaxed crystals, and of relaxed crystals alone, in JSON lines."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator
from pymatgen.core import Composition, Element, Lattice, Structure

from cryslator_flows.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

Vector = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
AnyRecord = TypeVar("AnyRecord", bound=BaseModel)

# Largest number of characters in a line. A crystal of thousands of atoms takes less.
LONGEST_LINE = 16 * 2**20
# Largest formation energy, in eV/atom.
LARGEST_ENERGY = 100.0
LONGEST_CELL = 1000.0  # angstrom
FARTHEST = 1000.0  # fractional coordinate


def _known_elements(symbols: list[str]) -> list[str]:
    for symbol in symbols:
        if not Element.is_valid_symbol(symbol):
            raise ValueError(f"{symbol!r} is not an element symbol")
    return symbols


def _real_cell(lattice: tuple[Vector, Vector, Vector]) -> tuple[Vector, Vector, Vector]:
    a, b, c = lattice
    lengths = [math.hypot(*vector) for vector in lattice]
    across = b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]
    volume = abs(sum(one * other for one, other in zip(a, across, strict=True)))
    if max(lengths) > LONGEST_CELL:
        raise ValueError(f"a lattice vector of {max(lengths):.3g} A, at most {LONGEST_CELL:.0f} A")
    if min(lengths) < 0.1 or volume < 1e-3 * math.prod(lengths):
        raise ValueError(f"a cell of no volume ({volume:.3g} A^3)")
    return lattice


def _near_cell(frac: list[Vector]) -> list[Vector]:
    if (largest := max((abs(value) for row in frac for value in row), default=0.0)) > FARTHEST:
        raise ValueError(f"a fractional coordinate of {largest:.3g}, at most {FARTHEST:.0f}")
    return frac


Species = Annotated[list[str], Field(min_length=1), AfterValidator(_known_elements)]
Positions = Annotated[list[Vector], AfterValidator(_near_cell)]
FormationEnergy = Annotated[float, Field(ge=-LARGEST_ENERGY, le=LARGEST_ENERGY, allow_inf_nan=False)]


class Geometry(BaseModel):
    """Cell and positions of one crystal."""

    lattice: Annotated[tuple[Vector, Vector, Vector], AfterValidator(_real_cell)] = Field(
        description="Rows are lattice vectors, in angstrom"
    )
    frac: Positions = Field(description="Fractional coordinates of every atom")


class PairRecord(BaseModel):
    """Substituted crystal before and after relaxation, with the same atoms in the same order."""

    model_config = ConfigDict(extra="allow")  # other columns may be a recipe's target

    target: str = Field(description="Identifier of the relaxed crystal; pairs of one target share it")
    species: Species = Field(description="Element symbol of every atom")
    unrelaxed: Geometry
    relaxed: Geometry
    formation_energy_per_atom: FormationEnergy | None = Field(
        None, description="Formation energy of the relaxed crystal, in eV/atom"
    )

    @model_validator(mode="after")
    def _same_atoms(self) -> PairRecord:
        for name in ("unrelaxed", "relaxed"):
            count = len(getattr(self, name).frac)
            if count != len(self.species):
                raise ValueError(f"{name}.frac has {count} rows for {len(self.species)} species")
        return self

    def structure(self, which: str) -> Structure:
        """Return the ``unrelaxed`` or ``relaxed`` structure."""
        geometry: Geometry = getattr(self, which)
        return Structure(Lattice(geometry.lattice), self.species, geometry.frac)

    @property
    def reduced_formula(self) -> str:
        """Reduced formula of the target."""
        return str(Composition(Counter(self.species)).reduced_formula)


class UnrelaxedRecord(BaseModel):
    """Unrelaxed crystal without a relaxation."""

    model_config = ConfigDict(extra="allow")

    species: Species
    unrelaxed: Geometry

    @model_validator(mode="after")
    def _same_atoms(self) -> UnrelaxedRecord:
        if (count := len(self.unrelaxed.frac)) != len(self.species):
            raise ValueError(f"unrelaxed.frac has {count} rows for {len(self.species)} species")
        return self


class RelaxedRecord(BaseModel):
    """Relaxed crystal alone."""

    model_config = ConfigDict(extra="allow")

    species: Species
    lattice_parameters: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] = Field(
        description="a, b, c in angstrom, alpha, beta, gamma in degrees"
    )
    frac: Positions
    split: str = "train"
    geometry: Literal["PBE", "other"] = Field(
        "PBE",
        description="other: relaxed with another functional than the pairs, so that only the target is learnt from it",
    )
    formation_energy_per_atom: FormationEnergy | None = None

    @model_validator(mode="after")
    def _one_crystal(self) -> RelaxedRecord:
        if len(self.frac) != len(self.species):
            raise ValueError(f"frac has {len(self.frac)} rows for {len(self.species)} species")
        _real_cell(Lattice.from_parameters(*self.lattice_parameters).matrix.tolist())
        return self

    @property
    def reduced_formula(self) -> str:
        """Reduced formula of the crystal."""
        return str(Composition(Counter(self.species)).reduced_formula)

    @property
    def structure(self) -> Structure:
        """Return the crystal as a pymatgen structure."""
        return Structure(Lattice.from_parameters(*self.lattice_parameters), self.species, self.frac)


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield numbered JSON values of a ``.jsonl`` or ``.jsonl.gz`` file.

    Raises
    ------
    DataError
        The file cannot be read, or a line is not JSON.
    """
    number = 0
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            while line := lines.readline(LONGEST_LINE):
                number += 1
                if len(line) == LONGEST_LINE:
                    raise DataError(f"{path}, line {number}: over {LONGEST_LINE:,} characters; remove that line")
                if line.strip():
                    yield number, _parse(path, number, line)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); give a .jsonl or .jsonl.gz file") from error


def _parse(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else error
        raise DataError(f"{path}, line {number}: not JSON ({reason}); fix or remove that line") from error


def check_record(path: Path, number: int, row: Any, kind: type[AnyRecord]) -> AnyRecord:
    """Return a record, checked, from a value of `read_lines`.

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
        raise DataError(f"{path}, line {number}, {where}: {first['msg']}; fix or remove that line") from error


def read_records(path: Path | str, kind: type[AnyRecord]) -> Iterator[AnyRecord]:
    """Yield the checked records of a ``.jsonl`` or ``.jsonl.gz`` file.

    Raises
    ------
    DataError
        The file cannot be read or a record misses a field; the message names file, line and field.
    """
    path = Path(path)
    for number, row in read_lines(path):
        yield check_record(path, number, row, kind)
