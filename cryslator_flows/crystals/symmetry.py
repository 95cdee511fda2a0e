"""Give a changed structure back the exact symmetry of the one it came from."""

from __future__ import annotations

import warnings

import numpy as np
import spglib
from pymatgen.core import Structure
from scipy.linalg import sqrtm
from scipy.stats import circmean

from cryslator_flows.errors import StructureError

# VASP's default SYMPREC, in angstrom.
SYMPREC = 1e-5


def symmetrize_like(structure: Structure, reference: Structure) -> Structure:
    """Project a structure on the symmetry operations of its reference.

    A relaxed or translated structure whose symmetry was lost to numerical noise doubles the k-points of the DFT run
    that starts from it. The cell metric and the positions are averaged over the operations that spglib finds in the
    reference at `SYMPREC`, in double precision; noise goes, and so does a real change that breaks the symmetry.

    Parameters
    ----------
    structure : Structure
        What became of `reference`: same sites in the same order. A rotation of the cell is taken back and a common
        shift of all atoms too.
    reference : Structure
        The unrelaxed structure.

    Returns
    -------
    Structure
        In the orientation of `reference` and with its site properties, magnetic moments for instance.

    Raises
    ------
    StructureError
        The sites of the two do not correspond.
    """
    if structure.species != reference.species:
        raise StructureError(
            f"symmetrize: sites of {structure.formula} and of its reference {reference.formula} do not correspond; "
            "give the same sites in the same order"
        )
    before = np.asarray(reference.frac_coords, dtype=float)
    rotations, translations = _operations(reference)
    images = before @ rotations.transpose(0, 2, 1) + translations[:, None, :]
    # sources[k, j]: the site that operation k takes to site j.
    distances = _fractional_distances(images, before, reference.lattice.matrix, reference.species)
    sources = distances.argmin(axis=1)

    moved = np.asarray(structure.frac_coords, dtype=float) - before
    # Their common shift first: around half a cell, atoms would otherwise be wrapped to both sides.
    moved -= circmean(moved, high=0.5, low=-0.5, axis=0)
    moved -= np.round(moved)
    after = before + moved - moved.mean(axis=0)
    mapped = after @ rotations.transpose(0, 2, 1) + translations[:, None, :]
    mapped = np.take_along_axis(mapped, sources[:, :, None], axis=1)
    mapped -= np.round(mapped - after)

    # The symmetric stretch of the reference cell that gives the averaged metric: no rotation is left in it.
    matrix = structure.lattice.matrix
    metric = np.mean(rotations.transpose(0, 2, 1) @ (matrix @ matrix.T) @ rotations, axis=0)
    inverse = np.linalg.inv(reference.lattice.matrix)
    lattice = reference.lattice.matrix @ np.real(sqrtm(inverse @ metric @ inverse.T))

    return Structure(lattice, reference.species, mapped.mean(axis=0), site_properties=reference.site_properties)


def _operations(structure: Structure) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [n, 3, 3] and translations [n, 3] on fractional columns; the identity alone where spglib finds none."""
    numbers = [species.Z for species in structure.species]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = spglib.get_symmetry_dataset((structure.lattice.matrix, structure.frac_coords, numbers), SYMPREC)
        except spglib.SpglibError:
            found = None
    if found is None:
        return np.eye(3)[None], np.zeros((1, 3))
    return np.asarray(found.rotations, dtype=float), np.asarray(found.translations, dtype=float)


def _fractional_distances(
    images: np.ndarray, sites: np.ndarray, lattice: np.ndarray, species: list[object]
) -> np.ndarray:
    """Distances [operation, image, site] in angstrom, infinite between different elements."""
    difference = images[:, :, None, :] - sites[None, None, :, :]
    difference -= np.round(difference)
    distances = np.linalg.norm(difference @ lattice, axis=-1)
    different = np.array([[one != other for other in species] for one in species])
    return np.where(different[None], np.inf, distances)
