"""Steps from the text output of GPAW, Quantum ESPRESSO, ABINIT and CP2K.

ASE and pymatgen read energies and structures of these outputs, but not the steps; pymatgen's CP2K parser finds no SCF
steps in runs with k-points. Each engine reports at the end of an SCF cycle the number of its steps. The counted lines
must agree with this number; a contradiction is an error.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryslator_flows.counting.attempt import only, total
from cryslator_flows.counting.packed import DAMAGED, open_packed
from cryslator_flows.documents.relaxations import RelaxationCost
from cryslator_flows.errors import CountingError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Banners come early, but libraries and MPI may write lines before them.
BANNER_BYTES = 256_000


@dataclass(frozen=True)
class TextOutput:
    """The form of one engine's output.

    Parameters
    ----------
    engine : str
        Name of the engine.
    banner : regex
        Text in the first lines of its main output.
    step : regex
        Line of an electronic step. Without a `cycle`, number 1 begins an ionic step.
    converged, gave_up : regex
        End of an SCF cycle, with the engine's count of its steps since number 1; with a `cycle`, since the last end.
    n_kpoints : regex
        Irreducible k-points.
    wall_time : regex
        Wall time in named groups ``days``, ``hours``, ``minutes``, ``seconds``, printed when the engine stops.
    cycle : regex, optional
        Line before the first electronic step of an ionic step.
    outer : regex, optional
        End of the outer loop around SCF cycles of one ionic step, with the engine's count of all their steps.
    ionic : regex, optional
        The engine's count of ionic steps so far.
    from_zero : regex, optional
        Line of the first ionic step in versions that count them from 0.
    relaxes : regex, optional
        Line that only a relaxation or dynamics writes.
    relaxed : regex, optional
        Line that says that the relaxation reached its criterion; None for an engine that does not relax by itself.
    part : regex, optional
        Line before a part of the run that counts its ionic steps separately.
    nested : regex, optional
        Line in a run that may repeat SCF cycles at one geometry; after it `moved` begins an ionic step.
    moved : regex, optional
        Line before the SCF cycles of another geometry.
    response : regex, optional
        Line of the first step in a loop of linear response.
    aside : regex, optional
        Line after which the next end of a cycle does not end electronic steps.
    """

    engine: str
    banner: re.Pattern[str]
    step: re.Pattern[str]
    converged: re.Pattern[str]
    gave_up: re.Pattern[str]
    n_kpoints: re.Pattern[str]
    wall_time: re.Pattern[str]
    cycle: re.Pattern[str] | None = None
    outer: re.Pattern[str] | None = None
    ionic: re.Pattern[str] | None = None
    from_zero: re.Pattern[str] | None = None
    relaxes: re.Pattern[str] | None = None
    relaxed: re.Pattern[str] | None = None
    part: re.Pattern[str] | None = None
    nested: re.Pattern[str] | None = None
    moved: re.Pattern[str] | None = None
    response: re.Pattern[str] | None = None
    aside: re.Pattern[str] | None = None


ENGINES = (
    TextOutput(
        engine="GPAW",
        # Two logos: up to version 25, and since.
        banner=re.compile(r"\|__ \|  _\|___\|_____\|\s+\d|\|__\|\|  \| \|\|/\\\| - \d"),
        step=re.compile(r"\|?iter:\s*(\d+)\b"),
        converged=re.compile(r"Converged (?:in|after) (\d+) (?:steps|iterations)"),
        # A cycle that does not converge ends the run without a count.
        gave_up=re.compile(r"(?!)"),
        n_kpoints=re.compile(r"\s*(?:Number of IBZ points:\s*|(?=\d+ k-points? in the irreducible))(\d+)"),
        wall_time=re.compile(r"\s*Total:\s+(?P<seconds>[\d.]+)\s+(?:#|100)"),
    ),
    TextOutput(
        engine="Quantum ESPRESSO",
        banner=re.compile(r"Program PWSCF\s+v"),
        step=re.compile(r"\s*iteration #\s*(\d+)\s+ecut="),
        converged=re.compile(r"\s*convergence has been achieved in\s+(\d+) iterations"),
        gave_up=re.compile(r"\s*convergence NOT achieved after\s+(\d+) iterations"),
        n_kpoints=re.compile(r"\s*number of k points=\s*(\d+)"),
        wall_time=re.compile(
            r"\s*PWSCF\s*:.*CPU(?: time,)?\s+(?:(?P<days>\d+)d)?\s*(?:(?P<hours>\d+)h)?\s*(?:(?P<minutes>\d+)m)?\s*"
            r"(?:(?P<seconds>[\d.]+)s)?\s*(?:WALL|wall time)"
        ),
        ionic=re.compile(r"\s*(?:number of scf cycles\s*=|bfgs converged in)\s*(\d+)"),
        relaxes=re.compile(
            r"\s*(?:BFGS Geometry Optimization|Damped Dynamics Calc|Entering (?:Dynamics|FIRE)|Wentzcovitch)"
        ),
        relaxed=re.compile(
            r"\s*(?:bfgs converged in|(?:Damped Dynamics|FIRE): convergence achieved|convergence achieved, Efinal=)"
        ),
        # Hybrid functionals repeat the SCF until the exchange is consistent; a magnetic relaxation checks its end.
        nested=re.compile(r"\s*(?:EXX: now go back to refine exchange|lsda relaxation\s*:)"),
        moved=re.compile(r"\s*(?:number of scf cycles\s*=|ATOMIC_POSITIONS|Entering (?:Dynamics|FIRE))"),
        aside=re.compile(r"\s*End of \S+-RISM calculation"),
    ),
    TextOutput(
        engine="ABINIT",
        # The main output begins with this line, the log does not.
        banner=re.compile(r"\A\s*\.Version\s+\S+\s+of ABINIT"),
        step=re.compile(r"[ -]?\s*ETOT\s*(\d+)\s"),
        converged=re.compile(r"\s*At SCF step\s+(\d+)\b"),
        gave_up=re.compile(r"\s*nstep=\s*(\d+) was not enough SCF cycles"),
        n_kpoints=re.compile(r"dimensions: \{.*\bnkpt:\s*(\d+)"),
        wall_time=re.compile(r"\+Overall time at end \(sec\) :.*wall=\s*(?P<seconds>[\d.]+)"),
        ionic=re.compile(r"\s*At Broyd/MD step\s+(\d+), gradients are converged"),
        from_zero=re.compile(r"\s*[A-Z ]+STEP NUMBER\s+0\s"),
        relaxes=re.compile(r"--- Iteration:|\s*[A-Z ]+STEP NUMBER\s+\d"),
        relaxed=re.compile(r"\s*At Broyd/MD step\s+\d+, gradients are converged"),
        part=re.compile(r"== DATASET\s+\d+ =="),
        response=re.compile(r"-ETOT\s*1\s"),
    ),
    TextOutput(
        engine="CP2K",
        banner=re.compile(r"CP2K\| version string"),
        step=re.compile(r"\s*(\d+)\s+(?:OT \w+|\S+/\S+)\s+\d\.\d+E[-+]\d+\s+\d+\.\d"),
        converged=re.compile(r"\s*\*\*\* SCF run converged in\s+(\d+) steps"),
        gave_up=re.compile(r"\s*Leaving inner SCF loop after reaching\s+(\d+) steps"),
        n_kpoints=re.compile(r"\s*BRILLOUIN\| List of Kpoints .*\s(\d+)\s*$"),
        wall_time=re.compile(r"\s*CP2K\s+\d+\s+(?:[\d.]+\s+){4}(?P<seconds>[\d.]+)\s*$"),
        cycle=re.compile(r"\s*SCF WAVEFUNCTION OPTIMIZATION"),
        outer=re.compile(r"\s*outer SCF loop (?:converged in|FAILED to converge after).*\sor\s+(\d+) steps"),
        relaxes=re.compile(r"\s*GLOBAL\| Run type\s+(?:GEO_OPT|GEOMETRY_OPTIMIZATION|CELL_OPT|MD|MOLECULAR_DYNAMICS)"),
        relaxed=re.compile(r"\s*\*\*\*\s+GEOMETRY OPTIMIZATION COMPLETED"),
    ),
)


def find_outputs(paths: Iterable[Path]) -> list[tuple[TextOutput, Path]]:
    """Find the outputs of engines among files, by their first lines.

    Parameters
    ----------
    paths : iterable of Path
        Files, plain or packed.
    """
    found = []
    for path in sorted(paths):
        beginning = _beginning(path).decode(errors="replace")
        found += [(engine, path) for engine in ENGINES if engine.banner.search(beginning)]
    return found


def _beginning(path: Path) -> bytes:
    """Return the first bytes of a file; of a damaged file the bytes before the damage."""
    content = b""
    with open_packed(path) as file, suppress(*DAMAGED):
        while len(content) < BANNER_BYTES and (more := file.read(4096)):
            content += more
    return content


def count_output(output: TextOutput, path: Path) -> RelaxationCost:
    """Count the steps in the main output of an engine.

    Parameters
    ----------
    output : TextOutput
        The engine, see `find_outputs`.
    path : Path
        Its output.

    Returns
    -------
    RelaxationCost
        Steps of a stopped run count as far as they are in the file, and it is not converged. ``converged`` is None for
        a relaxation that ASE drives with GPAW: the log does not say that ASE reached its criterion.

    Raises
    ------
    CountingError
        The lines do not add up to the engine's own count, or the file is damaged.
    """
    reading = _Reading(output, path)
    try:
        with open_packed(path) as file:
            for line in file:
                reading.read(line.decode(errors="replace"))
    except DAMAGED as error:
        raise CountingError(f"{path}: damaged ({type(error).__name__}); restore it") from error
    return reading.cost()


@dataclass
class _Part:
    """A part of a run: a dataset of ABINIT, the whole of other runs."""

    first: int
    from_zero: bool = False
    scf_converged: bool = False
    relaxes: bool = False
    relaxed: bool = False

    def converged(self, ionic_steps: int) -> bool | None:
        """Return the convergence of a relaxation or single point; None for ionic steps of another kind."""
        if not self.scf_converged or self.relaxes or self.relaxed:
            return self.scf_converged and self.relaxed
        return True if ionic_steps == 1 else None


class _Reading:
    """State of a run after each line of its output."""

    def __init__(self, output: TextOutput, path: Path) -> None:
        self.output, self.path = output, path
        self.steps: list[int] = []
        self.response_steps: list[int] = []
        # The list that counts the steps of this loop: one of the two.
        self.loops = self.steps
        self.since_end = 0
        self.ended = self.moved = True
        self.nested = self.aside = False
        self.starts = 0
        self.stopped = False
        self.n_kpoints: set[int] = set()
        self.wall_times: list[float] = []
        self.parts = [_Part(0)]

    def read(self, line: str) -> None:
        output = self.output
        if match := output.step.match(line):
            if output.response and output.response.match(line):
                self._begin(self.response_steps)
            elif output.cycle is None and int(match[1]) == 1:
                self._begin(self.steps)
            if not self.loops:
                raise CountingError(f"{self.path}: begins within an ionic step; the first part is missing")
            self.loops[-1] += 1
            self.since_end += 1
            self.ended = False
        elif output.cycle and output.cycle.match(line):
            self._begin(self.steps)
        elif match := output.converged.match(line):
            self._end(int(match[1]), converged=True)
        elif match := output.gave_up.match(line):
            self._end(int(match[1]), converged=False)
        elif output.outer and (match := output.outer.match(line)):
            self._compare("electronic steps in an outer loop", self.steps[-1], int(match[1]))
        elif output.banner.search(line):
            self.starts += 1
            self.ended, self.stopped = True, False
            self.parts = [_Part(len(self.steps))]
        elif match := output.n_kpoints.match(line):
            self.n_kpoints.add(int(match[1]))
        elif match := output.wall_time.match(line):
            units = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}
            self.stopped = True
            self.wall_times.append(sum(units[name] * float(text or 0) for name, text in match.groupdict().items()))
        self._read_relaxation(line)

    def _read_relaxation(self, line: str) -> None:
        """Read the lines around ionic steps; some of them have several meanings."""
        output = self.output
        if output.part and output.part.match(line):
            self.parts.append(_Part(len(self.steps)))
        part = self.parts[-1]
        if output.ionic and (match := output.ionic.match(line)):
            self._compare("ionic steps", len(self.steps) - part.first - part.from_zero, int(match[1]))
        part.from_zero |= bool(output.from_zero and output.from_zero.match(line))
        part.relaxes |= bool(output.relaxes and output.relaxes.match(line))
        part.relaxed |= bool(output.relaxed and output.relaxed.match(line))
        if output.nested and output.nested.match(line):
            self.nested, self.moved = True, False
        self.moved |= bool(output.moved and output.moved.match(line))
        self.aside |= bool(output.aside and output.aside.match(line))

    def _begin(self, loops: list[int]) -> None:
        if not self.ended:
            raise CountingError(
                f"{self.path}: ionic step {len(self.steps)} has no end, but another one follows; lines are missing"
            )
        if not (self.nested and not self.moved):
            loops.append(0)
        self.loops = loops
        self.moved = False
        self.since_end = 0

    def _end(self, told: int, converged: bool) -> None:
        if self.aside:
            self.aside = False
            return
        self._compare(f"electronic steps in ionic step {len(self.steps)}", self.since_end, told)
        # Where steps have no numbers that start at 1, the engine counts them from the last end.
        if self.output.cycle:
            self.since_end = 0
        self.ended = True
        if self.loops is self.steps:
            self.parts[-1].scf_converged = converged

    def _compare(self, what: str, counted: int, told: int) -> None:
        if counted != told:
            raise CountingError(
                f"{self.path}: {counted} {what} counted, but {self.output.engine} reports {told}; complete the file"
            )

    def cost(self) -> RelaxationCost:
        steps = [step for step in self.steps if step]
        return RelaxationCost(
            engine=self.output.engine,
            ionic_steps=len(steps) or None,
            electronic_steps=steps or None,
            attempts=self.starts,
            discarded_electronic_steps=0 if self.starts == 1 and steps else None,
            response_steps=self.response_steps or None,
            n_kpoints=only(self.n_kpoints),
            converged=self._converged(),
            wall_time=total(self.wall_times) if len(self.wall_times) == self.starts else None,
            dir_name=str(self.path.parent),
        )

    def _converged(self) -> bool | None:
        """Return the convergence of the last start of the engine."""
        if not self.ended or (self.output.relaxed and not self.stopped):
            return False
        if self.output.relaxed is None:
            return None
        ends = [part.first for part in self.parts[1:]] + [len(self.steps)]
        found = [
            part.converged(end - part.first) for part, end in zip(self.parts, ends, strict=True) if end > part.first
        ]
        return False if False in found else None if None in found or not found else True
