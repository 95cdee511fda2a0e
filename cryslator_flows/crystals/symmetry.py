"""Projection of a changed structure on the exact symmetry of its reference."""

from __future__ import annotations

import warnings
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import spglib
from pymatgen.core import Structure
from scipy.spatial import KDTree

from cryslator_flows.crystals.displacement import displacements
from cryslator_flows.errors import StructureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# VASP's default SYMPREC, in angstrom.
SYMPREC = 1e-5
# Operations of larger cells are not cached, as a supercell has thousands.
KEPT_ATOMS = 100


def symmetrize_like(structure: Structure, reference: Structure) -> Structure:
    """Project a structure on the symmetry operations of its reference.

    Numerical noise can break the symmetry of a relaxed or translated structure. A DFT run that starts from it then
    takes twice the k-points. The cell metric and the positions are averaged over the operations that spglib finds
    in the reference at `SYMPREC`, in double precision. This removes noise, and also a real change that breaks the
    symmetry.

    Parameters
    ----------
    structure : Structure
        The changed `reference`, with the same sites in the same order. A rotation of the cell and a common shift of
        all atoms are undone.
    reference : Structure
        The unrelaxed structure.

    Returns
    -------
    Structure
        The structure in the orientation of `reference` and with its site properties, such as magnetic moments.

    Raises
    ------
    StructureError
        The sites of the two structures do not correspond.
    """
    if structure.species != reference.species:
        raise StructureError(
            f"symmetrize: sites of {structure.formula} and of its reference {reference.formula} do not correspond; "
            "give the same sites in the same order"
        )
    matrix, frac, species = structure.lattice.matrix, structure.frac_coords, reference.species
    before = np.ascontiguousarray(reference.frac_coords, dtype=float)
    cell = np.ascontiguousarray(reference.lattice.matrix, dtype=float)
    kinds: dict[object, int] = {}
    numbers = tuple(kinds.setdefault(kind, len(kinds) + 1) for kind in species)
    # Candidates of one template differ by their elements alone, and then have the same operations.
    find = _kept_operations if len(species) <= KEPT_ATOMS else _operations
    rotations, translations, sources = find(cell.tobytes(), before.tobytes(), numbers)

    after = before + displacements(before, frac)
    mapped = after @ rotations.transpose(0, 2, 1) + translations[:, None, :]
    mapped = np.take_along_axis(mapped, sources[:, :, None], axis=1)
    mapped -= np.round(mapped - after)

    # The symmetric stretch of the reference cell that gives the averaged metric, without a rotation.
    metric = np.mean(rotations.transpose(0, 2, 1) @ (matrix @ matrix.T) @ rotations, axis=0)
    inverse = np.linalg.inv(cell)
    squares, axes = np.linalg.eigh(inverse @ metric @ inverse.T)
    lattice = cell @ (axes * np.sqrt(squares)) @ axes.T

    return Structure(lattice, species, mapped.mean(axis=0), site_properties=reference.site_properties)


def _operations(cell: bytes, frac: bytes, numbers: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the symmetry operations of a crystal. Without any, return the identity.

    Parameters
    ----------
    cell, frac : bytes
        Lattice vectors [3, 3] and fractional coordinates [atoms, 3].
    numbers : tuple of int
        A number for each kind of site, [atoms].

    Returns
    -------
    tuple of arrays
        Rotations [n, 3, 3] and translations [n, 3] on fractional columns, and the site that each operation maps to
        each site, [n, atoms].
    """
    lattice, sites = np.frombuffer(cell).reshape(3, 3), np.frombuffer(frac).reshape(-1, 3)
    rotations, translations = np.eye(3)[None], np.zeros((1, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(spglib.SpglibError):
            found = spglib.get_symmetry_dataset((lattice.tolist(), sites.tolist(), numbers), SYMPREC)
            if found is not None:
                rotations = np.asarray(found.rotations, dtype=float)
                translations = np.asarray(found.translations, dtype=float)
    images = sites @ rotations.transpose(0, 2, 1) + translations[:, None, :]
    # A supercell has thousands of operations: a tree finds their sites without a table of all distances.
    _, targets = KDTree(_inside(sites), boxsize=1.0).query(_inside(images))
    return rotations, translations, targets.argsort(axis=1).astype(np.int16)


_kept_operations = lru_cache(maxsize=1024)(_operations)


def _inside(frac: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return fractional coordinates from 0 to below 1."""
    inside = frac - np.floor(frac)
    return np.where(inside < 1, inside, 0.0)
