"""Steps from the text output of GPAW, Quantum ESPRESSO, ABINIT and CP2K.

No library that the package depends on tells them: ASE and pymatgen read energies and structures of these outputs, and
pymatgen's CP2K parser finds no SCF steps in runs with k-points. Each engine says at the end of an SCF cycle how many
steps it took. The lines counted must agree with that: a count that its engine contradicts is an error.
"""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from cryslator_flows.errors import CountingError
from cryslator_flows.relaxation.counting.attempt import only, total
from cryslator_flows.schemas import RelaxationCost

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Banners come early, but libraries and MPI may talk first.
BANNER_BYTES = 16_000


@dataclass(frozen=True)
class TextOutput:
    """How one engine writes its output.

    Parameters
    ----------
    engine : str
        Name of the engine.
    banner : regex
        In the first lines of its main output.
    step : regex
        Line of an electronic step. If there is no `cycle`, number 1 begins an ionic step.
    converged, gave_up : regex
        End of an SCF cycle, with the engine's count of the steps since the last end.
    n_kpoints : regex
        Irreducible k-points.
    wall_time : regex
        Wall time in named groups ``days``, ``hours``, ``minutes``, ``seconds``, printed when the engine stops.
    cycle : regex, optional
        Line before the first electronic step of an ionic step.
    outer : regex, optional
        End of the outer loop around SCF cycles of one ionic step, with the engine's count of the steps of all.
    ionic : regex, optional
        The engine's count of ionic steps so far.
    relaxed : regex, optional
        The relaxation reached its criterion; None for an engine that does not relax by itself.
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
    relaxed: re.Pattern[str] | None = None


ENGINES = (
    TextOutput(
        engine="GPAW",
        banner=re.compile(r"\|__\|\|  \| \|\|/\\\| - \d"),
        step=re.compile(r"\|?iter:\s*(\d+)\b"),
        converged=re.compile(r"Converged in (\d+) steps"),
        # A cycle that does not converge ends the run without a count.
        gave_up=re.compile(r"(?!)"),
        n_kpoints=re.compile(r"\s*Number of IBZ points:\s*(\d+)"),
        wall_time=re.compile(r"\s+Total:\s+(?P<seconds>[\d.]+)\s+#"),
    ),
    TextOutput(
        engine="Quantum ESPRESSO",
        banner=re.compile(r"Program PWSCF v"),
        step=re.compile(r"\s*iteration #\s*(\d+)\s+ecut="),
        converged=re.compile(r"\s*convergence has been achieved in\s+(\d+) iterations"),
        gave_up=re.compile(r"\s*convergence NOT achieved after\s+(\d+) iterations"),
        n_kpoints=re.compile(r"\s*number of k points=\s*(\d+)"),
        wall_time=re.compile(
            r"\s*PWSCF\s*:.*CPU\s+(?:(?P<days>\d+)d)?\s*(?:(?P<hours>\d+)h)?\s*(?:(?P<minutes>\d+)m)?\s*"
            r"(?:(?P<seconds>[\d.]+)s)?\s*WALL"
        ),
        ionic=re.compile(r"\s*(?:number of scf cycles\s*=|bfgs converged in)\s*(\d+)"),
        relaxed=re.compile(r"\s*bfgs converged in"),
    ),
    TextOutput(
        engine="ABINIT",
        # The main output begins like this, the log does not.
        banner=re.compile(r"\A\s*\.Version\s+\S+\s+of ABINIT"),
        step=re.compile(r"\s*ETOT\s*(\d+)\s"),
        converged=re.compile(r"\s*At SCF step\s+(\d+)\s"),
        gave_up=re.compile(r"\s*nstep=\s*(\d+) was not enough SCF cycles"),
        n_kpoints=re.compile(r"dimensions: \{.*\bnkpt:\s*(\d+)"),
        wall_time=re.compile(r"\+Overall time at end \(sec\) :.*wall=\s*(?P<seconds>[\d.]+)"),
        ionic=re.compile(r"\s*At Broyd/MD step\s+(\d+), gradients are converged"),
        relaxed=re.compile(r"\s*At Broyd/MD step\s+\d+, gradients are converged"),
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
        relaxed=re.compile(r"\s*\*\*\*\s+GEOMETRY OPTIMIZATION COMPLETED"),
    ),
)


def find_outputs(paths: Iterable[Path]) -> list[tuple[TextOutput, Path]]:
    """Find the outputs of engines among files, by their first lines.

    Parameters
    ----------
    paths : iterable of Path
        Files, plain or gzipped.
    """
    found = []
    for path in sorted(paths):
        try:
            with _open(path) as file:
                beginning = file.read(BANNER_BYTES).decode(errors="replace")
        except (EOFError, gzip.BadGzipFile, zlib.error):
            continue
        found += [(engine, path) for engine in ENGINES if engine.banner.search(beginning)]
    return found


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


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
        Steps of a run that was stopped count as far as they are in the file, and it is not converged. Not converged
        either is a relaxation that ASE drives, by GPAW: the log does not tell whether ASE was content.

    Raises
    ------
    CountingError
        The lines do not add up to the engine's own count, or the file is damaged.
    """
    reading = _Reading(output, path)
    try:
        with _open(path) as file:
            for line in file:
                reading.read(line.decode(errors="replace"))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CountingError(f"{path}: damaged ({type(error).__name__}); restore it") from error
    return reading.cost()


class _Reading:
    """What is known of a run after each line of its output."""

    def __init__(self, output: TextOutput, path: Path) -> None:
        self.output, self.path = output, path
        self.steps: list[int] = []
        self.since_end = 0
        self.ended = True
        self.converged = self.relaxed = False
        self.starts = 0
        self.n_kpoints: set[int] = set()
        self.wall_times: list[float] = []

    def read(self, line: str) -> None:
        output = self.output
        if match := output.step.match(line):
            if output.cycle is None and int(match[1]) == 1:
                self._begin()
            if not self.steps:
                raise CountingError(f"{self.path}: begins within an ionic step; the first part is missing")
            self.steps[-1] += 1
            self.since_end += 1
            self.ended = False
        elif output.cycle and output.cycle.match(line):
            self._begin()
        elif match := output.converged.match(line):
            self._end(int(match[1]), converged=True)
        elif match := output.gave_up.match(line):
            self._end(int(match[1]), converged=False)
        elif output.outer and (match := output.outer.match(line)):
            self._compare("electronic steps in an outer loop", self.steps[-1], int(match[1]))
        elif output.banner.search(line):
            self.starts += 1
            self.ended = True
        elif match := output.n_kpoints.match(line):
            self.n_kpoints.add(int(match[1]))
        elif match := output.wall_time.match(line):
            units = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}
            self.wall_times.append(sum(units[name] * float(text or 0) for name, text in match.groupdict().items()))
        if output.ionic and (match := output.ionic.match(line)):
            self._compare("ionic steps", len(self.steps), int(match[1]))
        self.relaxed |= bool(output.relaxed and output.relaxed.match(line))

    def _begin(self) -> None:
        if not self.ended:
            raise CountingError(
                f"{self.path}: ionic step {len(self.steps)} has no end, but another one follows; lines are missing"
            )
        self.steps.append(0)
        self.since_end = 0
        self.converged = False

    def _end(self, told: int, converged: bool) -> None:
        self._compare(f"electronic steps in ionic step {len(self.steps)}", self.since_end, told)
        self.since_end = 0
        self.ended = True
        self.converged = converged

    def _compare(self, what: str, counted: int, told: int) -> None:
        if counted != told:
            raise CountingError(
                f"{self.path}: {counted} {what} counted, but {self.output.engine} tells {told}; is the file complete?"
            )

    def cost(self) -> RelaxationCost:
        steps = [step for step in self.steps if step]
        finished = len(self.wall_times) == self.starts
        return RelaxationCost(
            engine=self.output.engine,
            ionic_steps=len(steps) or None,
            electronic_steps=steps or None,
            attempts=self.starts,
            discarded_electronic_steps=0 if self.starts == 1 and steps else None,
            n_kpoints=only(self.n_kpoints),
            converged=bool(steps) and self.relaxed and self.converged and finished,
            wall_time=total(self.wall_times) if finished else None,
            dir_name=str(self.path.parent),
        )
