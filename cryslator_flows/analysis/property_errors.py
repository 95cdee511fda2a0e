"""Differences of a structure and its electrons from the relaxed structure and its electrons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase.geometry import find_mic
from pydantic import ValidationError
from pydash import get
from pymatgen.electronic_structure.dos import Dos
from scipy.spatial.distance import braycurtis
from scipy.stats import norm

from cryslator_flows.counting.task_documents import has_converged
from cryslator_flows.crystals.displacement import displacements
from cryslator_flows.documents.properties import DensityOfStates, ElectronicProperties, PropertyErrors
from cryslator_flows.errors import DataError, StructureError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from pymatgen.core import Structure

DOS_ENERGIES = np.linspace(-12, 6, 361)
DOS_BROADENING = 0.2
DOS_DEPTH = 10.0


def structure_errors(structure: Structure, relaxed: Structure) -> PropertyErrors:
    """Compare the geometry of a structure with the relaxed structure.

    Both hold the same atoms in the same setting of the cell. Sites of the relaxed structure are in the order of
    `structure` or sorted by electronegativity, as the Materials Project's input sets for VASP sort them. The choice of
    the origin, periodic images and a rotation of a whole crystal do not matter.

    Parameters
    ----------
    structure : Structure
        A start.
    relaxed : Structure
        The relaxed structure.

    Returns
    -------
    PropertyErrors
        Its fields of electrons are None.

    Raises
    ------
    StructureError
        The structures do not hold the same atoms.
    """
    symbols = [site.specie.symbol for site in relaxed]
    orders = [
        order
        for order in (structure, structure.get_sorted_structure())
        if [site.specie.symbol for site in order] == symbols
    ]
    if not orders:
        raise StructureError(
            f"structure of {structure.formula} cannot be compared with relaxed structure of {relaxed.formula}: "
            "other atoms, or sites in another order; give both as one engine had them"
        )
    fractional, cartesian = min((_coordinate_errors(order, relaxed) for order in orders), key=lambda errors: errors[1])
    start, end = structure.lattice, relaxed.lattice
    return PropertyErrors(
        volume=start.volume / end.volume - 1,
        volume_per_atom=(start.volume - end.volume) / len(relaxed),
        lengths=tuple(np.subtract(start.abc, end.abc).tolist()),
        angles=tuple(np.subtract(start.angles, end.angles).tolist()),
        fractional=fractional,
        cartesian=cartesian,
    )


def _coordinate_errors(structure: Structure, relaxed: Structure) -> tuple[float, float]:
    """Return the mean absolute difference of fractional coordinates, and the mean distance in angstrom."""
    shift = displacements(relaxed.frac_coords, structure.frac_coords)
    # In a skewed cell another image can be nearer.
    vectors, _ = find_mic(shift @ relaxed.lattice.matrix, relaxed.lattice.matrix)
    return float(np.abs(shift).mean()), float(np.linalg.norm(vectors - vectors.mean(axis=0), axis=1).mean())


def broaden_levels(levels: ArrayLike, states: ArrayLike, n_atoms: int) -> DensityOfStates:
    """Broaden energy levels to a density of states.

    Parameters
    ----------
    levels : array of float
        Energies above the highest occupied level, in eV.
    states : array of float
        States of the cell at each level, both spins.
    n_atoms : int
        Atoms of the cell.

    Returns
    -------
    DensityOfStates
        With a Gaussian of `DOS_BROADENING` eV for each level, at `DOS_ENERGIES`.
    """
    levels, states = np.ravel(levels), np.ravel(states)
    densities = np.zeros(len(DOS_ENERGIES))
    # In pieces: a dense mesh has a hundred thousand levels.
    for piece in range(0, len(levels), 4096):
        part = slice(piece, piece + 4096)
        densities += norm.pdf(DOS_ENERGIES[:, None], levels[part], DOS_BROADENING) @ states[part]
    return DensityOfStates(energies=DOS_ENERGIES.tolist(), densities=(densities / n_atoms).tolist())


def dos_distance(one: DensityOfStates, other: DensityOfStates) -> float:
    """Return the distance of two densities of occupied states.

    The distance is the integral of ``|one - other|`` over the integral of ``one + other``. Both run from `DOS_DEPTH` eV
    below the highest occupied level up to it. So it is the share of the electrons in this window that have other
    energies. Energies count from the highest occupied level: the valence band maximum, or the Fermi level of a metal.
    Codes put the Fermi level of an insulator anywhere in its gap. Empty states do not count, since the settings of an
    engine limit their number. Deeper states are cores, which not every pseudopotential has.

    Parameters
    ----------
    one, other : DensityOfStates
        Densities of states to compare.

    Returns
    -------
    float
        0 for equal densities, 1 for densities with nothing in common.

    Raises
    ------
    DataError
        The grids are unequal, or a density of states has no occupied states.
    """
    energies = np.asarray(one.energies)
    if not np.array_equal(energies, other.energies):
        raise DataError("densities of states on unequal grids cannot be compared; read both with the same version")
    window = (energies >= -DOS_DEPTH - 1e-9) & (energies <= 1e-9)
    first, second = np.asarray(one.densities)[window], np.asarray(other.densities)[window]
    if not (first.any() and second.any()):
        raise DataError(f"a density of states has no states within {DOS_DEPTH:g} eV below the highest occupied level")
    return float(braycurtis(first, second))


def property_errors(
    structure: Structure,
    relaxed: Structure,
    electronic: ElectronicProperties | None,
    relaxed_electronic: ElectronicProperties | None,
) -> PropertyErrors:
    """Compare a structure and its electrons with the relaxed structure and its electrons.

    Parameters
    ----------
    structure, relaxed : Structure
        A start and the relaxed structure.
    electronic, relaxed_electronic : ElectronicProperties or None
        Their electrons; None where unknown.

    Returns
    -------
    PropertyErrors
        Unknown fields are None.

    Raises
    ------
    StructureError
        The structures do not hold the same atoms.
    DataError
        The densities of states cannot be compared.
    """
    errors = structure_errors(structure, relaxed)
    if electronic is None or relaxed_electronic is None:
        return errors
    errors.band_gap = electronic.band_gap - relaxed_electronic.band_gap
    errors.efermi = electronic.efermi - relaxed_electronic.efermi
    if electronic.dos is not None and relaxed_electronic.dos is not None:
        errors.dos_distance = dos_distance(electronic.dos, relaxed_electronic.dos)
    return errors


def read_electronic(document: Any) -> ElectronicProperties:
    """Read electronic properties from the document of a static calculation.

    Parameters
    ----------
    document : object
        emmet's VASP ``TaskDoc``, as an object or a dict; it holds the density of states if `parse_dos` was on.
        Makers of other engines return an `ElectronicProperties`.

    Returns
    -------
    ElectronicProperties
        Without a density of states, `dos_error` holds the reason.

    Raises
    ------
    DataError
        The calculation did not converge or has no band gap, or the document is of another kind.
    """
    if isinstance(document, ElectronicProperties):
        return document
    calculations = get(document, "calcs_reversed")
    if calculations:
        return _read_vasp(document, calculations[0])
    try:
        return ElectronicProperties.model_validate(document)
    except ValidationError as error:
        raise DataError(
            f"no electronic properties in a {type(document).__name__}; give emmet's TaskDoc of a static calculation "
            "or ElectronicProperties"
        ) from error


def _read_vasp(document: Any, calculation: Any) -> ElectronicProperties:
    place = f"static calculation in {get(document, 'dir_name')}"
    converged = has_converged(document, calculation)
    if not converged:
        words = "not converged" if converged is False else "convergence unknown"
        raise DataError(f"{place}: {words} (state {get(document, 'state')}); see its OUTCAR")
    gap, efermi, vbm, cbm = (get(calculation, f"output.{name}") for name in ("bandgap", "efermi", "vbm", "cbm"))
    if gap is None or efermi is None:
        raise DataError(f"{place}: no band gap or no Fermi level; its vasprun.xml has no eigenvalues or no efermi")
    insulator = gap > 0 and vbm is not None and cbm is not None
    found = ElectronicProperties(
        engine="VASP",
        energy_per_atom=get(calculation, "output.energy_per_atom"),
        band_gap=gap,
        efermi=(vbm + cbm) / 2 if insulator else efermi,
        synthetic="synthetic" in str(get(calculation, "vasp_version")).lower(),
    )
    try:
        found.dos = _read_dos(
            (get(document, "vasp_objects") or {}).get("dos"), vbm if insulator else efermi, get(document, "nsites")
        )
    except DataError as error:
        found.dos_error = str(error)
    return found


def _read_dos(dos: Any, highest_occupied: float, n_atoms: int) -> DensityOfStates:
    """Read pymatgen's or emmet's density of states of VASP, an object or a dict."""
    if dos is None:
        raise DataError("density of states not parsed; set parse_dos in task_document_kwargs")
    if isinstance(dos, dict) and {"efermi", "energies", "densities"} <= dos.keys():
        # Numbers alone: no class that the document names is built.
        dos = Dos.from_dict(dos)
    if hasattr(dos, "to_pmg"):
        dos = dos.to_pmg()
    if not hasattr(dos, "get_densities"):
        raise DataError("density of states not loaded; query the JobStore with load=True")
    energies: NDArray[np.float64] = np.asarray(dos.energies)
    step = (energies[-1] - energies[0]) / (len(energies) - 1)
    if step > DOS_BROADENING:
        raise DataError(
            f"energies of the density of states are {step:.2f} eV apart, more than {DOS_BROADENING} eV; "
            "set NEDOS in user_incar_settings, to 3001 say"
        )
    # VASP gives at each energy the mean density of the bin that ends there.
    return broaden_levels(energies - step / 2 - highest_occupied, np.asarray(dos.get_densities()) * step, n_atoms)
