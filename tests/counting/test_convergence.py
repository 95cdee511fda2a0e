"""Whether a run of VASP converged, and steps that are not those of an ionic step."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryslator_flows.counting import count_steps
from cryslator_flows.counting.oszicar import read_oszicar
from cryslator_flows.counting.outcar import Outcar
from cryslator_flows.counting.vasp_directory import Memory, read_attempts
from tests.support.vasp_files import oszicar, outcar, write, write_run

# The energy changes by 2.4E-6 eV in each step that the files hold.
LOOSE, TIGHT = "0.1E-04", "0.1E-06"


@pytest.mark.parametrize("about", [{}, {"nsw": 0, "relaxed": False}])
@pytest.mark.parametrize(
    ("steps", "ediff", "converged"),
    [([9, 7], TIGHT, False), ([9, 7], LOOSE, True), ([7, 6], TIGHT, True), ([3, 7], LOOSE, True)],
)
def test_a_loop_that_nelm_ended(tmp_path, steps, ediff, converged, about):
    """VASP 5 says that EDIFF is reached after each of them."""
    write_run(tmp_path, steps, nelm=7, ediff=ediff, **about)
    assert count_steps(tmp_path).converged is converged


def test_a_change_that_does_not_fit_its_column_is_unknown(tmp_path):
    write_run(tmp_path, [7], nelm=7)
    write(tmp_path / "OSZICAR", oszicar([7]).replace("-0.24E-05", "*********"))
    assert count_steps(tmp_path).converged is None


@pytest.mark.parametrize(("ibrion", "converged"), [(-1, True), (5, True), (8, True), (0, False), (2, False)])
def test_only_a_relaxation_must_reach_its_accuracy(tmp_path, ibrion, converged):
    write_run(tmp_path, [7], relaxed=False, ibrion=ibrion)
    assert count_steps(tmp_path).converged is converged


DONE = " reached required accuracy - stopping structural energy minimisation\n"


@pytest.mark.parametrize("name", ["job.log", "vasp.out"])
@pytest.mark.parametrize(
    ("incar", "end", "converged"),
    [
        ("NSW = 99\nEDIFF = 1E-5\n", DONE, True),
        ("NSW = 99\nEDIFF = 1E-5\n", "", False),
        ("NSW = 99\nNELM = 5\nEDIFF = 1E-6\n", DONE, False),
        ("EDIFF = 1E-6\n", "", True),
        ("EDIFF = 1E-6\nNELM = 5\n", "", False),
        (None, DONE, None),
    ],
)
def test_without_outcar_the_printed_output_says(tmp_path, name, incar, end, converged):
    write(tmp_path / "OSZICAR", oszicar([9, 5]))
    write(tmp_path / name, f" running on 8 total cores\n{oszicar([9, 5])}{end}")
    if incar is not None:
        write(tmp_path / "INCAR", incar)
    cost = count_steps(tmp_path)
    assert (cost.converged, cost.electronic_steps) == (converged, [9, 5])


def test_nothing_says(tmp_path):
    write(tmp_path / "OSZICAR", oszicar([9, 5]))
    assert count_steps(tmp_path).converged is None
    write(tmp_path / "INCAR", "NSW = 99\n")
    write(tmp_path / "job.log", "the scheduler killed something\n")
    assert count_steps(tmp_path).converged is None
    write(tmp_path / "vasprun.xml", "<modeling><calculation>")
    assert count_steps(tmp_path).converged is None


def linear_response(loops: list[int], rule: int) -> tuple[str, str]:
    """What LEPSILON adds to OSZICAR and OUTCAR."""
    short, long = "", ""
    for direction, number in enumerate(loops, 1):
        short += f" Linear response to external field, progress :\n  Direction:   {direction}\n       N       E    dE\n"
        short += "".join(
            f"RMM:{n:4d}    -0.699E+03   -0.69916E+03    0.686E+02  3376   0.102E+02\n" for n in range(1, number + 1)
        )
        long += " Linear response to external field, progress :\n"
        long += "".join(f"{'-' * rule} Iteration {direction:4d}({n:4d})  ---\n" for n in range(1, number + 1))
        long += "------------------------ aborting loop because EDIFF is reached ------------------------\n"
    return short, long


@pytest.mark.parametrize("steps", [[9], [9, 5]])
def test_linear_response_is_counted_apart(tmp_path, steps):
    """At the end of the run, and between two ionic steps."""
    short, long = linear_response([6, 4, 5], 41)
    first, _, end = outcar(steps, nsw=0, relaxed=False).rpartition("                         Elapsed")
    write(tmp_path / "OSZICAR", oszicar(steps) + short)
    write(tmp_path / "OUTCAR", f"{first}{long}                         Elapsed{end}")
    cost = count_steps(tmp_path)
    assert (cost.ionic_steps, cost.electronic_steps, cost.response_steps) == (len(steps), steps, [6, 4, 5])
    assert cost.converged is True
    (tmp_path / "OUTCAR").unlink()
    assert count_steps(tmp_path).response_steps == [6, 4, 5]


def test_an_ionic_step_after_linear_response(tmp_path):
    before, after = oszicar([9, 5]).split("   1 F=")
    energy, _, rest = after.partition("\n")
    short, long = linear_response([6, 4], 41)
    write(tmp_path / "OSZICAR", f"{before}   1 F={energy}\n{short}{rest}")
    rule = "-" * 39
    early, _, late = outcar([9, 5]).partition(f"{rule} Iteration      2(   1)")
    write(tmp_path / "OUTCAR", f"{early}{long}{rule} Iteration      2(   1){late}")
    cost = count_steps(tmp_path)
    assert (cost.electronic_steps, cost.response_steps, cost.converged) == ([9, 5], [6, 4], True)


def test_no_linear_response():
    assert read_oszicar(oszicar([3, 2]).encode()).response_steps == []


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.lists(st.floats(0, 1), max_size=4))
@settings(max_examples=30)
def test_what_is_read_bit_by_bit_is_what_is_read_at_once(steps, shares):
    """And no line is read twice."""
    text, lines = outcar(steps), []

    class Counted(Outcar):
        def _read(self, line):
            lines.append(line)
            super()._read(line)

    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        write(folder / "OSZICAR", oszicar(steps))
        memory = Memory()
        for share in [*sorted(shares), 1]:
            (folder / "OUTCAR").write_text(text[: int(share * len(text))])
            fresh = read_attempts(folder)
            patch.setattr("cryslator_flows.counting.vasp_directory.Outcar", Counted)
            assert read_attempts(folder, memory) == fresh
            patch.undo()
    # Until the head is there the file is read anew.
    assert len(lines) <= text.count("\n") + 4 * (len(shares) + 1)


def test_another_attempt_in_the_same_file_is_read_anew(tmp_path):
    memory = Memory()
    write_run(tmp_path, [3], began="12:00:00")
    read_attempts(tmp_path, memory)
    write_run(tmp_path, [4, 5, 6], began="13:00:00", relaxed=False)
    (attempt,) = read_attempts(tmp_path, memory)
    assert (attempt.electronic_steps, attempt.converged) == ([4, 5, 6], False)
