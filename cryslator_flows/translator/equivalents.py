"""Symmetrically equivalent atoms of crystals, found with moyopy."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from cryslator_flows.translator.orbits import BASIS, Symmetry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cryslator_flows.translator.graph import Crystals

    Found = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]

# Tolerance of the symmetry of an input in angstrom, after scaling to so many cubic angstrom per atom. It covers
# rounding in files.
SYMPREC, ATOM_VOLUME = 1e-3, 15.0
# Largest deviation of a relaxed crystal from the symmetry of its unrelaxed one: strain, and angstrom.
RELAXED_STRAIN, RELAXED_SHIFT = 0.005, 0.03


def find_symmetry(crystals: Crystals) -> Crystals:
    """Return a batch with the symmetry that moyopy finds in each crystal.

    If moyopy finds no symmetry or fails, all atoms of the crystal are kept.

    Parameters
    ----------
    crystals : Crystals
        The batch, on the processor.

    Returns
    -------
    Crystals
        The batch with `symmetry`, in double precision.
    """
    lattices, frac = crystals.lattices.double().numpy(), crystals.frac.double().numpy()
    ends = np.cumsum(crystals.n_atoms.numpy())
    numbers = crystals.numbers.tolist()
    rows = []
    for lattice, end, count in zip(lattices, ends.tolist(), crystals.n_atoms.tolist(), strict=True):
        kinds: dict[int, int] = {}
        # Candidates of one template differ by their elements and their scale alone, and then have the same operations.
        named = tuple(kinds.setdefault(number, len(kinds)) for number in numbers[end - count : end])
        scaled = lattice * np.cbrt(ATOM_VOLUME * count / max(abs(np.linalg.det(lattice)), 1e-12))
        rows.append(_equivalent(scaled.round(9).tobytes(), frac[end - count : end].tobytes(), named))
    representatives, turns, sites, cells = zip(*rows, strict=True)
    found = Symmetry(
        torch.from_numpy(np.concatenate(representatives)),
        torch.from_numpy(np.concatenate(turns)),
        torch.from_numpy(np.concatenate(sites)),
        torch.from_numpy(np.stack(cells)),
    )
    return replace(crystals, symmetry=found)


@lru_cache(maxsize=1024)
def _equivalent(cell: bytes, positions: bytes, kinds: tuple[int, ...]) -> Found:
    """Return the columns of `Symmetry` for one crystal."""
    from moyopy import Cell, MoyoDataset
    from scipy.spatial import KDTree

    # moyopy logs expected cases: operations that a supercell lacks, coordinates rounded in files.
    logging.getLogger("moyo").setLevel(logging.ERROR)
    lattice, frac = np.frombuffer(cell).reshape(3, 3), np.frombuffer(positions).reshape(-1, 3)
    each = np.tile(np.eye(3), (len(frac), 1, 1))
    alone = np.arange(len(frac)), each, each, np.eye(6)
    try:
        dataset = MoyoDataset(Cell(lattice.tolist(), frac.tolist(), [*kinds]), symprec=SYMPREC)
    except BaseException as error:
        # A panic of moyopy's Rust code is not a subclass of Exception.
        if not isinstance(error, ValueError) and type(error).__name__ != "PanicException":
            raise
        return alone
    rotations = np.array(dataset.operations.rotations, dtype=float)  # on fractional columns
    translations = np.array(dataset.operations.translations)[:, None]
    if len(rotations) == 1:
        return alone
    tree = KDTree(_inside(frac), boxsize=1.0)

    def reach(atoms: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the atom to which each operation maps each of `atoms`, [operations, atoms]."""
        found: NDArray[np.int64] = tree.query(_inside(frac[atoms] @ rotations.mT + translations))[1]
        return found

    shown = np.unique(dataset.orbits)
    reached = reach(shown)
    if len(np.unique(reached)) < len(frac):
        # A supercell has fewer operations than its primitive cell, and more orbits.
        reached = reach(np.arange(len(frac)))
        shown = np.unique(reached.min(axis=0))
        reached = reached[:, shown]
    # The first operation that leads to each atom. The atom that represents an orbit has the identity.
    atoms, first = np.unique(reached, return_index=True)
    operation, of = np.divmod(first, len(shown))
    if len(atoms) < len(frac) or (reached[0] != shown).any():
        return alone
    # The nearest cell with the exact symmetry, so that turns are orthogonal.
    metric = np.mean(rotations.mT @ (lattice @ lattice.T) @ rotations, axis=0)
    inverse = np.linalg.inv(lattice)
    squares, axes = np.linalg.eigh(inverse @ metric @ inverse.T)
    exact = lattice @ (axes * np.sqrt(squares)) @ axes.T
    turns = np.linalg.inv(exact) @ rotations.mT @ exact  # [operations, 3, 3], on row vectors

    stays = (reached == shown).astype(float)
    sites = np.einsum("ko,kij->oij", stays, turns) / stays.sum(axis=0)[:, None, None]
    flat = turns.reshape(-1, 9)
    both = (flat.T @ flat / len(flat)).reshape(3, 3, 3, 3).transpose(1, 3, 0, 2).reshape(9, 9)
    cells = BASIS.reshape(6, 9) @ both @ BASIS.reshape(6, 9).T
    return shown[of], turns[operation], _clean(sites)[of], _clean(cells)


def _inside(frac: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return fractional coordinates from 0 to below 1."""
    inside = frac - np.floor(frac)
    return np.where(inside < 1, inside, 0.0)


def _clean(projectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Set rounding errors to zero, so that forbidden components are exactly zero."""
    return np.where(np.abs(projectors) < 1e-10, 0.0, projectors)
