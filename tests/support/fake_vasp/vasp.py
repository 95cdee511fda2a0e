"""The executable: run it in a directory with VASP's inputs, as ``python -m tests.support.fake_vasp.vasp``."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from ase.filters import FrechetCellFilter
from ase.io.vasp import write_vasp
from ase.optimize import BFGS

from tests.support.fake_vasp.inputs import Inputs, read_inputs
from tests.support.fake_vasp.model import IonicCrystal, electronic_steps
from tests.support.fake_vasp.outputs import Outputs

CELL = {3: {}, 4: {"constant_volume": True}, 8: {"hydrostatic_strain": True}}


def main() -> int:
    print(" running    1 mpi-ranks, with    1 threads/rank\n vasp.6.4.3-synthetic: a test double, not VASP", flush=True)
    try:
        inputs = read_inputs()
    except (OSError, ValueError) as error:
        print(f"fake_vasp: {error}", file=sys.stderr)
        return 1
    run = Outputs(inputs)
    for name in ("WAVECAR", "CHGCAR"):
        # VASP leaves them empty where LWAVE and LCHARG are off; atomate2's second relaxations want them to exist.
        Path(name).touch()
    atoms, tags, faults = inputs.atoms, inputs.tags, inputs.faults
    atoms.calc = IonicCrystal()
    system = FrechetCellFilter(atoms, **CELL[tags["ISIF"]]) if tags["ISIF"] in CELL else atoms
    optimizer = BFGS(system, logfile=None, maxstep=0.2)
    steps = max(1, tags["NSW"]) if tags["IBRION"] > 0 else 1
    energy = change = displacement = None
    for step in range(1, steps + 1):
        number = electronic_steps(tags, displacement, inputs.warm)
        if "scf_all" in faults or ("scf" in faults and step == 1):
            number = tags["NELM"]
        if not _iterate(run, inputs, step, min(number, tags["NELM"])):
            return 1
        if energy is not None:
            change = abs(atoms.get_potential_energy() - energy)
        energy = atoms.get_potential_energy()
        converged = tags["IBRION"] > 0 and _converged(tags["EDIFFG"], system.get_forces(), change)
        run.ionic_step(step, last=converged or step == steps)
        write_vasp("CONTCAR", atoms, direct=True)
        if converged:
            run.say(" reached required accuracy - stopping structural energy minimisation")
            break
        if step < steps:
            before = atoms.positions.copy(), atoms.cell.array.copy()
            optimizer.step()
            moved = np.vstack([atoms.positions - before[0], atoms.cell.array - before[1]])
            displacement = float(np.linalg.norm(moved, axis=1).max())
    if "brions" in faults:
        print("BRIONS problems: POTIM should be increased", flush=True)
    for name, wanted in (("WAVECAR", tags["LWAVE"]), ("CHGCAR", tags["LCHARG"])):
        if wanted:
            Path(name).write_text("synthetic\n")
    run.finish()
    return 0


def _iterate(run: Outputs, inputs: Inputs, step: int, number: int) -> bool:
    """Do the electronic steps of one ionic step; False if they end in an error."""
    for iteration in range(1, number + 1):
        time.sleep(inputs.sleep / number)
        run.electronic_step(step, iteration, number)
        if "edddav" in inputs.faults and iteration == min(3, number):
            print("Error EDDDAV: Call to ZHEGV failed. Returncode =  7 2  16", flush=True)
            return False
        if "crash" in inputs.faults and step == 3 and iteration == 2:
            run.truncate()
            os.kill(os.getpid(), signal.SIGKILL)
    return True


def _converged(criterion: float, forces: np.ndarray, change: float | None) -> bool:
    """VASP's EDIFFG: a largest force where negative, else an energy difference between ionic steps."""
    if criterion < 0:
        return float(np.linalg.norm(forces, axis=1).max()) < -criterion
    return change is not None and change < criterion


if __name__ == "__main__":
    sys.exit(main())
