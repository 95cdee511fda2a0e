"""Steps from outputs of real engines, see tests/data/outputs. The numbers expected were counted by hand."""

import gzip
import shutil

import pytest

from cryslator_flows.counting import count_steps
from cryslator_flows.errors import CountingError
from tests.conftest import ROOT

OUTPUTS = ROOT / "tests" / "data" / "outputs"
# Output, engine, electronic steps, irreducible k-points, converged, wall time as the engine tells it.
RUNS = [
    ("gpaw-relax.txt", "GPAW", [8, 8, 8, 7, 6, 6], 3, None, 22.352),
    ("gpaw-not-converged.txt", "GPAW", [4], 3, False, 0.9),
    ("espresso-vc-relax.out", "Quantum ESPRESSO", [7, 6, 7, 6, 7, 5, 6, 7], 10, True, 7.72),
    ("espresso-not-converged.out", "Quantum ESPRESSO", [4], 10, False, 0.69),
    ("abinit-relax.abo", "ABINIT", [6, 6, 6, 5, 5, 5, 5, 5, 5], 3, True, 1.0),
    ("abinit-not-converged.abo", "ABINIT", [4, 4], 3, False, 0.4),
    ("cp2k-cell-opt.out", "CP2K", [7] * 15, 4, True, 12.5),
    ("cp2k-outer-scf.out", "CP2K", [33, 21, 22], None, False, 10.391),
    ("cp2k-not-converged.out", "CP2K", [3, 3], None, False, 1.101),
]
# A line that tells an electronic step, and one in the middle of the output that tells the engine's own count.
LINES = {
    "gpaw-relax.txt": ("|iter:", "Converged in"),
    "espresso-vc-relax.out": ("     iteration #", "     convergence has been achieved"),
    "abinit-relax.abo": (" ETOT ", " At SCF step"),
    "cp2k-cell-opt.out": ("     2 Broy./Diag.", "  *** SCF run converged"),
}


def lines_of(name: str) -> list[str]:
    return gzip.decompress((OUTPUTS / f"{name}.gz").read_bytes()).decode().splitlines(keepends=True)


@pytest.mark.parametrize(("name", "engine", "steps", "kpoints", "converged", "wall_time"), RUNS)
def test_outputs(tmp_path, name, engine, steps, kpoints, converged, wall_time):
    cost = count_steps(OUTPUTS / f"{name}.gz")
    assert (cost.engine, cost.electronic_steps, cost.ionic_steps) == (engine, steps, len(steps))
    assert (cost.n_kpoints, cost.converged, cost.wall_time) == (kpoints, converged, wall_time)
    assert (cost.attempts, cost.discarded_electronic_steps, cost.synthetic) == (1, 0, False)
    (tmp_path / name).write_text("".join(lines_of(name)))
    (tmp_path / "something-else.log").write_text("not an output of an engine")
    (tmp_path / "WAVES").write_bytes(bytes(range(256)) * 100)
    assert count_steps(tmp_path) == cost.model_copy(update={"dir_name": str(tmp_path)})


@pytest.mark.parametrize("name", LINES)
def test_stopped_runs_count_as_far_as_they_went(tmp_path, name):
    whole = count_steps(OUTPUTS / f"{name}.gz").electronic_steps
    lines = lines_of(name)
    step, _ = LINES[name]
    third = [number for number, line in enumerate(lines) if line.startswith(step)][2]
    path = tmp_path / name
    path.write_text("".join(lines[: third + 1]))
    cost = count_steps(path)
    assert cost.converged is False
    assert cost.wall_time is None
    assert cost.electronic_steps[:-1] == whole[: len(cost.electronic_steps) - 1]
    assert 1 <= cost.electronic_steps[-1] < whole[len(cost.electronic_steps) - 1]


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("which", [0, 1])
def test_missing_lines_are_noticed(tmp_path, name, which):
    """Without a step the engine's own count contradicts; without that, an ionic step has no end."""
    lines = lines_of(name)
    number = [number for number, line in enumerate(lines) if line.startswith(LINES[name][which])][1]
    path = tmp_path / name
    path.write_text("".join(lines[:number] + lines[number + 1 :]))
    with pytest.raises(CountingError, match=f"{name}: "):
        count_steps(path)


@pytest.mark.parametrize(
    ("name", "told"), [("espresso-vc-relax.out", "bfgs converged in"), ("abinit-relax.abo", "At Broyd/MD step")]
)
def test_ionic_steps_must_agree_too(tmp_path, name, told):
    text = "".join(lines_of(name))
    path = tmp_path / name
    count = text.partition(told)[2].split()[0].strip(",")
    path.write_text(text.replace(f"{told}   {count}", f"{told}   {int(count) + 1}"))
    with pytest.raises(CountingError, match=r"\d ionic steps counted, but .* reports \d"):
        count_steps(path)


def test_a_log_that_goes_on_after_a_stop(tmp_path):
    """GPAW appends to a log if told so."""
    lines = lines_of("gpaw-relax.txt")
    stopped = lines[: next(number for number, line in enumerate(lines) if line.startswith("|iter:   5"))]
    path = tmp_path / "gpaw.txt"
    path.write_text("".join([*stopped, *lines]))
    cost = count_steps(tmp_path)
    assert cost.electronic_steps == [4, 8, 8, 8, 7, 6, 6]
    assert (cost.attempts, cost.discarded_electronic_steps, cost.wall_time) == (2, None, None)


def test_output_without_a_single_step(tmp_path):
    (tmp_path / "pw.out").write_text("".join(lines_of("espresso-vc-relax.out")[:20]))
    cost = count_steps(tmp_path)
    assert (cost.engine, cost.electronic_steps, cost.ionic_steps) == ("Quantum ESPRESSO", None, None)
    assert cost.converged is False


def test_bad_directories(tmp_path):
    with pytest.raises(CountingError, match=rf"{tmp_path}: no run of a known engine; .*OSZICAR.*CP2K"):
        count_steps(tmp_path)
    (tmp_path / "run.out").write_text("Siesta Version: 5.0\n   scf:    1   -213.6\n")
    with pytest.raises(CountingError, match="no run of a known engine"):
        count_steps(tmp_path)
    with pytest.raises(CountingError, match="no run of a known engine"):
        count_steps(tmp_path / "run.out")
    with pytest.raises(CountingError, match="absent: no such file"):
        count_steps(tmp_path / "absent")
    for name in ("abinit-relax.abo.gz", "gpaw-relax.txt.gz"):
        shutil.copy(OUTPUTS / name, tmp_path)
    with pytest.raises(CountingError, match=r"several outputs: abinit-relax.abo.gz \(ABINIT\), gpaw.*one of these"):
        count_steps(tmp_path)


def test_damaged_output(tmp_path):
    path = tmp_path / "gpaw.txt.gz"
    path.write_bytes((OUTPUTS / "gpaw-relax.txt.gz").read_bytes()[:5000])
    with pytest.raises(CountingError, match=r"gpaw.txt.gz: damaged \(EOFError\)"):
        count_steps(path)


def test_the_log_of_abinit_is_not_its_output(tmp_path):
    """The log repeats the main output after a header of its own; only one of them counts."""
    output = "".join(lines_of("abinit-relax.abo"))
    (tmp_path / "run.abo").write_text(output)
    (tmp_path / "run.log").write_text("  ABINIT 9.6.2\n\n" + output)
    assert count_steps(tmp_path).ionic_steps == 9
