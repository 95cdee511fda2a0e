"""ASE's smooth Lennard-Jones potential for small cells, without its list of neighbours: twice as fast."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import cutoff_function, d_cutoff_function
from ase.geometry import wrap_positions
from ase.stress import full_3x3_to_voigt_6_stress


class PairPotential(Calculator):
    """Lennard-Jones potential that a cutoff function ends between 0.66 of `rc` and `rc`, in angstrom."""

    name = "lennardjones"
    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]
    default_parameters: ClassVar[dict[str, float]] = {"sigma": 1.0, "epsilon": 1.0, "rc": 6.0}

    def check_state(self, atoms: Any, tol: float = 0) -> list[str]:
        """Tell whether anything changed; ASE's comparison takes as long as the potential."""
        old = self.atoms
        same = old is not None and all(
            np.array_equal(getattr(old, name), getattr(atoms, name)) for name in ("numbers", "positions", "cell")
        )
        return [] if same else list(all_changes)

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        """Sum over all images within the cutoff."""
        super().calculate(atoms, properties, system_changes)
        sigma, epsilon, rc = (self.parameters[name] for name in ("sigma", "epsilon", "rc"))
        cell = self.atoms.cell.array
        # Two wrapped positions are up to a whole cell apart, which is one image more.
        reach = np.ceil(rc * np.linalg.norm(np.linalg.inv(cell), axis=0)).astype(int) + 1
        images = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach)), -1).reshape(-1, 3) @ cell
        positions = wrap_positions(self.atoms.positions, cell, pbc=True)
        vectors = positions[None, :, None] - positions[:, None, None] + images
        square = (vectors**2).sum(-1)
        first, *_ = near = np.nonzero((square > 1e-12) & (square < rc**2))
        vectors, square = vectors[near], square[near]
        sixth = (sigma**2 / square) ** 3
        energies = 4 * epsilon * (sixth**2 - sixth)
        slopes = -24 * epsilon * (2 * sixth**2 - sixth) / square
        bounds = rc**2, (0.66 * rc) ** 2
        cutoff = cutoff_function(square, *bounds)
        pulls = (cutoff * slopes + 2 * d_cutoff_function(square, *bounds) * energies)[:, None] * vectors
        forces = np.zeros_like(positions)
        np.add.at(forces, first, pulls)
        energy = float(energies @ cutoff / 2)
        stress = full_3x3_to_voigt_6_stress(pulls.T @ vectors / 2 / self.atoms.get_volume())
        self.results = {"energy": energy, "free_energy": energy, "forces": forces, "stress": stress}
