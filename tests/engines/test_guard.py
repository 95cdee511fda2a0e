"""The guard in real custodian runs of the test double of VASP."""

import gzip
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from atomate2.forcefields.jobs import ForceFieldRelaxMaker
from atomate2.vasp.flows.core import DoubleRelaxMaker
from atomate2.vasp.flows.mp import MPMetaGGADoubleRelaxStaticMaker
from atomate2.vasp.jobs.core import RelaxMaker
from atomate2.vasp.run import DEFAULT_HANDLERS
from custodian.vasp.handlers import VaspErrorHandler
from monty.json import MontyDecoder, MontyEncoder
from pymatgen.core import Structure
from pymatgen.core.structure_matcher import StructureMatcher
from pymatgen.io.vasp import Incar, Poscar

from cryslator_flows.engines.guard import (
    GUARD_FILE,
    TranslatedStartGuard,
    guard_relax_maker,
    look_often,
    read_first_step,
)
from cryslator_flows.engines.vasp_settings import GuardLimits
from cryslator_flows.errors import StructureError
from tests.support.fake_vasp.runs import archived_oszicars, corrections, folder, relax

WATCHED = {"custodian_kwargs": {"monitor_freq": 1}}
UNWATCHED = {"custodian_kwargs": {"monitor_freq": 10**6}}


@pytest.fixture
def unrelaxed(rutile) -> Structure:
    rutile.scale_lattice(0.93 * rutile.volume)
    return rutile


@pytest.fixture
def good(unrelaxed) -> Structure:
    """Oxygen first, as POSCAR will have it: elements in another order than in the unrelaxed structure."""
    structure = Structure.from_sites(sorted(unrelaxed, key=lambda site: site.specie.symbol))
    structure.scale_lattice(1.04 * unrelaxed.volume)
    return structure


@pytest.fixture
def bad(good) -> Structure:
    """An oxygen too near to a titanium."""
    structure = good.copy()
    structure.scale_lattice(good.volume / 1.04)
    structure.translate_sites([0], [0.0, 0.0, 0.25])
    return structure


def steps(document) -> list[int]:
    return document.calcs_reversed[0].output.num_electronic_steps


def additional(document) -> dict:
    return document.additional_json.get("cryslator_guard", {})


@pytest.mark.slow
def test_bad_start_goes_back_to_the_unrelaxed_structure_once(fake_vasp, unrelaxed, bad, monkeypatch):
    monkeypatch.setenv("FAKE_VASP_SLEEP", "0.5")
    maker = DoubleRelaxMaker.from_relax_maker(RelaxMaker(run_vasp_kwargs=WATCHED))
    # Limits that the unrelaxed structure and the second relaxation would not pass either.
    first, second = relax(guard_relax_maker(maker, unrelaxed, GuardLimits(max_pressure=1e-6)), bad)
    assert [first.state, second.state] == ["successful", "successful"]
    ((handler, reasons),) = corrections(first)
    assert handler == "TranslatedStartGuard"
    assert [reason.split()[:2] for reason in reasons] == [
        ["largest", "force"],
        ["pressure", next(r.split()[1] for r in reasons[1:])],
    ]
    assert corrections(second) == []
    assert additional(second) == {}
    # Why, in the document and in the directory.
    record = additional(first)
    assert record["reason"] == "; ".join(reasons)
    assert record["max_force"] > 10
    assert record["archive"] == "error.1.tar.gz"
    assert json.loads((folder(first) / GUARD_FILE).read_text()) == record
    # The stopped attempt is archived with the translated structure, and was short.
    (oszicar,) = archived_oszicars(folder(first))
    assert 1 <= oszicar.count(b"F=") < 8
    with tarfile.open(folder(first) / "error.1.tar.gz") as files:
        archived = Poscar.from_str(files.extractfile("error.1/POSCAR").read().decode()).structure
    assert StructureMatcher(scale=False).fit(archived, bad)
    # The rest is an ordinary relaxation of the unrelaxed structure.
    start = first.calcs_reversed[0].input.structure
    assert start.lattice == unrelaxed.lattice
    # In the order of the first POSCAR; one atom alone was elsewhere there.
    assert start.species == archived.species
    assert np.isclose(start.frac_coords, archived.frac_coords).all(axis=1).sum() == len(start) - 1
    assert StructureMatcher(scale=False).get_rms_dist(start, unrelaxed) == pytest.approx((0, 0), abs=1e-6)
    for name in ("INCAR", "KPOINTS", "POTCAR"):
        before, after = (gzip.decompress((folder(first) / f"{name}{end}.gz").read_bytes()) for end in (".orig", ""))
        assert after == before
    monkeypatch.setenv("FAKE_VASP_SLEEP", "0")
    (reference,) = relax(RelaxMaker(run_vasp_kwargs=UNWATCHED), unrelaxed)
    assert first.output.energy == pytest.approx(reference.output.energy, abs=1e-6)
    assert (
        first.calcs_reversed[0].output.num_electronic_steps == reference.calcs_reversed[0].output.num_electronic_steps
    )


def test_good_start_is_left_alone(fake_vasp, unrelaxed, good, monkeypatch):
    monkeypatch.setenv("FAKE_VASP_SLEEP", "0.2")
    (document,) = relax(guard_relax_maker(RelaxMaker(run_vasp_kwargs=WATCHED), unrelaxed), good)
    assert document.state == "successful"
    assert corrections(document) == []
    assert additional(document) == {}
    assert archived_oszicars(folder(document)) == []
    assert document.calcs_reversed[0].input.structure.volume == pytest.approx(good.volume)


@pytest.mark.slow
def test_electronic_trouble_in_the_first_step(fake_vasp, unrelaxed, good):
    faults = {"fake_vasp:json": {"faults": ["scf"], "sleep": 0.5}}
    maker = RelaxMaker(run_vasp_kwargs=WATCHED, write_additional_data=faults)
    (document,) = relax(guard_relax_maker(maker, unrelaxed), good)
    assert corrections(document) == [("TranslatedStartGuard", ["electrons not converged in NELM = 200 steps"])]
    assert archived_oszicars(folder(document))[0].count(b"DAV:") >= 200
    assert document.calcs_reversed[0].input.structure.volume == pytest.approx(unrelaxed.volume)
    assert max(steps(document)) < 20


def test_run_that_ended_unconverged_is_judged_by_the_guard_alone(fake_vasp, unrelaxed, bad, monkeypatch):
    monkeypatch.setenv("FAKE_VASP_FAULTS", "brions nsw")  # two other handlers would correct it
    (document,) = relax(guard_relax_maker(RelaxMaker(run_vasp_kwargs=UNWATCHED), unrelaxed), bad)
    assert document.state == "successful"
    assert [name for name, _ in corrections(document)] == ["TranslatedStartGuard"]
    assert archived_oszicars(folder(document))[0].count(b"F=") == 3
    assert document.calcs_reversed[0].input.structure.lattice == unrelaxed.lattice
    assert "POTIM" not in Incar.from_file(folder(document) / "INCAR.gz")


def test_run_that_converged_before_anyone_looked_is_kept(fake_vasp, unrelaxed, bad):
    (document,) = relax(guard_relax_maker(RelaxMaker(run_vasp_kwargs=UNWATCHED), unrelaxed), bad)
    assert document.state == "successful"
    assert corrections(document) == []
    assert additional(document) == {}


def test_later_attempts_are_ignored(fake_vasp, unrelaxed, bad, monkeypatch):
    monkeypatch.setenv("FAKE_VASP_FAULTS", "edddav")
    monkeypatch.setenv("FAKE_VASP_SLEEP", "0.2")
    (document,) = relax(guard_relax_maker(RelaxMaker(run_vasp_kwargs=WATCHED), unrelaxed), bad)
    assert document.state == "successful"
    assert corrections(document) == [("VaspErrorHandler", ["edddav"])]
    assert additional(document) == {}


@pytest.fixture
def stopped(fake_vasp, bad, unrelaxed) -> Path:
    """A directory in which VASP stopped after three ionic steps from the bad start."""
    maker = RelaxMaker(
        run_vasp_kwargs={**UNWATCHED, "handlers": ()}, stop_children_kwargs={"handle_unsuccessful": False}
    )
    maker.write_additional_data = {"fake_vasp:json": {"faults": ["nsw"]}}
    (document,) = relax(maker, bad)
    path = folder(document)
    for packed in path.glob("*.gz"):
        if not packed.name.startswith("custodian"):
            packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    assert TranslatedStartGuard(unrelaxed).check(str(path))
    return path


def test_what_makes_the_guard_stand_back(stopped, unrelaxed):
    guard = TranslatedStartGuard(unrelaxed)
    correction = json.dumps([{"corrections": [{"errors": ["x"]}]}])
    for name in (GUARD_FILE, "error.1.tar.gz", "prev_run.1.tar.gz", "OUTCAR.relax1", "custodian.json"):
        (stopped / name).write_text(correction)
        assert not guard.check(str(stopped)), name
        (stopped / name).unlink()
    incar = (stopped / "INCAR").read_text()
    for other in ("NSW = 0", "IBRION = 0"):
        (stopped / "INCAR").write_text(incar.replace(other.split("=")[0] + "= ", f"{other}  ! "))
        assert not guard.check(str(stopped)), other
    (stopped / "INCAR").write_text(incar)
    assert not TranslatedStartGuard(unrelaxed, {"max_force": 1000, "max_pressure": 1000}).check(str(stopped))
    with (stopped / "OUTCAR").open("a") as outcar:
        outcar.write(" reached required accuracy - stopping structural energy minimisation\n")
    assert not guard.check(str(stopped))


def test_correction_takes_away_what_the_attempt_left(stopped, unrelaxed):
    for name in ("WAVECAR", "CHGCAR"):
        (stopped / name).write_text("of the translated structure")
    kept = {name: (stopped / name).read_text() for name in ("INCAR", "KPOINTS", "POTCAR")}
    guard = TranslatedStartGuard(unrelaxed.copy().add_oxidation_state_by_element({"Ti": 4, "O": -2}))
    assert guard.check(str(stopped))
    guard.correct(str(stopped))
    assert not guard.check(str(stopped))
    assert not any((stopped / name).exists() for name in ("WAVECAR", "CHGCAR", "CONTCAR", "OUTCAR", "vasprun.xml"))
    assert kept == {name: (stopped / name).read_text() for name in kept}
    assert Poscar.from_file(stopped / "POSCAR").structure.lattice == unrelaxed.lattice
    (oszicar,) = archived_oszicars(stopped)
    assert oszicar.count(b"F=") == 3


def test_a_step_is_read_once_it_is_complete(stopped, unrelaxed):
    text = (stopped / "OUTCAR").read_text()
    whole = read_first_step(stopped)
    assert whole.max_force > 10
    assert whole.electronic_steps == 12
    seen = []
    for length in [*range(0, len(text), 701), len(text)]:
        (stopped / "OUTCAR").write_text(text[:length])
        seen.append(read_first_step(stopped))
    complete = next(i for i, step in enumerate(seen) if step is not None)
    assert complete > 3
    assert all(step == whole for step in seen[complete:])
    (stopped / "OSZICAR").unlink()
    assert read_first_step(stopped) is None


def test_pressure_is_external_and_only_where_the_cell_relaxes(stopped):
    incar = (stopped / "INCAR").read_text()
    pressure = read_first_step(stopped).pressure
    (stopped / "INCAR").write_text(incar + "PSTRESS = 100\n")
    assert read_first_step(stopped).pressure == pytest.approx(pressure - 10)
    (stopped / "INCAR").write_text(incar.replace("ISIF = 3", "ISIF = 2"))
    assert read_first_step(stopped).pressure is None


def test_forces_are_watched_where_vasp_writes_no_stress(stopped, unrelaxed):
    (stopped / "INCAR").write_text((stopped / "INCAR").read_text().replace("ISIF = 3", "ISIF = 0"))
    lines = (stopped / "OUTCAR").read_text().splitlines(keepends=True)
    (stopped / "OUTCAR").write_text("".join(line for line in lines if "in kB" not in line))
    step = read_first_step(stopped)
    assert step.pressure is None
    assert any("largest force" in fault for fault in step.faults(GuardLimits()))


def test_structure_of_another_crystal_is_an_error(stopped, perovskite):
    with pytest.raises(StructureError, match=r"POSCAR holds Ti2 O4, the unrelaxed structure of its guard Ca1 Ti1 O3"):
        TranslatedStartGuard(perovskite).check(str(stopped))


def handlers(job) -> list[str]:
    return [type(handler).__name__ for handler in job.maker.run_vasp_kwargs.get("handlers", ())]


DEFAULTS = [type(handler).__name__ for handler in DEFAULT_HANDLERS]


def test_only_the_first_relaxation_of_a_flow_is_guarded(unrelaxed, good):
    maker = MPMetaGGADoubleRelaxStaticMaker()
    flow = guard_relax_maker(maker, unrelaxed).make(good)
    relaxations, static = flow.jobs
    first, second = relaxations.jobs
    assert handlers(first) == ["TranslatedStartGuard", *DEFAULTS]
    assert handlers(second) == handlers(static) == []
    first, second = maker.make(good).jobs[0].jobs
    assert handlers(first) == handlers(second) == []


def test_handlers_of_the_maker_stay(unrelaxed, good):
    maker = RelaxMaker(run_vasp_kwargs={"handlers": [VaspErrorHandler()], "max_errors": 7})
    first, second = (
        guard_relax_maker(DoubleRelaxMaker(relax_maker1=maker, relax_maker2=maker), unrelaxed).make(good).jobs
    )
    assert handlers(first) == ["TranslatedStartGuard", "VaspErrorHandler"]
    assert first.maker.run_vasp_kwargs["max_errors"] == 7
    assert handlers(second) == ["VaspErrorHandler"]
    (only,) = guard_relax_maker(DoubleRelaxMaker(relax_maker1=None, relax_maker2=maker), unrelaxed).make(good).jobs
    assert handlers(only) == ["TranslatedStartGuard", "VaspErrorHandler"]


def test_makers_of_other_codes_stay_as_they_are(unrelaxed):
    maker = ForceFieldRelaxMaker(force_field_name="CHGNet")
    assert guard_relax_maker(maker, unrelaxed) is maker


def test_without_custodian_there_is_no_guard(unrelaxed, good):
    with pytest.raises(ValueError, match="without custodian"):
        guard_relax_maker(RelaxMaker(run_vasp_kwargs={"job_type": "direct"}), unrelaxed).make(good)


def test_guard_survives_serialisation(unrelaxed):
    maker = MontyDecoder().decode(
        MontyEncoder().encode(guard_relax_maker(RelaxMaker(), unrelaxed, GuardLimits(max_force=3)))
    )
    job = MontyDecoder().decode(MontyEncoder().encode(maker.make(unrelaxed)))
    guard = job.maker.run_vasp_kwargs["handlers"][0]
    assert guard.unrelaxed == unrelaxed
    assert guard.limits == GuardLimits(max_force=3)
    assert guard.is_monitor


def test_look_often_keeps_what_the_maker_says():
    maker = DoubleRelaxMaker(
        relax_maker1=RelaxMaker(run_vasp_kwargs={"custodian_kwargs": {"polling_time_step": 5}}),
        relax_maker2=RelaxMaker(run_vasp_kwargs={"custodian_kwargs": {"monitor_freq": 9}}),
    )
    often = look_often(maker)
    assert often.relax_maker1.run_vasp_kwargs == {"custodian_kwargs": {"monitor_freq": 3, "polling_time_step": 5}}
    assert often.relax_maker2.run_vasp_kwargs == {"custodian_kwargs": {"monitor_freq": 9}}


@pytest.mark.parametrize(
    ("limits", "message"), [({"max_force": 0}, "greater than 0"), ({"max_forces": 1}, "did you mean 'max_force'")]
)
def test_limits_are_checked(limits, message):
    with pytest.raises(ValueError, match=message):
        GuardLimits(**limits)
