"""Steps from VASP's files and from documents. The numbers expected are those written into the files."""

import gzip
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

import ase
import pytest
from custodian.utils import backup
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.io.vasp import Oszicar

from cryslator_flows.counting import count_steps
from cryslator_flows.counting.oszicar import read_oszicar
from cryslator_flows.errors import CountingError
from tests.support.vasp_files import oszicar, outcar, write, write_run

STEPS = st.lists(st.integers(1, 12), min_size=1, max_size=5)
BACKED_UP = ["OSZICAR", "OUTCAR", "INCAR"]


def test_one_run(tmp_path):
    write_run(tmp_path, [9, 5, 3])
    cost = count_steps(tmp_path)
    assert (cost.engine, cost.ionic_steps, cost.electronic_steps) == ("VASP", 3, [9, 5, 3])
    assert (cost.attempts, cost.discarded_electronic_steps, cost.n_kpoints) == (1, 0, 4)
    assert (cost.converged, cost.synthetic, cost.guard, cost.wall_time) == (True, False, None, 12.5)
    assert cost.dir_name == str(tmp_path)
    assert count_steps(str(tmp_path)) == cost


@given(STEPS)
@settings(max_examples=20)
def test_whole_files_are_read_as_by_pymatgen(steps):
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "OSZICAR", oszicar(steps))
        read = Oszicar(Path(folder) / "OSZICAR")
    assert (
        read_oszicar(oszicar(steps).encode()).electronic_steps == [len(step) for step in read.electronic_steps] == steps
    )


@given(STEPS, st.floats(0, 1))
def test_files_cut_anywhere(steps, share):
    """Whatever is cut off, what is left counts: never a step of another ionic step, never an error."""
    text = oszicar(steps)
    left = text[: int(share * len(text))]
    counted = read_oszicar(left.encode()).electronic_steps
    assert counted[:-1] == steps[: max(len(counted) - 1, 0)]
    assert not counted or counted[-1] <= steps[len(counted) - 1]
    whole = sum(line.startswith(("DAV:", "RMM:")) for line in left.splitlines(keepends=True) if line.endswith("\n"))
    assert whole <= sum(counted) <= whole + 1


def test_pymatgen_refuses_what_is_cut(tmp_path):
    """Why OSZICAR is not left to pymatgen; may go when this fails."""
    write(tmp_path / "OSZICAR", oszicar([3])[: len(oszicar([3])) // 2].rpartition("DAV:")[0] + "DAV:")
    with pytest.raises(IndexError):
        Oszicar(tmp_path / "OSZICAR")


def test_killed_run_counts_its_last_ionic_step(tmp_path):
    write(tmp_path / "OSZICAR", oszicar([9, 5]).rpartition("\n   2 F=")[0])
    write(tmp_path / "OUTCAR", outcar([9, 3], finished=False, relaxed=False))
    write(tmp_path / "vasprun.xml", "<modeling><calculation><scst")
    cost = count_steps(tmp_path)
    assert cost.electronic_steps == [9, 5]
    assert (cost.converged, cost.wall_time, cost.n_kpoints) == (False, None, 4)


@pytest.mark.parametrize(
    ("about", "converged"),
    [
        ({}, True),
        ({"relaxed": False}, False),
        ({"scf": False}, False),
        ({"finished": False}, False),
        ({"relaxed": False, "nsw": 0}, True),
        ({"relaxed": False, "scf": False, "nsw": 0}, False),
    ],
)
def test_convergence(tmp_path, about, converged):
    write_run(tmp_path, [9], **about)
    assert count_steps(tmp_path).converged is converged


def test_only_the_last_ionic_step_must_converge(tmp_path):
    write_run(tmp_path, [9, 5])
    first, told, last = outcar([9, 5]).partition("aborting loop because EDIFF is reached")
    write(tmp_path / "OUTCAR", first + last)
    assert count_steps(tmp_path).converged
    write(tmp_path / "OUTCAR", first + told + last.replace(told, "aborting loop EDIFF was not reached (unconverged)"))
    assert not count_steps(tmp_path).converged


@pytest.mark.parametrize("zipped", [False, True])
def test_double_relaxation_of_custodian(tmp_path, zipped):
    for number, steps in ((1, [9, 5]), (2, [6]), (10, [2])):
        write_run(tmp_path, steps, f".relax{number}", zipped, began=f"12:00:{number}")
    write_run(tmp_path, [11], ".precondition", zipped, began="11:00:00")
    cost = count_steps(tmp_path)
    assert cost.electronic_steps == [11, 9, 5, 6, 2]
    assert (cost.attempts, cost.discarded_electronic_steps, cost.wall_time) == (4, 0, 50)


def test_first_relaxation_is_copied_before_the_second_begins(tmp_path):
    """Custodian copies OSZICAR to OSZICAR.relax1 and leaves OSZICAR until VASP overwrites it."""
    write_run(tmp_path, [9, 5])
    write_run(tmp_path, [9, 5], ".relax1")
    assert count_steps(tmp_path).electronic_steps == [9, 5]
    write_run(tmp_path, [4], began="13:00:00")
    assert count_steps(tmp_path).electronic_steps == [9, 5, 4]


def run_attempts(folder: Path, attempts: list[list[int]], copies: list[int], archive_last: bool = False) -> None:
    """Do what custodian does: every attempt but the last is archived once for each handler that corrects it."""
    for number, (steps, handlers) in enumerate(zip(attempts, copies, strict=True)):
        write_run(folder, steps, began=f"12:00:{number:02d}")
        last = number == len(attempts) - 1
        for _ in range(handlers if not last or archive_last else 0):
            backup(BACKED_UP, directory=str(folder))


def test_archives(tmp_path):
    run_attempts(tmp_path, [[7, 2], [3], [9, 5, 4]], [2, 1, 1])
    assert {path.name for path in tmp_path.glob("error*")} == {f"error.{i}.tar.gz" for i in (1, 2, 3)}
    cost = count_steps(tmp_path)
    assert cost.electronic_steps == [7, 2, 3, 9, 5, 4]
    assert (cost.attempts, cost.discarded_electronic_steps) == (3, 12)
    assert cost.converged
    # Also where copying the folder has changed the times of its files.
    os.utime(tmp_path / "OSZICAR", (1, 1))
    assert count_steps(tmp_path) == cost


def test_last_archive_may_be_of_the_files_in_the_folder(tmp_path):
    run_attempts(tmp_path, [[7, 2], [3]], [1, 2], archive_last=True)
    cost = count_steps(tmp_path)
    assert (cost.electronic_steps, cost.attempts, cost.discarded_electronic_steps) == ([7, 2, 3], 2, 9)


@given(st.lists(st.tuples(STEPS, st.integers(1, 3)), min_size=1, max_size=4), st.booleans(), st.booleans())
@settings(max_examples=25)
def test_total_does_not_depend_on_copies_and_compression(attempts, archive_last, zipped):
    lists, copies = zip(*attempts, strict=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_attempts(folder, list(lists), list(copies), archive_last)
        if zipped:
            for path in (folder / "OSZICAR", folder / "OUTCAR"):
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
                path.unlink()
        cost = count_steps(folder)
    assert cost.electronic_steps == [step for steps in lists for step in steps]
    assert cost.attempts == len(lists)
    assert cost.discarded_electronic_steps == sum(map(sum, lists[:-1]))


def test_equal_attempts_are_told_by_when_they_began(tmp_path):
    """A second attempt may repeat the first to the last digit; it was paid for all the same."""
    run_attempts(tmp_path, [[7, 2], [7, 2], [7, 2, 4]], [1, 2, 1])
    cost = count_steps(tmp_path)
    assert (cost.electronic_steps, cost.attempts) == ([7, 2, 7, 2, 7, 2, 4], 3)


def test_archive_made_while_the_attempt_still_ran(tmp_path):
    write(tmp_path / "OSZICAR", oszicar([7, 4])[:-100])
    write(tmp_path / "OUTCAR", outcar([7, 2], finished=False))
    backup(BACKED_UP, directory=str(tmp_path))
    write_run(tmp_path, [7, 4, 3])
    cost = count_steps(tmp_path)
    assert (cost.electronic_steps, cost.attempts, cost.discarded_electronic_steps) == ([7, 4, 3], 1, 0)


def test_archives_as_folders_and_unzipped(tmp_path):
    """VaspJob unzips all in its folder before it starts, error.1.tar.gz too."""
    run_attempts(tmp_path, [[7, 2], [3], [4]], [1, 1, 1])
    packed = tmp_path / "error.1.tar.gz"
    (tmp_path / "error.1.tar").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    with tarfile.open(tmp_path / "error.2.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "error.2.tar.gz").unlink()
    assert sorted(path.name for path in tmp_path.glob("error*")) == ["error.1.tar", "error.2"]
    assert count_steps(tmp_path).electronic_steps == [7, 2, 3, 4]


def test_continued_runs_are_not_discarded(tmp_path):
    write_run(tmp_path, [7, 2], finished=False, relaxed=False)
    backup(BACKED_UP, prefix="prev_run", directory=str(tmp_path))
    write_run(tmp_path, [4], began="13:00:00")
    cost = count_steps(tmp_path)
    assert (cost.electronic_steps, cost.attempts, cost.discarded_electronic_steps) == ([7, 2, 4], 2, 0)


def test_error_between_two_relaxations_is_put_in_order(tmp_path):
    write_run(tmp_path, [9], ".relax1", began="12:00:01")
    os.utime(tmp_path / "OSZICAR.relax1", (100, 100))
    write_run(tmp_path, [5], began="12:00:02")
    os.utime(tmp_path / "OSZICAR", (200, 200))
    backup(BACKED_UP, directory=str(tmp_path))
    write_run(tmp_path, [6], began="12:00:03")
    assert count_steps(tmp_path).electronic_steps == [9, 5, 6]


def test_last_attempt_that_left_nothing(tmp_path):
    run_attempts(tmp_path, [[7, 2]], [1], archive_last=True)
    (tmp_path / "OSZICAR").unlink()
    cost = count_steps(tmp_path)
    assert (cost.electronic_steps, cost.discarded_electronic_steps, cost.converged) == ([7, 2], 9, False)


def test_kpoints(tmp_path):
    write_run(tmp_path, [7])
    (tmp_path / "OUTCAR").unlink()
    assert count_steps(tmp_path).n_kpoints is None
    write(tmp_path / "IBZKPT", "Automatically generated mesh\n       6\nReciprocal lattice\n")
    cost = count_steps(tmp_path)
    assert (cost.n_kpoints, cost.electronic_steps_times_kpoints, cost.converged) == (6, 42, None)
    write_run(tmp_path, [7])
    backup(BACKED_UP, directory=str(tmp_path))
    write_run(tmp_path, [5], began="13:00:00", n_kpoints=8)
    cost = count_steps(tmp_path)
    assert (cost.n_kpoints, cost.electronic_steps_times_kpoints, cost.total_electronic_steps) == (None, None, 12)


def test_machine_learned_steps_have_no_electronic_ones(tmp_path):
    lines = oszicar([7]) + "   2 F= -.31E+02 E0= -.31E+02  d E =-.3E+00\n" + oszicar([4]).replace("   1 F=", "   3 F=")
    write(tmp_path / "OSZICAR", lines)
    assert count_steps(tmp_path).electronic_steps == [7, 0, 4]


def test_test_doubles_and_the_guard_are_told(tmp_path):
    write_run(tmp_path, [7], version="6.4.3-synthetic")
    write(tmp_path / "cryslator_guard.json", '{"reason": "pressure 99 GPa"}')
    cost = count_steps(tmp_path)
    assert (cost.synthetic, cost.guard) == (True, "pressure 99 GPa")
    (tmp_path / "OUTCAR").unlink()
    (tmp_path / "cryslator_guard.json").unlink()
    write(tmp_path / "cryslator_guard.json", '{"reason": "forces"}', zipped=True)
    assert count_steps(tmp_path).synthetic is False
    write(
        tmp_path / "vasprun.xml", '<modeling><generator><i name="version">6.4.3-synthetic</i></generator>', zipped=True
    )
    cost = count_steps(tmp_path)
    assert (cost.synthetic, cost.guard) == (True, "forces")


def test_nothing_finished_is_unknown_not_zero(tmp_path):
    for text in ("", oszicar([3]).splitlines()[0], "DAV:   1"):
        write(tmp_path / "OSZICAR", text)
        cost = count_steps(tmp_path)
        assert (cost.ionic_steps, cost.electronic_steps, cost.total_electronic_steps) == (None, None, None)
        assert cost.discarded_electronic_steps is cost.converged is None


def test_outcar_of_the_previous_job_is_not_counted(tmp_path):
    """Atomate2 copies OUTCAR and vasprun.xml from the job before, and no OSZICAR."""
    write(tmp_path / "OUTCAR", outcar([9, 5]))
    write(tmp_path / "vasprun.xml", "<modeling></modeling>")
    with pytest.raises(CountingError, match=rf"{tmp_path}: .*no OSZICAR.*previous job"):
        count_steps(tmp_path)


def test_real_outcar(tmp_path):
    """ASE ships one, of a static calculation with VASP 5.3.3: 63 electronic steps, by its last Iteration line."""
    shutil.copy(Path(ase.__file__).parent / "test/testdata/vasp/OUTCAR_example_1", tmp_path / "OUTCAR")
    write(tmp_path / "OSZICAR", oszicar([63]))
    cost = count_steps(tmp_path)
    assert (cost.electronic_steps, cost.n_kpoints, cost.wall_time, cost.converged) == ([63], 1, 124.967, True)
    write(tmp_path / "OSZICAR", oszicar([62]))
    with pytest.raises(CountingError, match="reports 63 in 1"):
        count_steps(tmp_path)


def test_counts_that_contradict_each_other(tmp_path):
    write_run(tmp_path, [9, 5])
    write(tmp_path / "OUTCAR", outcar([9, 4]))
    with pytest.raises(CountingError, match=r"OSZICAR: 14 electronic steps in 2 .* OUTCAR beside it reports 13 in 2"):
        count_steps(tmp_path)


def test_damaged_archives(tmp_path):
    run_attempts(tmp_path, [[7] * 30, [3]], [1, 1])
    packed = tmp_path / "error.1.tar.gz"
    whole = packed.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no archive"):
        packed.write_bytes(content)
        with pytest.raises(CountingError, match=r"error\.1\.tar\.gz: .*damaged.*restore it"):
            count_steps(tmp_path)


def test_damaged_zipped_file(tmp_path):
    write_run(tmp_path, [7] * 30, zipped=True)
    path = tmp_path / "OSZICAR.gz"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(CountingError, match=r"OSZICAR\.gz is damaged"):
        count_steps(tmp_path)
