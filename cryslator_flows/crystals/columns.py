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
    """Encode columns as a compressed numpy archive (npz) in base64, see `decode_columns`."""
    stored = {
        name: np.char.encode(column, "utf-8") if column.dtype.kind == "U" else column for name, column in arrays.items()
    }
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **stored)
    return base64.b64encode(file.getvalue()).decode()


def decode_columns(text: str) -> Arrays:
    """Decode the columns of `encode_columns`.

    Raises
    ------
    DataError
        The text is damaged.
    """
    with _unpacking(), np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False) as file:
        return {
            name: np.char.decode(column, "utf-8") if column.dtype.kind == "S" else column
            for name, column in file.items()
        }


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


def stack_moves(moves: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The moves of several candidates as a column."""
    return np.concatenate([np.zeros(0, dtype=np.int64), *moves])
