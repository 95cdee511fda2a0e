"""Electronic properties with GPAW, an optional engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from ase.dft.bandgap import bandgap
from jobflow import job

from cryslator_flows.analysis.property_errors import broaden_levels
from cryslator_flows.documents.properties import ElectronicProperties
from cryslator_flows.engines.gpaw import GpawRelaxMaker

if TYPE_CHECKING:
    from pathlib import Path

    from ase.calculators.calculator import Calculator
    from gpaw.new.ase_interface import ASECalculator
    from pymatgen.core import Structure


def gpaw_electronic(calculator: ASECalculator) -> ElectronicProperties:
    """Compute electronic properties from the eigenvalues of a converged GPAW calculator.

    Parameters
    ----------
    calculator : ASECalculator
        GPAW's calculator.

    Returns
    -------
    ElectronicProperties
        The density of states is broadened from every band at the calculator's k-points.
    """
    weights = np.asarray(calculator.get_k_point_weights())
    spins = calculator.get_number_of_spins()
    levels = np.array(
        [[calculator.get_eigenvalues(kpt=kpt, spin=spin) for kpt in range(len(weights))] for spin in range(spins)]
    )
    efermi = float(calculator.get_fermi_level())
    gap, top, bottom = bandgap(eigenvalues=levels, efermi=efermi)
    highest_occupied = levels[top] if gap > 0 else efermi
    states = np.broadcast_to(2 / spins * weights[None, :, None], levels.shape)
    atoms = calculator.atoms
    return ElectronicProperties(
        engine="GPAW",
        energy_per_atom=calculator.get_potential_energy(atoms) / len(atoms),
        band_gap=gap,
        # The occupations leave the Fermi level anywhere in the gap.
        efermi=(levels[top] + levels[bottom]) / 2 if gap > 0 else efermi,
        dos=broaden_levels(levels - highest_occupied, states, len(atoms)),
    )


@dataclass
class GpawStaticMaker(GpawRelaxMaker):
    """Static GPAW calculation of the electronic properties of one structure.

    It takes the settings of `GpawRelaxMaker`, magnetic moments included. The lowest empty band is converged too, unless
    ``calculator_kwargs`` set another convergence.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> rock_salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> maker = GpawStaticMaker(calculator_kwargs={"mode": {"name": "pw", "ecut": 500}})
    >>> maker.make(rock_salt).name
    'GPAW static'
    """

    name: str = "GPAW static"
    steps: int = 1

    @job(output_schema=ElectronicProperties)
    def make(self, structure: Structure, prev_dir: str | Path | None = None) -> ElectronicProperties:
        """Calculate the electronic properties of a structure.

        Parameters
        ----------
        structure : Structure
            The structure.
        prev_dir : str or Path or None
            Not used; part of the signature of other makers.
        """
        self.run_ase(structure, prev_dir=prev_dir)
        return gpaw_electronic(cast("ASECalculator", self.calculator))

    def _get_calculator(self, **kwargs: Any) -> Calculator:
        # GPAW stops where no band lies above the bands to converge; its default number of empty bands can be too small.
        nbands = self.calculator_kwargs.get("nbands", "180%")
        convergence = {"bands": "CBM+0.2", **self.calculator_kwargs.get("convergence", {})}
        return super()._get_calculator(nbands=nbands, convergence=convergence, **kwargs)
