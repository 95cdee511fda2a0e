"""Identical inputs for every start of a candidate."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pymatgen.io.vasp import Kpoints

from cryslator_flows.engines.gpaw import GpawRelaxMaker
from cryslator_flows.engines.handlers import update_vasp_makers
from cryslator_flows.engines.kpoints import mesh

if TYPE_CHECKING:
    from atomate2.vasp.jobs.base import BaseVaspMaker
    from jobflow import Maker
    from pymatgen.core import Structure

# VASP's defaults of the tags.
KSPACING, KGAMMA = 0.5, True


def pin_kpoints(maker: Maker, unrelaxed: Structure) -> Maker:
    """Return a relax maker that uses the k-points of the unrelaxed cell for every start.

    Codes derive the k-point mesh from the cell. A translated cell that is a little smaller or larger may get another
    mesh. The other mesh would cause a saving or a loss that has nothing to do with the start.

    Parameters
    ----------
    maker : Maker
        Any relax maker. VASP makers inside get an explicit mesh, also in place of KSPACING. A maker without k-points
        is returned as it is.
    unrelaxed : Structure
        The unrelaxed structure of the candidate.

    Returns
    -------
    Maker
        A changed copy.
    """
    if isinstance(maker, GpawRelaxMaker):
        kpts = maker.calculator_kwargs.get("kpts", {"size": mesh(unrelaxed, maker.kspacing), "gamma": True})
        return replace(maker, calculator_kwargs={**maker.calculator_kwargs, "kpts": kpts})

    def pin(vasp_maker: BaseVaspMaker) -> BaseVaspMaker:
        generator = vasp_maker.input_set_generator
        inputs = generator.get_input_set(structure=unrelaxed, potcar_spec=True)
        kpoints = inputs.kpoints
        if kpoints is None:
            divisions = mesh(unrelaxed, inputs.incar.get("KSPACING", KSPACING))
            gamma = inputs.incar.get("KGAMMA", KGAMMA)
            kpoints = Kpoints.gamma_automatic(divisions) if gamma else Kpoints.monkhorst_automatic(divisions)
        # pymatgen documents "dict or Kpoints", its types have the first alone.
        pinned = replace(generator, user_kpoints_settings=kpoints)  # type: ignore[arg-type]
        return replace(vasp_maker, input_set_generator=pinned)

    return update_vasp_makers(maker, pin)
