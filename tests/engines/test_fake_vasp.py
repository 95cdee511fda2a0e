"""The test double of VASP behind unmodified atomate2, custodian and emmet."""

import gzip
import json

import numpy as np
import pytest
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.io import read
from atomate2.vasp.flows.core import DoubleRelaxMaker
from atomate2.vasp.flows.mp import MPGGADoubleRelaxMaker, MPMetaGGADoubleRelaxMaker
from atomate2.vasp.jobs.core import RelaxMaker, StaticMaker
from atomate2.vasp.jobs.mp import MPGGARelaxMaker
from pymatgen.core import Lattice, Structure
from pymatgen.core.structure_matcher import StructureMatcher
from pymatgen.io.vasp import Incar, Oszicar, Vasprun

from tests.support.fake_vasp.model import IonicCrystal
from tests.support.fake_vasp.runs import archived_oszicars, corrections, folder, only_folder, relax


@pytest.fixture
def squeezed(rutile) -> Structure:
    structure = rutile.copy()
    structure.scale_lattice(0.9 * rutile.volume)
    return structure


@pytest.mark.slow
@pytest.mark.parametrize("maker", [DoubleRelaxMaker, MPGGADoubleRelaxMaker, MPMetaGGADoubleRelaxMaker])
def test_double_relaxations_succeed(fake_vasp, squeezed, maker):
    documents = relax(maker(), squeezed)
    assert [document.state for document in documents] == ["successful", "successful"]
    first, second = (document.calcs_reversed[0].output.num_electronic_steps for document in documents)
    assert len(second) < len(first)
    output = documents[1].output
    assert output.structure.volume > 1.05 * squeezed.volume
    assert np.abs(output.stress).max() < 50  # kB
    if maker is MPMetaGGADoubleRelaxMaker:
        assert documents[1].run_type == "r2SCAN"
        assert not list(folder(documents[1]).glob("KPOINTS*"))  # KSPACING instead
        assert documents[1].calcs_reversed[0].input.nkpoints > 1
        assert second[0] < first[0]  # thanks to the WAVECAR of the first


@pytest.mark.slow
def test_better_start_takes_fewer_steps_to_the_same_end(fake_vasp, rutile, squeezed):
    documents = [relax(RelaxMaker(), start)[0] for start in (squeezed, rutile)]
    assert [document.state for document in documents] == ["successful", "successful"]
    for document in documents:
        counts = document.calcs_reversed[0].output.num_electronic_steps
        assert counts == [len(steps) for steps in Oszicar(folder(document) / "OSZICAR.gz").electronic_steps]
        assert len(read(folder(document) / "OUTCAR.gz", index=":", format="vasp-out")) == len(counts)
        assert np.abs(document.output.forces).max() < 0.02
    worse, better = (document.output for document in documents)
    steps = [len(document.calcs_reversed[0].output.num_electronic_steps) for document in documents]
    assert steps[1] < steps[0]
    assert better.structure.volume == pytest.approx(worse.structure.volume, rel=0.01)
    assert better.energy == pytest.approx(worse.energy, abs=0.01)


def test_static_has_bands_and_says_that_it_is_synthetic(fake_vasp, rutile):
    (document,) = relax(StaticMaker(), rutile)
    assert document.state == "successful"
    assert len(document.calcs_reversed[0].output.num_electronic_steps) == 1
    assert document.output.bandgap > 1
    assert document.calcs_reversed[0].output.efermi is not None
    assert StructureMatcher(scale=False).fit(document.output.structure, rutile)
    with gzip.open(folder(document) / "OUTCAR.gz", "rt") as outcar:
        assert "synthetic" in outcar.readline()
    assert "synthetic" in document.model_dump()["calcs_reversed"][0]["vasp_version"]
    dos = Vasprun(folder(document) / "vasprun.xml.gz").complete_dos
    assert dos.get_gap() > 1
    assert set(dos.get_element_dos()) == set(rutile.elements)


def test_spin_and_hubbard_inputs_arrive(fake_vasp):
    iron = Structure.from_spacegroup(
        "R-3c", Lattice.hexagonal(5.07, 13.88), ["Fe", "O"], [[0, 0, 0.355], [0.306, 0, 0.25]]
    )
    iron = iron.get_primitive_structure()
    moments = [4.0, -4.0, -4.0, 4.0, *[0.0] * 6]
    iron = iron.get_sorted_structure()
    iron.add_site_property("magmom", moments)
    (document,) = relax(MPGGARelaxMaker(), iron)
    incar = Incar.from_file(folder(document) / "INCAR.gz")
    assert incar["MAGMOM"] == moments
    assert incar["LDAUU"] == [5.3, 0]
    assert document.run_type == "GGA+U"
    assert document.calcs_reversed[0].input.hubbards == {"Fe": 5.3, "O": 0}
    assert document.output.structure.site_properties["magmom"] == pytest.approx([0.9 * m for m in moments])
    assert document.input.magnetic_moments == moments


@pytest.mark.parametrize(
    ("fault", "correction", "electronic_steps"),
    [
        ("edddav", ("VaspErrorHandler", ["edddav"]), 3),
        ("scf_all nsw", ("UnconvergedErrorHandler", ["Unconverged"]), 200),
    ],
)
def test_known_error_is_corrected(fake_vasp, squeezed, monkeypatch, fault, correction, electronic_steps):
    monkeypatch.setenv("FAKE_VASP_FAULTS", fault)
    (document,) = relax(RelaxMaker(), squeezed)
    assert document.state == "successful"
    assert corrections(document) == [correction]
    assert Incar.from_file(folder(document) / "INCAR.gz")["ALGO"] != "Fast"
    (archived,) = archived_oszicars(folder(document))
    assert archived.split(b"F=")[0].count(b"DAV:") == electronic_steps


def test_two_handlers_archive_one_attempt(fake_vasp, squeezed, monkeypatch):
    monkeypatch.setenv("FAKE_VASP_FAULTS", "brions nsw")
    (document,) = relax(RelaxMaker(), squeezed)
    assert document.state == "successful"
    assert document.calcs_reversed[0].input.structure.volume > squeezed.volume  # it went on from its end
    assert [name for name, _ in corrections(document)] == ["VaspErrorHandler", "UnconvergedErrorHandler"]
    first, second = archived_oszicars(folder(document))
    assert first == second
    assert first.count(b"F=") == 3


def test_fault_in_every_attempt_fails_the_job(fake_vasp, squeezed, monkeypatch):
    monkeypatch.setenv("FAKE_VASP_FAULTS", "edddav:always")
    assert relax(RelaxMaker(run_vasp_kwargs={"max_errors": 2}), squeezed) == [None]
    assert len(archived_oszicars(only_folder(fake_vasp))) == 2


def test_unconverged_electrons_in_the_first_ionic_step(fake_vasp, squeezed):
    maker = RelaxMaker(write_additional_data={"fake_vasp:json": {"faults": ["scf"]}})
    (document,) = relax(maker, squeezed)
    counts = document.calcs_reversed[0].output.num_electronic_steps
    assert counts[0] == document.calcs_reversed[0].input.parameters["NELM"]
    assert max(counts[1:]) < 20
    assert corrections(document) == []
    assert document.additional_json["fake_vasp"] == {"faults": ["scf"]}


def test_crash_leaves_a_truncated_vasprun(fake_vasp, squeezed, monkeypatch):
    monkeypatch.setenv("FAKE_VASP_FAULTS", "crash")
    assert relax(RelaxMaker(), squeezed) == [None]
    path = only_folder(fake_vasp)
    assert not (path / "vasprun.xml").read_text().endswith("</modeling>\n")
    oszicar = Oszicar(path / "OSZICAR")
    assert len(oszicar.ionic_steps) == 2
    assert len(oszicar.electronic_steps) == 3
    (run,) = json.loads((path / "custodian.json").read_text())
    assert run["validator"]["@class"] == "VasprunXMLValidator"


def test_forces_and_stress_are_derivatives_and_large_for_a_bad_start(rutile):
    rutile.translate_sites([2], [0.0, 0.0, 0.25])
    atoms = rutile.to_ase_atoms(msonable=False)
    atoms.calc = IonicCrystal()
    assert np.linalg.norm(atoms.get_forces(), axis=1).max() > 10
    assert atoms.get_forces() == pytest.approx(calculate_numerical_forces(atoms, force_consistent=False), abs=1e-4)
    assert atoms.get_stress() == pytest.approx(calculate_numerical_stress(atoms, force_consistent=False), abs=1e-5)


@pytest.mark.parametrize(("incar", "message"), [({"IBRION": 0}, "IBRION = 0"), ({"ISIF": 7}, "ISIF = 7")])
def test_what_it_cannot_do_it_says(fake_vasp, rutile, incar, message):
    maker = RelaxMaker()
    maker.input_set_generator.user_incar_settings = incar
    assert relax(maker, rutile) == [None]
    assert message in (only_folder(fake_vasp) / "std_err.txt").read_text()
