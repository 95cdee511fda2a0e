"""The words in which engines and their versions say the same, in outputs of a few lines."""

import bz2

import pytest

from cryslator_flows.counting import count_steps
from cryslator_flows.errors import CountingError

QE = "     Program PWSCF v.7.2 starts on  1Jan2024 at  1: 1: 1 \n"
QE_END = "     PWSCF        :      1.00s CPU      1.20s WALL\n"
EXX = "     EXX: now go back to refine exchange calculation\n"
MOVED = "     number of scf cycles    =   1\nATOMIC_POSITIONS (bohr)\n"
BFGS = "     bfgs converged in   2 scf cycles and   1 bfgs steps\n"


def qe(count: int) -> str:
    steps = "".join(f"     iteration #{n:3d}     ecut=    30.00 Ry     beta= 0.70\n" for n in range(1, count + 1))
    return f"{steps}\n     convergence has been achieved in {count:3d} iterations\n"


@pytest.mark.parametrize(
    ("text", "steps", "converged"),
    [
        (qe(4), [4], True),
        (qe(4).replace("has been achieved in", "NOT achieved after"), [4], False),
        (qe(4) + EXX + qe(2) + EXX + qe(1), [7], True),
        (qe(4) + EXX + qe(1) + MOVED + qe(3) + EXX + qe(1) + BFGS, [5, 4], True),
        (qe(4) + MOVED + qe(3) + MOVED.replace("1", "2") + "     lsda relaxation :  a\n" + qe(5) + BFGS, [4, 8], True),
        (qe(4) + MOVED + qe(3) + BFGS + "ATOMIC_POSITIONS (bohr)\n     lsda relaxation :\n" + qe(5), [4, 8], True),
        (qe(4) + qe(3) + "     Damped Dynamics: convergence achieved in   1 steps\n", [4, 3], True),
        (qe(4) + qe(3) + "     FIRE: convergence achieved in   1 steps\n", [4, 3], True),
        (qe(4) + qe(3) + "     convergence achieved, Efinal=   -25.4\n", [4, 3], True),
        (
            "     BFGS Geometry Optimization\n" + qe(4) + "     The maximum number of steps has been reached.\n",
            [4],
            False,
        ),
        (
            "     End of 3D-RISM calculation\n\n     convergence has been achieved in  25 iterations\n" + qe(4),
            [4],
            True,
        ),
        (qe(4) + qe(3), [4, 3], None),
        ("     End of band structure calculation\n", None, None),
    ],
)
def test_quantum_espresso(tmp_path, text, steps, converged):
    path = tmp_path / "pw.out"
    path.write_text(QE + text + QE_END)
    cost = count_steps(path)
    assert (cost.electronic_steps, cost.converged, cost.wall_time) == (steps, converged, 1.2)
    path.write_text(QE + text)
    assert count_steps(path).converged is False


def test_the_last_run_in_a_file_decides(tmp_path):
    """A run that was killed, and its restart behind it; libraries have talked before."""
    path = tmp_path / "pw.out"
    talk = "libfabric: a warning of some length\n" * 1000
    path.write_text(talk + QE + qe(8) + MOVED + qe(6)[:60] + "\n" + QE + qe(7) + MOVED + qe(5) + BFGS + QE_END)
    cost = count_steps(path)
    assert (cost.attempts, cost.electronic_steps, cost.converged) == (2, [8, 1, 7, 5], True)
    # The time of the first is not known.
    assert cost.wall_time is None


def test_packed_by_bzip2(tmp_path):
    path = tmp_path / "pw.out.bz2"
    path.write_bytes(bz2.compress((QE + qe(8) + QE_END).encode()))
    assert count_steps(str(path)).electronic_steps == [8]


def test_quantum_espresso_4(tmp_path):
    path = tmp_path / "pw.out"
    end = "     PWSCF        :     1.00s CPU time,    1.20s wall time\n"
    path.write_text(f"     Program PWSCF     v.4.0     starts ...\n{qe(4)}{end}")
    cost = count_steps(path)
    assert (cost.engine, cost.electronic_steps, cost.wall_time) == ("Quantum ESPRESSO", [4], 1.2)


TOLVRS = "       vres2   =  1.0E-12 < tolvrs=  1.0E-10 =>converged."
DATASET = "== DATASET  2 =============\n"


def abinit(count: int, told: str = TOLVRS) -> str:
    steps = "".join(f" ETOT{n:3d}  -8.8{n}0000000000    -8.802E+00 6.1E-04 3.3E+00\n" for n in range(1, count + 1))
    return f"{steps}\n At SCF step{count:5d}{told}\n"


def relaxed(*counts: int, told: str = TOLVRS) -> str:
    steps = [
        f"--- Iteration: ({n}/9) Internal Cycle: (1/1)\n{abinit(count, told)}" for n, count in enumerate(counts, 1)
    ]
    return "".join(steps) + f" At Broyd/MD step{len(counts):4d}, gradients are converged : \n"


def write_abinit(path, text, version="9.10.3"):
    end = "+Overall time at end (sec) : cpu=          1.0  wall=          2.0\n"
    path.write_text(f"\n.Version {version} of ABINIT \n{text}{end}")
    return path


@pytest.mark.parametrize(
    "told", [TOLVRS, ", forces are converged : ", ", forces are sufficiently converged : ", ", etot is converged : "]
)
def test_every_tolerance_of_abinit(tmp_path, told):
    path = write_abinit(tmp_path / "run.abo", relaxed(4, 3, told=told))
    cost = count_steps(path)
    assert (cost.electronic_steps, cost.converged) == ([4, 3], True)
    write_abinit(path, relaxed(4, 3, told=told).replace(" ETOT  2", "", 1))
    with pytest.raises(CountingError, match="3 electronic steps in ionic step 1 counted"):
        count_steps(path)


@pytest.mark.parametrize(
    ("text", "steps", "converged"),
    [
        (abinit(4), [4], True),
        (relaxed(4, 3) + DATASET + relaxed(5), [4, 3, 5], True),
        (relaxed(4, 3) + DATASET + abinit(5), [4, 3, 5], True),
        (relaxed(4, 3).rpartition(" At Broyd")[0] + DATASET + relaxed(5), [4, 3, 5], False),
        ("== DATASET  1 ==\n" + relaxed(4) + DATASET + "a band structure\n", [4], True),
        (
            abinit(4)
            + DATASET
            + "no tolerance reached\n"
            + abinit(2).replace("At SCF step    2", "nstep=  2 was not enough SCF cycles"),
            [4, 2],
            False,
        ),
    ],
)
def test_datasets_of_abinit(tmp_path, text, steps, converged):
    cost = count_steps(write_abinit(tmp_path / "run.abo", text))
    assert (cost.electronic_steps, cost.converged) == (steps, converged)


def test_abinit_5_counts_from_0(tmp_path):
    steps = "".join(f" BROYDEN STEP NUMBER{n:4d}  ------\n{abinit(count)}" for n, count in enumerate([4, 3]))
    end = " At Broyd/MD step{:4d}, gradients are converged : \n"
    path = write_abinit(tmp_path / "run.abo", steps + end.format(1), "5.8.4")
    assert (count_steps(path).electronic_steps, count_steps(path).converged) == ([4, 3], True)
    write_abinit(path, steps + end.format(2), "5.8.4")
    with pytest.raises(CountingError, match="1 ionic steps counted, but ABINIT reports 2"):
        count_steps(path)


def test_linear_response_of_abinit_is_counted_apart(tmp_path):
    response = abinit(6).replace(" ETOT  1", "-ETOT  1")
    cost = count_steps(write_abinit(tmp_path / "run.abo", abinit(4) + DATASET + response + response))
    assert (cost.ionic_steps, cost.electronic_steps, cost.response_steps, cost.converged) == (1, [4], [6, 6], True)


LOGO = r"""
  ___ ___ ___ _ _ _
 |   |   |_  | | | |
 | | | | | . | | | |
 |__ |  _|___|_____|  24.6.0
 |___|_|
"""


@pytest.mark.parametrize("end", ["Converged after 2 iterations.", "Converged in 2 steps"])
@pytest.mark.parametrize(
    "points", ["4 k-points in the irreducible part of the Brillouin zone", "  Number of IBZ points: 4"]
)
def test_gpaw_up_to_25(tmp_path, end, points):
    path = tmp_path / "gpaw.txt"
    total = "Total:                                      9.500 100.0%\n"
    path.write_text(f"{LOGO}{points}\niter:   1 10:00:00   -15.0\niter:   2 10:00:01   -15.1\n\n{end}\n{total}")
    cost = count_steps(path)
    assert (cost.engine, cost.electronic_steps, cost.n_kpoints, cost.wall_time) == ("GPAW", [2], 4, 9.5)
    # What ASE made of it is not in the log.
    assert cost.converged is None


@pytest.mark.parametrize(
    ("kind", "end", "converged"),
    [
        ("ENERGY_FORCE", "", True),
        ("GEO_OPT", "", False),
        ("GEO_OPT", " ***   GEOMETRY OPTIMIZATION COMPLETED  ***\n", True),
    ],
)
def test_cp2k(tmp_path, kind, end, converged):
    path = tmp_path / "cp2k.out"
    path.write_text(
        f" CP2K| version string:  CP2K version 2023.1\n GLOBAL| Run type      {kind}\n SCF WAVEFUNCTION OPTIMIZATION\n"
        "     1 OT DIIS     0.15E+00    1.1     0.01   -17.1 -1.7E+01\n"
        f"  *** SCF run converged in     1 steps ***\n{end} CP2K    1  1.0    0.0    0.0    1.1    1.1\n"
    )
    cost = count_steps(path)
    assert (cost.electronic_steps, cost.converged) == ([1], converged)
