"""Conjugate gradients with trial and corrector steps, as VASP relaxes with IBRION = 2.

ASE's SciPyFminCG fails with GPAW: its line search compares energies, which plane waves of a fixed cutoff make
inconsistent with the stress. This one searches for the zero of the force along the line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase.optimize.optimize import Optimizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

# First trial step along the force, in A^2/eV: the inverse of the curvature that ASE's BFGS begins with.
FIRST = 1 / 70
# Largest move of an atom in a step, in A, as of ASE's BFGS.
LARGEST = 0.2
# A line is left when the force along it has fallen to this share.
LEFT = 0.25


class TrialCorrectorCG(Optimizer):
    """Polak-Ribiere conjugate gradients; each call of forces is a step, in trials as well as in correctors.

    A trial step goes along the search direction, as far as the last line went. A corrector goes to where the force
    along the line vanishes by interpolation. It is repeated until this force has fallen to a quarter; then the
    next line begins. Convergence is checked after each step.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from ase.calculators.emt import EMT
    >>> from ase.filters import FrechetCellFilter
    >>> crystal = bulk("Cu", a=3.7)
    >>> crystal.calc = EMT()
    >>> bool(TrialCorrectorCG(FrechetCellFilter(crystal), logfile=None).run(fmax=0.01, steps=20))
    True
    """

    def initialize(self) -> None:
        """Forget all lines."""
        self.scale = FIRST
        self.direction: NDArray[np.float64] | None = None
        self.last_force: NDArray[np.float64] | None = None

    def step(self) -> None:
        """Move to the next trial or corrector point."""
        force = -self.optimizable.get_gradient()
        if self.direction is not None:
            slope = float(force @ self.direction)
            if abs(slope) > LEFT * self.slope:
                self._correct(slope)
                return
            self.scale = abs(self.at) or self.scale
        self._begin(force)

    def _begin(self, force: NDArray[np.float64]) -> None:
        """Begin a line with a trial step."""
        direction = force
        if self.direction is not None and self.last_force is not None:
            beta = force @ (force - self.last_force) / (self.last_force @ self.last_force)
            direction = force + max(0.0, float(beta)) * self.direction
            if force @ direction <= 0:
                direction = force
        self.direction, self.last_force = direction, force
        self.origin = self.optimizable.get_x().copy()
        self.slope = float(force @ direction)
        self.before, self.slope_before, self.at = 0.0, self.slope, 0.0
        self._move(self.scale)

    def _correct(self, slope: float) -> None:
        """Move to the zero of the force along the line, by the last two points; never more than four times as far."""
        step, fall = self.at - self.before, self.slope_before - slope
        further = slope * step / fall if fall * step > 0 else np.sign(slope) * 2 * abs(step)
        self.before, self.slope_before = self.at, slope
        self._move(self.at + float(np.clip(further, -abs(step), 3 * abs(step))))

    def _move(self, distance: float) -> None:
        """Move to a distance from the begin of the line, at most `LARGEST` from the last point."""
        longest = float(np.max(self.optimizable.gradient_norm(self.direction)))
        limit = LARGEST / longest
        self.at += float(np.clip(distance - self.at, -limit, limit))
        self.optimizable.set_x(self.origin + self.at * self.direction)
