"""Files of VASP with names, packing and loops that custodian and atomate2 do not leave."""

import bz2
import lzma

import pytest

from cryslator_flows.counting import count_steps
from cryslator_flows.counting.vasp_directory import is_vasp_directory
from cryslator_flows.errors import CountingError
from tests.support.vasp_files import HEADER, oszicar, outcar, write, write_run


@pytest.mark.parametrize(("ending", "pack"), [(".bz2", bz2.compress), (".xz", lzma.compress)])
def test_packed_otherwise(tmp_path, ending, pack):
    (tmp_path / f"OSZICAR{ending}").write_bytes(pack(oszicar([5, 4]).encode()))
    (tmp_path / f"OUTCAR{ending}").write_bytes(pack(outcar([5, 4]).encode()))
    cost = count_steps(str(tmp_path))
    assert (cost.electronic_steps, cost.converged, cost.wall_time) == ([5, 4], True, 12.5)
    (tmp_path / f"OSZICAR{ending}").write_bytes(pack(oszicar([5, 4]).encode())[:-15])
    with pytest.raises(CountingError, match=f"OSZICAR{ending} is damaged"):
        count_steps(tmp_path)


def test_another_attempt_under_another_name_counts(tmp_path):
    write_run(tmp_path, [5, 4], ".old", relaxed=False, finished=False)
    write_run(tmp_path, [3], began="13:00:00")
    assert count_steps(tmp_path).electronic_steps == [5, 4, 3]
    write_run(tmp_path, [5, 4], ".relax1", began="11:00:00")
    write_run(tmp_path, [6], ".static", began="12:30:00", nsw=0)
    assert count_steps(tmp_path).electronic_steps == [5, 4, 5, 4, 6, 3]


def test_numbered_attempts_count_in_their_order(tmp_path):
    for number in range(1, 12):
        write(tmp_path / f"OSZICAR.{number}", oszicar([number]))
    assert count_steps(tmp_path).electronic_steps == list(range(1, 12))


def test_a_backup_counts_once_and_one_that_may_be_another_attempt_is_named(tmp_path):
    write_run(tmp_path, [3])
    write(tmp_path / "OSZICAR.bak", oszicar([3]))
    assert count_steps(tmp_path).electronic_steps == [3]
    write(tmp_path / "OSZICAR.bak", oszicar([4]))
    with pytest.raises(CountingError, match=r"OSZICAR\.bak: not known .* name it OSZICAR\.relax1"):
        count_steps(tmp_path)


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    write_run(tmp_path, [3])
    (tmp_path / "OSZICAR.relax1").symlink_to("nowhere")
    with pytest.raises(CountingError, match=r"OSZICAR\.relax1: a link that leads nowhere"):
        count_steps(tmp_path)


@pytest.mark.parametrize("name", ["error.4711", "prev_run.3"])
def test_a_file_without_the_ending_of_an_archive_is_none(tmp_path, name):
    """As with ``#SBATCH -e error.%j``."""
    write(tmp_path / name, "")
    assert not is_vasp_directory(tmp_path)
    write_run(tmp_path, [3])
    assert count_steps(tmp_path).electronic_steps == [3]


@pytest.mark.parametrize("top", [{"INCAR": "IMAGES = 2"}, {}])
def test_folders_of_runs_are_named(tmp_path, top):
    for name, text in top.items():
        write(tmp_path / name, text)
    for image in ("01", "02"):
        write_run(tmp_path / image, [3])
    with pytest.raises(CountingError, match="runs of VASP in 01, 02; give count_steps each"):
        count_steps(tmp_path)
    with pytest.raises(CountingError, match="a file of VASP; give count_steps its folder"):
        count_steps(tmp_path / "01" / "OUTCAR")


def loop(count: int) -> str:
    return "".join(f"RMM:{n:4d}    -0.1E+02   -0.2E-05   -0.3E-06  4216   0.1E-02\n" for n in range(1, count + 1))


def test_phonons_by_perturbation_theory(tmp_path):
    response = " Linear response reoptimize wavefunctions to high precision\n" + loop(2)
    response += " Linear response G [H, r] |phi>, progress :\n"
    response += "".join(f"  Direction: {n:3d} \n{HEADER}\n{loop(3)}" for n in (1, 2, 3))
    response += " Linear response progress:\n"
    response += "".join(f"  Degree of freedom: {n:3d}/  2\n{HEADER}\n{loop(4)}" for n in (1, 2))
    write(tmp_path / "OSZICAR", oszicar([6]) + response)
    cost = count_steps(tmp_path)
    assert (cost.ionic_steps, cost.electronic_steps, cost.response_steps) == (1, [6], [2, 3, 3, 3, 4, 4])


@pytest.mark.parametrize("steps", [[6], [6, 4]])
def test_nuclear_magnetic_resonance(tmp_path, steps):
    """LCHIMAG: loops without a heading, loops below a heading of its own, and Iteration lines of another width."""
    write_run(tmp_path, steps, finished=False)
    field = f"{loop(2).replace('RMM', 'DAV')}{HEADER.removesuffix('rms(c)')}\n{loop(3)}"
    rule = "-" * 41
    iterations = [f"{rule} Iteration {number}({n:4d})  {rule}" for number in ("   3", "   2", "") for n in (1, 2, 3)]
    with (tmp_path / "OSZICAR").open("a") as file:
        file.write(field * 3)
    with (tmp_path / "OUTCAR").open("a") as file:
        file.write("\n".join([*iterations, "  Elapsed time (sec):       20.500\n"]))
    cost = count_steps(tmp_path)
    assert (cost.electronic_steps, cost.response_steps, cost.converged) == (steps, [2, 3] * 3, True)


@pytest.mark.parametrize(("nsw", "ended", "converged"), [(0, True, True), (0, False, False), (9, False, False)])
def test_a_killed_run_without_outcar_has_not_converged(tmp_path, nsw, ended, converged):
    """Its last loop has no energy after it, and fewer steps than NELM allows."""
    text = oszicar([5]) if ended else oszicar([5, 4]).rpartition("   2 F=")[0]
    write(tmp_path / "OSZICAR", text)
    write(tmp_path / "vasp.out", f" entering main loop\n{text}")
    write(tmp_path / "INCAR", f"NSW = {nsw}\nNELM = 60\nEDIFF = 1E-4\n")
    assert count_steps(tmp_path).converged is converged


def test_a_cut_vasprun_leaves_it_to_the_log(tmp_path):
    write(tmp_path / "OSZICAR", oszicar([5, 4]))
    write(tmp_path / "vasprun.xml", "<modeling>\n <generator>\n")
    write(tmp_path / "INCAR", "NSW = 50\nNELM = 60\nEDIFF = 1E-4\n")
    write(tmp_path / "vasp.out", oszicar([5, 4]) + " reached required accuracy - stopping structural energy\n")
    assert count_steps(tmp_path).converged is True


def test_clusters_whose_loops_end_at_nelm(tmp_path):
    """Moments with three components, all loops 60 steps long, the last change above EDIFF."""
    text = oszicar([60, 60]).replace("mag=     5.0000", "mag=     3.0000    -0.0000     0.0000")
    write(tmp_path / "OSZICAR", text.replace("-0.24E-05", "0.13E-03"))
    write(tmp_path / "OUTCAR", outcar([60, 60], ediff="0.1E-04", version="5.4.4"))
    cost = count_steps(tmp_path)
    assert (cost.electronic_steps, cost.converged) == ([60, 60], False)
