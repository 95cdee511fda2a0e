"""Electronic steps in OSZICAR, and the convergence of their last loop."""

from __future__ import annotations

import re
from typing import NamedTuple

# Number, energy and its change. A number is complete only if something follows it; VASP prints stars for one that does
# not fit.
ELECTRONIC_STEP = re.compile(rb"\s*[A-Z]+\s*:\s*(\d+|\*+)\s(?:\s*\S+\s+(\S+)\s)?")
IONIC_STEP = re.compile(rb"\s*\d+\s.*\bF=")
# Lines before the loops of linear response, and before each direction or displacement of it.
RESPONSE = re.compile(rb"\s*Linear response")
DIRECTION = re.compile(rb"\s*(?:Direction|Degree of freedom):")
HEADING = re.compile(rb"\s*N\s+E\s+dE\b")


class Loop(NamedTuple):
    """The last loop of electronic steps of an ionic step."""

    steps: int
    change: float | None  # eV, of the energy in the last step; None where it is not a number
    ended: bool  # VASP wrote the energy of the ionic step after it

    def converged(self, most_steps: int, tolerance: float) -> bool | None:
        """Return True if the loop ended by EDIFF (eV), False if by NELM; None at NELM with an unknown change."""
        if self.steps < most_steps:
            return True
        return None if self.change is None else abs(self.change) <= tolerance


class Oszicar(NamedTuple):
    """Counts of an OSZICAR."""

    electronic_steps: list[int]  # of each ionic step
    response_steps: list[int]  # of each loop of linear response
    last_loop: Loop


def read_oszicar(content: bytes) -> Oszicar:
    """Count electronic steps.

    Parameters
    ----------
    content : bytes
        Content of an OSZICAR, which may be cut anywhere.

    Returns
    -------
    Oszicar
        The last ionic step may be unfinished. A step of a machine-learned force field has 0.
    """
    steps: list[int] = []
    response: list[int] = []
    change = None
    begun = responds = directed = headed = False
    ended = True
    for line in content.splitlines():
        if match := ELECTRONIC_STEP.match(line):
            # Loops for magnetic fields (LCHIMAG) follow the last ionic step, and their first has no heading.
            responds |= match[1] == b"1" and bool(steps) and not headed
            headed = False
            loops = response if responds else steps
            if not begun or match[1] == b"1":
                loops.append(0)
            begun = True
            loops[-1] += 1
            if not responds:
                change = _number(match[2])
                ended = False
        elif IONIC_STEP.match(line):
            if not begun:
                steps.append(0)
            begun, ended = False, True
        elif RESPONSE.match(line):
            responds, begun = True, False
        elif HEADING.match(line):
            # A heading below a direction, or one that ends with rms, belongs to linear response. Any other heading
            # begins an ionic step.
            responds, directed, headed = responds and (directed or line.split()[-1] == b"rms"), False, True
        else:
            directed = bool(DIRECTION.match(line))
    return Oszicar(steps, response, Loop(steps[-1] if steps else 0, change, ended))


def _number(text: bytes | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
