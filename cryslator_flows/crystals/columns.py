"""Compressed texts, columns of numbers and texts, and changes of crystals as whole numbers."""

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

# Resolution of cells and positions as a share of a lattice vector: 5e-9 angstrom for a vector of 20 angstrom.
# VASP's SYMPREC is 1e-5, and the network computes in single precision.
STEP = 2.0**-32
# Numbers of the cell among the moves of a candidate. Three numbers for each atom follow.
CELL_MOVES = 9


def squeeze(text: str) -> str:
    """Return a text compressed, in base64."""
    return base64.b64encode(zlib.compress(text.encode())).decode()


def unsqueeze(text: str) -> str:
    """Return the text that `squeeze` compressed.

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
    stored: dict[str, Any] = {
        name: np.char.encode(column, "utf-8") if column.dtype.kind == "U" else column for name, column in arrays.items()
    }
    file = io.BytesIO()
    np.savez_compressed(file, **stored)
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
    """Return the number of moves of candidates, given their numbers of atoms."""
    return CELL_MOVES + 3 * n_atoms.astype(int)


def to_moves(template: Structure, matrix: NDArray[np.floating], frac: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the changes of the cell and the positions of a template as whole numbers.

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
    """Return lattice vectors [3, 3] in angstrom and fractional coordinates [atoms, 3] from the output of `to_moves`."""
    changes = moves * STEP
    matrix = template.lattice.matrix @ (np.eye(3) + changes[:CELL_MOVES].reshape(3, 3))
    return matrix, template.frac_coords + changes[CELL_MOVES:].reshape(-1, 3)


def stack_moves(moves: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the moves of several candidates as one column."""
    return np.concatenate([np.zeros(0, dtype=np.int64), *moves])
