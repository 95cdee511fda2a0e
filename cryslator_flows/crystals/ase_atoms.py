"""Atoms of ASE as structures, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymatgen.io.ase import AseAtomsAdaptor

from cryslator_flows.crystals.check import check_count
from cryslator_flows.errors import StructureError

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure


def structure_from_atoms(atoms: Atoms) -> Structure:
    """Return the crystal of ASE's atoms, without constraints and calculator.

    Raises
    ------
    StructureError
        There are too many atoms or occupancies, or the cell is not periodic in three directions.
    """
    check_count(len(atoms))
    if not all(atoms.pbc):
        raise StructureError("not periodic in three directions; give a cell with vacuum, and pbc=True", "not periodic")
    if "occupancy" in atoms.info or atoms.has("occupancies"):
        raise StructureError("has occupancies, which ASE leaves out; convert it to CIF", "disordered")
    plain = atoms.copy()
    del plain.constraints
    # ASE has zeros where the file has no moments. An engine would stay nonmagnetic from zero.
    if not plain.get_initial_magnetic_moments().any():
        plain.set_initial_magnetic_moments(None)
    return AseAtomsAdaptor.get_structure(plain)


def structure_of(given: Any) -> Any:
    """Return the crystal of ASE's atoms; anything else, such as a reference to a job's output, as it is.

    Raises
    ------
    StructureError
        See `structure_from_atoms`.
    """
    from ase import Atoms

    return structure_from_atoms(given) if isinstance(given, Atoms) else given


def atoms_like(structure: Structure, atoms: Atoms) -> Atoms:
    """Return a copy of ASE's atoms in the cell and at the positions of a structure, without calculator.

    Constraints, tags and all else that ASE copies stay.

    Parameters
    ----------
    structure : Structure
        A structure of the same atoms in the same order.
    atoms : Atoms
        The atoms, which stay unchanged.
    """
    moved = atoms.copy()
    moved.set_cell(structure.lattice.matrix)
    moved.set_positions(structure.cart_coords, apply_constraint=False)
    return moved
