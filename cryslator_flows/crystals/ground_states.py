"""Crystals of the elements, as starts of relaxations that give an engine's energies of the elements.

Structures: ase.data (metals, with their measured lattice constants), and the AFLOW Library of Crystallographic
Prototypes in pymatgen. M. J. Mehl et al., Comput. Mater. Sci. 136, S1 (2017).
"""

from __future__ import annotations

from functools import cache

from ase.build import bulk
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from cryslator_flows.crystals.templates import aflow_library
from cryslator_flows.errors import StructureError

# Label of the prototype, its element, and the volume in cubic angstrom per atom if another element has this structure.
PROTOTYPES: dict[str, tuple[str, str, float | None]] = {
    "B": ("A_hR12_166_2h", "B", None),
    "C": ("A_hP4_194_bc", "C", None),
    "N": ("A_cP8_205_c", "N", None),
    "O": ("A_mC4_12_i", "O", None),
    "P": ("A_oC8_64_f", "P", None),
    "S": ("A_oF128_70_4h", "S", None),
    "Mn": ("A_cI58_217_ac2g", "Mn", None),
    "Ga": ("A_oC8_64_f", "Ga", None),
    "As": ("A_hR2_166_c", "As", None),
    "Se": ("A_hP3_152_a", "Se", None),
    "Sn": ("A_cF8_227_a", "C", 34.2),
    "Sb": ("A_hR2_166_c", "As", 30.2),
    "Te": ("A_hP3_152_a", "Se", 34.0),
    "La": ("A_hP4_194_ac", "La", None),
    "Pr": ("A_hP4_194_ac", "La", 34.5),
    "Nd": ("A_hP4_194_ac", "La", 34.2),
    "Pm": ("A_hP4_194_ac", "La", 33.6),
    "Sm": ("A_hR3_166_ac", "Sm", None),
    "Hg": ("A_hR1_166_a", "Hg", None),
    "Bi": ("A_hR2_166_c", "As", 35.4),
    "Pa": ("A_tI2_139_a", "Pa", None),
    "U": ("A_oC4_63_c", "U", None),
    "Np": ("A_oP8_62_2c", "Np", None),
    "Pu": ("A_mP16_11_8e", "Pu", None),
}
# Moments of an O2 molecule, a triplet, in Bohr magnetons. Engines without own moments of O would pair its spins.
MOMENTS = {"O": [1.0, 1.0]}
# Diatomic molecules in Cmce: a, b, c in angstrom, and y and z of the atom. Fluorine has the packing of chlorine.
HALOGENS: dict[str, tuple[float, float, float, float, float]] = {
    "F": (5.13, 3.67, 6.81, 0.102, 0.089),
    "Cl": (6.15, 4.40, 8.15, 0.117, 0.102),
    "Br": (6.57, 4.47, 8.75, 0.118, 0.119),
    "I": (7.14, 4.69, 9.78, 0.154, 0.117),
}


def ground_state(symbol: str) -> Structure:
    """Return the crystal of an element that is stable at low temperature.

    Parameters
    ----------
    symbol : str
        The element. Gases are crystals of their molecules. O2 has the moments of its triplet.

    Raises
    ------
    StructureError
        No structure of the element is known here.

    Examples
    --------
    >>> ground_state("Fe").get_space_group_info()
    ('Im-3m', 229)
    >>> len(ground_state("O"))
    2
    """
    if symbol == "H":
        return Structure.from_spacegroup("P6_3/mmc", Lattice.hexagonal(3.77, 6.16), ["H"], [[1 / 3, 2 / 3, 0.19]])
    if symbol in HALOGENS:
        a, b, c, y, z = HALOGENS[symbol]
        crystal = Structure.from_spacegroup("Cmce", Lattice.orthorhombic(a, b, c), [symbol], [[0, y, z]])
        return crystal.get_primitive_structure()
    if symbol in PROTOTYPES:
        return _prototype(symbol, *PROTOTYPES[symbol])
    try:
        return AseAtomsAdaptor.get_structure(bulk(symbol))
    except (KeyError, ValueError, RuntimeError) as error:
        raise StructureError(
            f"{symbol}: no structure of this element is known; give its energy in relaxation.element_energies"
        ) from error


def _prototype(symbol: str, label: str, element: str, volume: float | None) -> Structure:
    structure = _elemental_prototypes()[label, element].copy()
    structure.replace_species({element: symbol})
    if volume is not None:
        structure.scale_lattice(volume * len(structure))
    if symbol in MOMENTS:
        structure.add_site_property("magmom", MOMENTS[symbol])
    return structure


@cache
def _elemental_prototypes() -> dict[tuple[str, str], Structure]:
    """Return crystals by the label of their prototype and their element; of several with one label the first."""
    found: dict[tuple[str, str], Structure] = {}
    for label, structure in aflow_library():
        if len(structure.elements) == 1:
            found.setdefault((label, structure.elements[0].symbol), structure)
    return found
