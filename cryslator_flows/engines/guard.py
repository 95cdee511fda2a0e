"""The guard, which restarts a relaxation with a bad translated structure from the unrelaxed one."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from ase.io import read
from ase.units import GPa
from custodian.custodian import ErrorHandler
from custodian.utils import backup
from custodian.vasp.handlers import VASP_BACKUP_FILES
from jobflow import Flow, Maker
from monty.json import MontyEncoder
from pymatgen.core import Structure
from pymatgen.io.vasp import Incar, Oszicar, Poscar

from cryslator_flows.engines.handlers import update_vasp_makers
from cryslator_flows.engines.made_jobs import jobs_of
from cryslator_flows.engines.vasp_settings import GuardLimits
from cryslator_flows.errors import StructureError
from cryslator_flows.system.whole_files import write_whole

if TYPE_CHECKING:
    from ase import Atoms
    from jobflow import Job

GUARD_FILE = "cryslator_guard.json"
# Files of the stopped attempt. The archive keeps them for counting; no other handler should correct the attempt again.
LEFTOVERS = ("WAVECAR", "CHGCAR", "CHG", "CONTCAR", "OUTCAR", "OSZICAR", "vasprun.xml", "vaspout.h5", "vaspwave.h5")
LOGS = ("vasp.out", "std_err.txt")
# custodian's default of 30 checks every five minutes; small cells finish earlier.
MONITOR_FREQUENCY = 3


@dataclass(frozen=True)
class FirstStep:
    """The first ionic step of a relaxation."""

    max_force: float  # eV/angstrom
    pressure: float | None  # GPa, compression positive; None where the cell is fixed
    electronic_steps: int
    nelm: int

    def faults(self, limits: GuardLimits) -> list[str]:
        """Describe in words the quantities beyond the limits."""
        found = []
        if self.max_force > limits.max_force:
            found.append(f"largest force {self.max_force:.2f} eV/A is above {limits.max_force:g}")
        if self.pressure is not None and abs(self.pressure) > limits.max_pressure:
            found.append(f"pressure {self.pressure:.1f} GPa is beyond {limits.max_pressure:g}")
        if limits.electronic_convergence and self.electronic_steps >= self.nelm:
            found.append(f"electrons not converged in NELM = {self.nelm} steps")
        return found


class TranslatedStartGuard(ErrorHandler):
    """Restart VASP from the unrelaxed structure if the first ionic step from the translated one is bad.

    It checks only the first ionic step of the first attempt, acts once, and leaves a converged relaxation alone. The
    stopped attempt is archived as ``error.N.tar.gz``, so its steps count. ``cryslator_guard.json`` has the reason;
    atomate2 copies it to ``TaskDoc.additional_json["cryslator_guard"]``. Of the inputs only POSCAR changes.

    A bad translation costs its first ionic step and the work of VASP until custodian's next check. Checks are
    ``polling_time_step`` times ``monitor_freq`` seconds apart (custodian's defaults: 300 s). See `look_often`.

    Parameters
    ----------
    unrelaxed : Structure
        The structure to restart from; sites of each element in the order of the translated structure.
    limits : GuardLimits or dict, optional
        Limits of a good first step.
    """

    is_monitor = True
    max_num_corrections = 1

    def __init__(self, unrelaxed: Structure, limits: GuardLimits | dict[str, Any] | None = None) -> None:
        self.unrelaxed = unrelaxed
        self.limits = GuardLimits.model_validate(limits or {})

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON-serialisable form; the base class leaves pydantic models as they are."""
        return {**super().as_dict(), "limits": self.limits.model_dump()}

    def check(self, directory: str = "./") -> bool:
        """Return True if the first ionic step of the first attempt is beyond the limits.

        Raises
        ------
        StructureError
            POSCAR and the unrelaxed structure have different compositions.
        """
        path = Path(directory)
        if not _is_first_attempt(path) or not _is_relaxation(path):
            return False
        self._unrelaxed_poscar(path)
        step = read_first_step(path)
        return step is not None and bool(step.faults(self.limits)) and not _has_converged(path)

    def correct(self, directory: str = "./") -> dict[str, Any]:
        """Archive the attempt and put the unrelaxed structure into POSCAR."""
        path = Path(directory)
        step = read_first_step(path)
        faults = [] if step is None else step.faults(self.limits)
        earlier = set(path.glob("error.*.tar.gz"))
        backup(VASP_BACKUP_FILES, directory=directory)
        (archive,) = set(path.glob("error.*.tar.gz")) - earlier
        self._unrelaxed_poscar(path).write_file(path / "POSCAR", significant_figures=16)
        for name in LEFTOVERS:
            (path / name).unlink(missing_ok=True)
        for name in LOGS:
            (path / name).write_text("")
        record = {
            "reason": "; ".join(faults),
            "max_force": step and step.max_force,
            "pressure": step and step.pressure,
            "electronic_steps": step and step.electronic_steps,
            "limits": self.limits.model_dump(),
            "archive": archive.name,
        }
        write_whole(path / GUARD_FILE, json.dumps(record, cls=MontyEncoder))
        return {"errors": faults, "actions": ["restart from the unrelaxed structure"]}

    def _unrelaxed_poscar(self, path: Path) -> Poscar:
        """Return the unrelaxed structure with its sites in the order of POSCAR, which MAGMOM and POTCAR follow."""
        current = Poscar.from_file(path / "POSCAR").structure
        if current.composition.element_composition != self.unrelaxed.composition.element_composition:
            raise StructureError(
                f"{path / 'POSCAR'} holds {current.formula}, the unrelaxed structure of its guard "
                f"{self.unrelaxed.formula}; give the unrelaxed structure of this candidate"
            )
        sites: dict[str, deque[Any]] = defaultdict(deque)
        for site in self.unrelaxed:
            sites[site.specie.symbol].append(site)
        return Poscar(Structure.from_sites([sites[site.specie.symbol].popleft() for site in current]))


def read_first_step(path: Path) -> FirstStep | None:
    """Read the first ionic step of a run that may still be running.

    Parameters
    ----------
    path : Path
        Directory of the VASP run.

    Returns
    -------
    FirstStep or None
        None while the step is not complete.
    """
    incar = Incar.from_file(path / "INCAR")
    try:
        # OSZICAR first: atomate2 copies the OUTCAR of an earlier job, and VASP replaces it when it makes OSZICAR.
        electronic_steps = len(Oszicar(path / "OSZICAR").electronic_steps[0])
        atoms = cast("Atoms", read(path / "OUTCAR", index=0, format="vasp-out"))
        forces = atoms.get_forces(apply_constraint=False)
        # VASP leaves the stress out where ISIF is 0.
        stress = atoms.get_stress() if incar.get("ISIF", 2) >= 3 else None
    # Parsers fail in many ways on a file that VASP is still writing.
    except Exception:
        return None
    return FirstStep(
        max_force=float(np.linalg.norm(forces, axis=1).max()),
        pressure=None if stress is None else -float(np.mean(stress[:3])) / GPa - incar.get("PSTRESS", 0) / 10,
        electronic_steps=electronic_steps,
        nelm=incar.get("NELM", 60),
    )


@dataclass(kw_only=True)
class GuardedRelaxMaker(Maker):
    """Relax a structure, with the guard on the VASP jobs that start from this structure.

    Later jobs, the second of a double relaxation for instance, start from an earlier result and have no guard. The
    handlers of the job's maker, else of atomate2, stay. The guard comes first, since it checks first attempts only.

    Parameters
    ----------
    relax_maker : Maker
        Makes the relaxation.
    unrelaxed : Structure
        The structure to restart from.
    limits : GuardLimits
        Limits of a good first step.
    name : str
        Name of the maker.

    Examples
    --------
    >>> from atomate2.vasp.jobs.core import RelaxMaker
    >>> from pymatgen.core import Lattice, Structure
    >>> unrelaxed = Structure(Lattice.cubic(4.0), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> translated = unrelaxed.apply_strain(0.02, inplace=False)
    >>> maker = GuardedRelaxMaker(relax_maker=RelaxMaker(), unrelaxed=unrelaxed, limits=GuardLimits(max_force=3.0))
    >>> maker.make(translated).name
    'relax'
    """

    name: str = "guarded relax"
    relax_maker: Maker
    unrelaxed: Structure
    limits: GuardLimits = field(default_factory=GuardLimits)

    def make(self, structure: Structure, prev_dir: str | Path | None = None) -> Flow | Job:
        """Make the relaxation.

        Raises
        ------
        ValueError
            A job that starts from the structure runs VASP without custodian.
        """
        flow = self.relax_maker.make(structure, prev_dir=prev_dir)
        guard = TranslatedStartGuard(self.unrelaxed, self.limits)
        for job in jobs_of(flow):
            if any(value is structure for value in [*job.function_args, *job.function_kwargs.values()]):
                _add_handler(job, guard)
        return flow


def guard_relax_maker(maker: Maker, unrelaxed: Structure, limits: GuardLimits | None = None) -> Maker:
    """Guard the relaxations of a maker.

    Parameters
    ----------
    maker : Maker
        Any maker with ``make(structure, prev_dir=None)``.
    unrelaxed : Structure
        The structure to restart from.
    limits : GuardLimits, optional
        Limits of a good first step.

    Returns
    -------
    Maker
        A `GuardedRelaxMaker`, or `maker` itself if nothing in it runs VASP.
    """
    if update_vasp_makers(maker, lambda part: part) is maker:
        return maker
    return GuardedRelaxMaker(name=maker.name, relax_maker=maker, unrelaxed=unrelaxed, limits=limits or GuardLimits())


def look_often(maker: Maker) -> Maker:
    """Let custodian check the VASP jobs of a maker every 30 s, unless the maker sets the interval.

    Use this for the relaxations from all starts of a candidate. More frequent checks stop a failing run earlier. At one
    start alone they would seem to be a saving.

    Parameters
    ----------
    maker : Maker
        Any maker.

    Returns
    -------
    Maker
        A new maker.
    """

    def polled(item: Any) -> Any:
        custodian = {"monitor_freq": MONITOR_FREQUENCY, **item.run_vasp_kwargs.get("custodian_kwargs", {})}
        return replace(item, run_vasp_kwargs={**item.run_vasp_kwargs, "custodian_kwargs": custodian})

    return update_vasp_makers(maker, polled)


def _add_handler(job: Job, handler: ErrorHandler) -> None:
    from atomate2.vasp.jobs.base import BaseVaspMaker
    from atomate2.vasp.powerups import update_vasp_custodian_handlers
    from atomate2.vasp.run import DEFAULT_HANDLERS, JobType

    if not isinstance(job.maker, BaseVaspMaker):
        return
    settings = job.maker.run_vasp_kwargs
    if settings.get("job_type") == JobType.DIRECT:
        raise ValueError(f"{job.name}: run_vasp_kwargs has job_type 'direct', without custodian; the guard needs it")
    handlers = (handler, *settings.get("handlers", DEFAULT_HANDLERS))
    update_vasp_custodian_handlers(job, handlers)  # type: ignore[arg-type]  # takes a job as well as a flow


def _is_first_attempt(path: Path) -> bool:
    if (path / GUARD_FILE).exists() or any(path.glob("error.*.tar*")) or any(path.glob("prev_run.*.tar*")):
        return False
    # Results with a suffix are of an earlier job that custodian ran in this directory.
    if any(path.glob("OUTCAR.*")):
        return False
    # Some of custodian's corrections leave no archive.
    log = path / "custodian.json"
    return not log.exists() or not any(run["corrections"] for run in json.loads(log.read_text()))


def _is_relaxation(path: Path) -> bool:
    incar = Incar.from_file(path / "INCAR")
    return bool(incar.get("NSW", 0) > 0 and incar.get("IBRION", 0) in (1, 2, 3))


def _has_converged(path: Path) -> bool:
    with (path / "OUTCAR").open(errors="replace") as lines:
        return any("reached required accuracy - stopping structural" in line for line in lines)
