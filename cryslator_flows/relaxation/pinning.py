"""Identical inputs for every start of a candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from cryslator_flows.relaxation.gpaw import GpawRelaxMaker
from cryslator_flows.relaxation.kpoints import mesh

if TYPE_CHECKING:
    from jobflow import Maker
    from pymatgen.core import Structure

AnyMaker = TypeVar("AnyMaker", bound="Maker")


def pin_kpoints(maker: AnyMaker, unrelaxed: Structure) -> AnyMaker:
    """A relax maker whose k-points are those of the unrelaxed cell, whatever structure it starts from.

    Codes derive the k-point mesh from the cell. Where the translated cell is a little smaller or larger it may get
    another mesh, and a saving or a loss that has nothing to do with the start.

    Parameters
    ----------
    maker : Maker
        Any relax maker; one without k-points comes back as it is.
    unrelaxed : Structure
        The unrelaxed structure of the candidate.

    Returns
    -------
    Maker
        A changed copy.
    """
    if isinstance(maker, GpawRelaxMaker) and "kpts" not in maker.calculator_kwargs:
        kpts = {"size": mesh(unrelaxed, maker.kspacing), "gamma": True}
        return maker.update_kwargs({"calculator_kwargs": {**maker.calculator_kwargs, "kpts": kpts}}, nested=False)
    return maker
