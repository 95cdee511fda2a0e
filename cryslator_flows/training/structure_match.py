"""Comparison of predicted with relaxed structures. Without torch, so that worker processes start faster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core.structure_matcher import StructureMatcher
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer, SymmetryUndeterminedError

from cryslator_flows.crystals.displacement import displacements

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymatgen.core import Structure

LOOSE = StructureMatcher(ltol=0.2, stol=0.3, angle_tol=5)
STRICT = StructureMatcher(ltol=0.05, stol=0.1, angle_tol=2, scale=False)
SYMPREC = 1e-3


def displacement(predicted: Structure, relaxed: Structure) -> float:
    """Return the mean distance between the atoms of two structures with the same sites in the same order.

    Displacements are defined in `cryslator_flows.crystals.displacement`. They are measured in the relaxed cell.

    Parameters
    ----------
    predicted, relaxed : Structure
        The structures.

    Returns
    -------
    float
        Mean over the atoms, in angstrom.
    """
    shift = displacements(relaxed.frac_coords, predicted.frac_coords)
    return float(np.linalg.norm(relaxed.lattice.get_cartesian_coords(shift), axis=1).mean())


def fractional_error(predicted: Structure, relaxed: Structure) -> float:
    """Return the mean absolute difference of fractional coordinates over atoms and axes, as Kim et al. 2023 count it.

    Differences are to the nearest images, drift removed.
    """
    return float(np.abs(displacements(relaxed.frac_coords, predicted.frac_coords)).mean())


def n_operations(structure: Structure) -> int:
    """Return the number of symmetry operations of the cell at symprec 0.001; 1 where spglib finds none."""
    try:
        return len(SpacegroupAnalyzer(structure, symprec=SYMPREC).get_symmetry_operations())
    except (SymmetryUndeterminedError, TypeError, ValueError):
        return 1


def compare(start: Structure, predicted: Structure, relaxed: Structure) -> list[float]:
    """Return the first columns of `StructureScore` for one structure.

    All three structures have their sites in the same order.
    """
    return [
        abs(predicted.volume / relaxed.volume - 1),
        displacement(predicted, relaxed),
        bool(LOOSE.fit(predicted, relaxed)),
        bool(STRICT.fit(predicted, relaxed)),
        n_operations(predicted) >= n_operations(start),
        fractional_error(predicted, relaxed),
    ]


def compare_all(triples: Iterable[tuple[Structure, Structure, Structure]]) -> list[list[float]]:
    """Return the columns of `compare` for each (start, predicted, relaxed)."""
    return [compare(*triple) for triple in triples]
