"""Crystals in the format of chemiscope's viewer."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.analysis.local_env import CutOffDictNN
from scipy.spatial.transform import Rotation

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from cryslator_flows.documents.relaxations import RelaxationComparison

MOST_STRUCTURES = 200
# Atoms nearer than this to a face of the cell appear on the opposite face too, in fractional coordinates.
FACE = 0.01
# A view from the upper right, z up and x towards the eye: along an axis atoms would hide each other.
VIEW = Rotation.from_euler("xy", (12, -25), degrees=True).as_matrix() @ np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])


def viewer_script() -> str:
    """Read chemiscope's JavaScript without its Python package, which would import ipywidgets."""
    spec = find_spec("chemiscope")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("chemiscope is not installed; pip install chemiscope")
    return (Path(spec.origin).parent / "sphinx/static/chemiscope.min.js").read_text(encoding="utf-8")


def viewed(comparisons: list[RelaxationComparison]) -> dict[str, dict[str, Any]]:
    """Return the structures of the first `MOST_STRUCTURES` relaxed candidates, by candidate and by start.

    Parameters
    ----------
    comparisons : list of RelaxationComparison
        The relaxed candidates; digests are skipped.

    Returns
    -------
    dict
        For each candidate its formula and its unrelaxed, translated and relaxed structures.
    """
    found = {}
    for item in comparisons[:MOST_STRUCTURES]:
        kinds = {"unrelaxed": item.unrelaxed_structure, "translated": item.translated_structure}
        kinds |= {f"relaxed, {part.start} start": part.structure for part in item.relaxations}
        drawn = {name: _describe(structure) for name, structure in kinds.items() if structure is not None}
        if drawn:
            found[item.candidate_id] = {"formula": item.reduced_formula, "structures": drawn}
    return found


@cache
def _longest_bonds() -> dict[tuple[str, str], float]:
    """Return the longest bond of each pair of elements, as VESTA draws them, in angstrom."""
    bonds = CutOffDictNN.from_preset("vesta_2019").cut_off_dict
    return {**bonds, **{(second, first): length for (first, second), length in bonds.items()}}


def _describe(structure: Structure) -> dict[str, Any]:
    """Describe one cell: atoms, also on all its faces, bonds, lattice and words."""
    symbols, fractional = _with_faces(structure)
    positions = structure.lattice.get_cartesian_coords(fractional)
    lengths = _longest_bonds()
    limits = np.array([[lengths.get((first, second), 0.0) for second in symbols] for first in symbols])
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
    bonds = np.argwhere(np.triu(distances <= limits, k=1))
    x, y, z = (VIEW @ positions.T).round(3).tolist()
    lattice = structure.lattice
    return {
        "size": len(symbols),
        "names": symbols,
        "x": x, "y": y, "z": z,
        "cell": (lattice.matrix @ VIEW.T).round(4).ravel().tolist(),
        "bonds": [[first, second, 1] for first, second in bonds.tolist()],
        "words": f"a, b, c {' '.join(f'{length:.3f}' for length in lattice.abc)} Å, "
                 f"{structure.volume / len(structure):.2f} Å³/atom",
    }  # fmt: skip


def _with_faces(structure: Structure) -> tuple[list[str], NDArray[np.floating]]:
    """Return symbols and fractional coordinates of the atoms of a cell, with complete faces, edges and corners."""
    symbols, fractional = [], []
    for site in structure:
        inside = site.frac_coords % 1
        inside[inside > 1 - FACE] -= 1
        for shift in product(*((0, 1) if value < FACE else (0,) for value in inside)):
            symbols.append(site.specie.symbol)
            fractional.append(inside + shift)
    return symbols, np.array(fractional)
