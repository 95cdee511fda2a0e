"""Settings, wall time and ends of loops in an OUTCAR, beside the counts of OSZICAR."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryslator_flows.counting.oszicar import Loop

ITERATION = re.compile(rb"(-+) Iteration\s*([\d*]+)\(\s*([\d*]+)")
NUMBER = re.compile(rb"=\s*(-?\d+)")
ELECTRONIC_LIMIT = re.compile(rb"\s*NELM\s*=\s*(\d+)\s*;")
TOLERANCE = re.compile(rb"\s*EDIFF\s*=\s*(\d*\.?\d+(?:E[-+]?\d+)?)\s")
# IBRION without a relaxation that could converge: single points, finite differences and perturbation theory.
NO_RELAXATION = (-1, 5, 6, 7, 8)
# VASP states its version and its start time within these lines.
HEAD_LINES = 4


class Outcar:
    """State of a run after each line of its OUTCAR."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.electronic_steps: list[int] = []
        self.n_kpoints: int | None = None
        self.wall_time: float | None = None
        self._static = False
        self._rule = 0
        self._ionic = b""
        self._responds = False
        self._electronic_limit: int | None = None
        self._tolerance: float | None = None
        self._ended_by_ediff = self._relaxed = False

    @property
    def head(self) -> bytes:
        """First lines, equal in all copies of one attempt; empty until all are there."""
        return b"".join(self.lines) if len(self.lines) == HEAD_LINES else b""

    def converged(self, last_loop: Loop) -> bool | None:
        """Check from the last loop of electronic steps that the run ended by itself and reached its criterion.

        VASP 5 writes that EDIFF is reached also where NELM ended the loop, so the loop's own numbers decide.
        """
        if self.wall_time is None or not self._ended_by_ediff or not (self._relaxed or self._static):
            return False
        if self._electronic_limit is None or self._tolerance is None:
            return True
        return last_loop.converged(self._electronic_limit, self._tolerance)

    def read(self, lines: Iterable[bytes]) -> int:
        """Read further lines and return their number of bytes; a line without an end is left."""
        size = 0
        for line in lines:
            if not line.endswith(b"\n"):
                break
            size += len(line)
            self._read(line)
        return size

    def _read(self, line: bytes) -> None:
        if len(self.lines) < HEAD_LINES:
            self.lines.append(line)
        if b" Iteration " in line and (match := ITERATION.match(line)):
            self._count(match)
        elif line.startswith(b" Linear response"):
            self._responds = True
        elif b"aborting loop because EDIFF is reached" in line:
            self._ended_by_ediff |= not self._responds
        elif b"reached required accuracy" in line:
            self._relaxed = True
        elif b"NKPTS =" in line and (match := NUMBER.search(line)):
            self.n_kpoints = int(match[1])
        elif b"NSW    =" in line and (match := NUMBER.search(line)):
            self._static |= int(match[1]) == 0
        elif b"IBRION =" in line and (match := NUMBER.search(line)):
            self._static |= int(match[1]) in NO_RELAXATION
        elif b"NELM " in line and (match := ELECTRONIC_LIMIT.match(line)):
            self._electronic_limit = int(match[1])
        elif b"EDIFF " in line and (match := TOLERANCE.match(line)):
            self._tolerance = float(match[1])
        elif b"Elapsed time (sec):" in line:
            self.wall_time = float(line.rpartition(b":")[2])

    def _count(self, match: re.Match[bytes]) -> None:
        rule, ionic, electronic = match.groups()
        self._rule = self._rule or len(rule)
        if electronic == b"1":
            # Loops of linear response have another rule, or restart in the same ionic step.
            repeated = ionic == self._ionic and b"*" not in ionic
            self._responds = repeated or len(rule) != self._rule
        if self._responds:
            return
        if electronic == b"1" or ionic != self._ionic:
            self.electronic_steps.append(0)
            self._ended_by_ediff = False
        self._ionic = ionic
        self.electronic_steps[-1] += 1
