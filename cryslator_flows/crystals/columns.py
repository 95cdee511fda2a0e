"""Texts, and columns of numbers and texts, in one compressed text; what became of a crystal as a few whole numbers."""

from __future__ import annotations

import base64
import io
import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from cryslator_flows.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from pymatgen.core import Structure

Arrays = dict[str, "NDArray[Any]"]

# Cells and positions are kept to this share of a lattice vector: 5e-9 angstrom for one of 20, where VASP's SYMPREC is
# 1e-5 and the network computes in single precision.
STEP = 2.0**-32
# Numbers of a cell among the moves of a candidate, before three for each of its atoms.
CELL_MOVES = 9


def squeeze(text: str) -> str:
    """A text compressed, in base64."""
    return base64.b64encode(zlib.compress(text.encode())).decode()


def unsqueeze(text: str) -> str:
    """What `squeeze` compressed.

    Raises
    ------
    DataError
        The text is damaged.
    """
    with _unpacking():
        return zlib.decompress(base64.b64decode(text)).decode()


@contextmanager
def _unpacking() -> Iterator[None]:
    try:
        yield
    except (zlib.error, zipfile.BadZipFile, ValueError, LookupError, EOFError, NotImplementedError) as error:
        raise DataError(
            f"packed candidates: damaged ({error}); restore the store that holds them from a copy, or start again"
        ) from error


def encode_columns(arrays: Arrays) -> str:
    """Columns as a compressed numpy archive (npz) in base64, see `decode_columns`.

    Moves are folded: symmetry repeats most of them with one sign or the other, and which it repeats is the same for all
    candidates of a template, so that compression leaves nothing of it.
    """
    stored = {
        name: np.char.encode(column, "utf-8") if column.dtype.kind == "U" else column
        for name, column in arrays.items()
        if name != "moves"
    }
    if "moves" in arrays:
        stored["distinct_moves"], stored["places"] = _fold(arrays["moves"], n_moves(arrays["n_atoms"]))
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **stored)
    return base64.b64encode(file.getvalue()).decode()


def decode_columns(text: str) -> Arrays:
    """The columns of `encode_columns`.

    Those of earlier versions are read as they are: they hold texts of four bytes a letter and, in place of moves, cells
    and positions in full, see `cells_to_moves`.

    Raises
    ------
    DataError
        The text is damaged.
    """
    with _unpacking():
        return _decode(text)


def _decode(text: str) -> Arrays:
    with np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False) as file:
        arrays: Arrays = {
            name: np.char.decode(column, "utf-8") if column.dtype.kind == "S" else column
            for name, column in file.items()
        }
    if "places" in arrays:
        sizes = n_moves(arrays["n_atoms"])
        arrays["moves"] = _unfold(arrays.pop("distinct_moves"), arrays.pop("places"), sizes)
    return arrays


def n_moves(n_atoms: NDArray[np.integer]) -> NDArray[np.integer]:
    """How many numbers candidates of some atoms have among the moves."""
    return CELL_MOVES + 3 * n_atoms.astype(int)


def to_moves(template: Structure, matrix: NDArray[np.floating], frac: NDArray[np.floating]) -> NDArray[np.int64]:
    """What became of the cell and the positions of a template.

    Parameters
    ----------
    template : Structure
        The template structure.
    matrix, frac : array
        Lattice vectors [3, 3] in angstrom and fractional coordinates [atoms, 3], sites in the order of the template.

    Returns
    -------
    array of int
        ``inv(template cell) @ cell - 1`` and the change of the fractional coordinates, in units of `STEP`,
        [9 + 3 * atoms].
    """
    stretch = np.linalg.solve(template.lattice.matrix, matrix) - np.eye(3)
    changes = np.concatenate([stretch.ravel(), (frac - template.frac_coords).ravel()])
    return np.round(changes / STEP).astype(np.int64)


def from_moves(template: Structure, moves: NDArray[np.int64]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Lattice vectors [3, 3] in angstrom and fractional coordinates [atoms, 3], from what `to_moves` gives."""
    changes = moves * STEP
    matrix = template.lattice.matrix @ (np.eye(3) + changes[:CELL_MOVES].reshape(3, 3))
    return matrix, template.frac_coords + changes[CELL_MOVES:].reshape(-1, 3)


def cells_to_moves(columns: Arrays, templates: Sequence[Structure]) -> Arrays:
    """Columns of an earlier version with moves in place of cells and positions.

    Parameters
    ----------
    columns : dict of arrays
        From `decode_columns`.
    templates : sequence of Structure
        The templates that the column ``template`` numbers.
    """
    positions = np.split(columns["frac_coords"], np.cumsum(columns["n_atoms"]))
    rows = zip(columns["template"], columns["lattice"], positions, strict=False)
    moves = [to_moves(templates[number], matrix, frac) for number, matrix, frac in rows]
    others = {name: column for name, column in columns.items() if name not in ("lattice", "frac_coords")}
    return others | {"moves": stack_moves(moves)}


def stack_moves(moves: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The moves of several candidates as a column."""
    return np.concatenate([np.zeros(0, dtype=np.int64), *moves])


def _fold(moves: NDArray[np.int64], sizes: NDArray[np.integer]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """The moves of each candidate that differ by more than their sign, and where each of them is.

    Parameters
    ----------
    moves : array of int
        The moves of all candidates, one after the other.
    sizes : array of int
        How many each candidate has.

    Returns
    -------
    tuple of arrays
        The distinct moves [8, n], as they appear in each candidate, their signs in the lowest bit and the bytes of one
        significance in a row, since the upper ones are mostly 0; and for each move 0 where nothing moves, else the
        number of its distinct move from 1, negative where the sign is the other one.
    """
    places = np.zeros(len(moves), dtype=np.int32)
    moving = np.flatnonzero(moves)
    owners = np.repeat(np.arange(len(sizes)), sizes)[moving]
    values = moves[moving]
    order = np.lexsort((np.abs(values), owners))
    ordered = np.stack([owners, np.abs(values)])[:, order]
    is_new = np.ones(len(order), dtype=bool)
    is_new[1:] = (ordered[:, 1:] != ordered[:, :-1]).any(axis=0)
    first = order[is_new]
    # Numbered as they appear, not by size: only then are the places of two candidates of a template the same.
    rank = np.empty(len(first), dtype=int)
    rank[np.argsort(first)] = np.arange(len(first))
    number = np.empty(len(order), dtype=int)
    number[order] = rank[np.cumsum(is_new) - 1]
    first.sort()
    distinct = values[first]
    before = np.searchsorted(owners[first], owners)
    places[moving] = (number - before + 1) * np.where(values == distinct[number], 1, -1)
    folded = ((distinct << 1) ^ (distinct >> 63)).astype("<u8")
    return np.ascontiguousarray(folded.view(np.uint8).reshape(-1, 8).T), places


def _unfold(rows: NDArray[np.uint8], places: NDArray[np.int32], sizes: NDArray[np.integer]) -> NDArray[np.int64]:
    """The moves of all candidates, from what `_fold` gives."""
    folded = np.ascontiguousarray(rows.T).view("<u8").ravel()
    distinct = np.concatenate([[0], (folded >> 1).astype(np.int64) ^ -(folded & 1).astype(np.int64)])
    numbers = np.abs(places)
    counts = np.maximum.reduceat(numbers, np.cumsum(sizes) - sizes) if len(sizes) else sizes
    before = np.repeat(np.cumsum(counts) - counts, sizes)
    return np.where(numbers > 0, np.sign(places) * distinct[np.where(numbers > 0, before + numbers, 0)], 0)
