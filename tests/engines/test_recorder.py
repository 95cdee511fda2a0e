"""What runs record while they run, and what the ledger tells when their folders are gone."""

import json
import multiprocessing
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from atomate2.forcefields.jobs import ForceFieldRelaxMaker
from atomate2.vasp.flows.core import DoubleRelaxMaker
from atomate2.vasp.jobs.core import RelaxMaker
from atomate2.vasp.run import DEFAULT_HANDLERS
from custodian.utils import backup
from custodian.vasp.handlers import PotimErrorHandler
from jobflow import CURRENT_JOB
from monty.json import MontyDecoder, MontyEncoder

from cryslator_flows.counting.ledger import LEDGER_NAME, LedgerEntry, append_entry, ledger_cost
from cryslator_flows.documents.candidates import Candidate, Translation
from cryslator_flows.documents.relaxations import RelaxationCost
from cryslator_flows.engines.handlers import add_handlers
from cryslator_flows.engines.recorder import FinalStepRecorder, StepRecorder, record_relax_maker
from cryslator_flows.jobs.compare import CompareMaker
from cryslator_flows.settings import SETTINGS
from tests.support.ledgers import read_ledger
from tests.support.vasp_files import oszicar, outcar, write, write_run

ABOUT = ("oxides", "c1", "translated")


def record_of(folder):
    return json.loads((folder / "cryslator_cost.json").read_text())


def steps_in(folder):
    return record_of(folder)["cost"]["electronic_steps"]


@pytest.fixture
def run(tmp_path):
    # A job that failed in another test is still the current one for jobflow.
    CURRENT_JOB.reset()
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def test_polls_and_ends(run):
    poll, end = StepRecorder(*ABOUT), FinalStepRecorder(*ABOUT)
    assert (poll.is_monitor, end.is_monitor) == (True, False)
    assert poll.check(str(run)) is False
    assert list(run.iterdir()) == list(run.parent.glob("*.jsonl")) == []
    write(run / "OSZICAR", oszicar([7, 4])[:-100])
    write(run / "OUTCAR", outcar([7], finished=False, relaxed=False))
    assert poll.check(str(run)) is poll.check(str(run)) is False
    (entry,) = read_ledger(run.parent / LEDGER_NAME)
    assert (entry.campaign, entry.candidate_id, entry.start) == ABOUT
    assert (entry.directory, entry.ended, entry.job_uuid, entry.error) == (str(run), False, None, None)
    assert entry.cost.electronic_steps == steps_in(run) == [7, 4]
    write_run(run, [7, 4, 3])
    poll.check(str(run))
    end.check(str(run))
    (entry,) = read_ledger(run.parent / LEDGER_NAME)
    assert (entry.ended, entry.cost.electronic_steps, entry.cost.attempts) == (True, [7, 4, 3], 1)
    # The poll that saw nothing new left no line.
    assert len((run.parent / LEDGER_NAME / "c1.jsonl").read_text().split()) == 3


def test_handlers_survive_the_way_to_the_worker():
    for recorder in (StepRecorder(*ABOUT), FinalStepRecorder(*ABOUT)):
        copy = json.loads(json.dumps(recorder, cls=MontyEncoder), cls=MontyDecoder)
        assert type(copy) is type(recorder)
        assert vars(copy) == vars(recorder)


def test_an_attempt_that_was_overwritten_stays_counted(run):
    """As with a handler that makes no archive, or a killed job that is started again in the same folder."""
    write(run / "OSZICAR", oszicar([7, 4])[:-100])
    write(run / "OUTCAR", outcar([7], finished=False))
    StepRecorder(*ABOUT).check(str(run))
    write_run(run, [7, 4, 3], began="12:30:00")
    FinalStepRecorder(*ABOUT).check(str(run))
    cost = RelaxationCost.model_validate(record_of(run)["cost"])
    assert (cost.electronic_steps, cost.attempts, cost.discarded_electronic_steps) == ([7, 4, 7, 4, 3], 2, 11)
    assert cost.converged


def test_an_attempt_is_not_counted_twice_when_it_is_archived(run):
    write_run(run, [7, 4])
    FinalStepRecorder(*ABOUT).check(str(run))
    backup(["OSZICAR", "OUTCAR"], directory=str(run))
    backup(["OSZICAR", "OUTCAR"], directory=str(run))
    write(run / "OSZICAR", oszicar([5])[:-100])
    write(run / "OUTCAR", "")
    StepRecorder(*ABOUT).check(str(run))
    # OUTCAR tells only now when the second attempt began.
    write_run(run, [5, 2], began="12:30:00")
    FinalStepRecorder(*ABOUT).check(str(run))
    assert steps_in(run) == [7, 4, 5, 2]
    assert record_of(run)["cost"]["attempts"] == 2


def test_trouble_is_written_down_and_stops_nothing(run):
    write_run(run, [7, 4])
    recorder = FinalStepRecorder(*ABOUT)
    recorder.check(str(run))
    (run / "error.1.tar.gz").write_bytes(b"damaged")
    assert recorder.check(str(run)) is False
    record = record_of(run)
    assert record["error"].startswith("CountingError: ")
    assert "error.1.tar.gz" in record["error"]
    assert record["cost"]["electronic_steps"] == [7, 4]
    # What could not be counted to the end is not a count.
    assert ledger_cost(run.parent / LEDGER_NAME, *ABOUT).electronic_steps is None
    (run / "error.1.tar.gz").unlink()
    recorder.check(str(run))
    assert ledger_cost(run.parent / LEDGER_NAME, *ABOUT).electronic_steps == [7, 4]


def test_a_ledger_that_cannot_be_written_stops_nothing(run, monkeypatch, caplog):
    monkeypatch.setattr(SETTINGS, "ledger", run / "OSZICAR" / "ledger")
    write_run(run, [7, 4])
    assert FinalStepRecorder(*ABOUT).check(str(run)) is False
    assert "were not recorded" in caplog.text


def test_a_rerun_adds_to_what_the_deleted_folder_spent(tmp_path, monkeypatch):
    ledger = tmp_path / "kept" / "ledger"
    monkeypatch.setattr(SETTINGS, "ledger", ledger)
    run = tmp_path / "run"
    for steps in ([7, 4], [9, 5, 3]):
        write_run(run, steps)
        FinalStepRecorder(*ABOUT).check(str(run))
        shutil.rmtree(run)
    assert len(read_ledger(ledger)) == 2
    cost = ledger_cost(ledger, *ABOUT)
    assert (cost.electronic_steps, cost.attempts, cost.n_kpoints) == ([7, 4, 9, 5, 3], 2, 4)
    assert ledger_cost(ledger, "oxides", "c1", "unrelaxed") is None
    assert ledger_cost(ledger, "other", "c1", "translated") is None


def test_the_ledger_lies_beside_the_folders(tmp_path):
    for name, steps in (("job_1", [7]), ("job_2", [4])):
        write_run(tmp_path / name, steps)
        FinalStepRecorder(*ABOUT).check(str(tmp_path / name))
    assert ledger_cost(tmp_path / LEDGER_NAME, *ABOUT).total_electronic_steps == 11


def test_counting_a_candidate_reads_its_own_lines_only(tmp_path, monkeypatch):
    names = ["c1", "c10", "c2", "../c1", "c/1"]
    for name in names:
        append_entry(tmp_path / "ledger", entry(name, [7]).model_copy(update={"candidate_id": name}))
    read, read_bytes = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or read_bytes(path))
    for name in names:
        assert ledger_cost(tmp_path / "ledger", "oxides", name, "translated").electronic_steps == [7]
    assert len(read) == len(set(read)) == len(names)
    assert {path.parent for path in read} == {tmp_path / "ledger"}
    assert ledger_cost(tmp_path / "ledger", "oxides", "c3", "translated") is None
    assert len(read) == len(names)


def entry(run_id, steps, minutes=0):
    cost = None if steps is None else RelaxationCost(engine="VASP", electronic_steps=steps, converged=True)
    time = datetime(2026, 1, 2, tzinfo=UTC) + timedelta(minutes=minutes)
    about = {"campaign": "oxides", "candidate_id": "c1", "start": "translated"}
    return LedgerEntry(run_id=run_id, **about, directory="/x", time=time, ended=True, cost=cost)


def test_last_state_of_each_run_counts(tmp_path):
    path = tmp_path / "ledger"
    for run_id, steps, minutes in (("b", [1], 0), ("a", [9], 1), ("b", [1, 2], 9), ("a", [9, 8], 5)):
        append_entry(path, entry(run_id, steps, minutes))
    assert [item.run_id for item in read_ledger(path)] == ["b", "a"]
    assert ledger_cost(path, *ABOUT).electronic_steps == [9, 8, 1, 2]
    append_entry(path, entry("c", None))
    assert ledger_cost(path, *ABOUT).electronic_steps is None


def compared(folder, monkeypatch, structure, document):
    """The relaxation from the translated start, as the comparison reads it."""
    monkeypatch.setattr(SETTINGS, "ledger", folder / "ledger")
    energies = {name: 0.0 for name in Translation.model_fields if name.startswith("formation")}
    about = {"candidate_id": "c1", "template_id": "t", "substitution": {}, "reduced_formula": "CaTiO3"}
    candidate = Candidate(**about, structure=structure, chemsys="Ca-O-Ti")
    translation = Translation.model_construct(candidate_id="c1", structure=structure, **energies)
    comparison = CompareMaker().make.original(
        CompareMaker(), candidate, translation, {"translated": [document]}, {"translated": ["u"]}, "oxides"
    )
    return comparison.relaxation("translated").cost


def task(structure, steps):
    calculation = {"output": {"num_electronic_steps": steps}, "vasp_version": "6.4.3"}
    return {"structure": structure, "output": {"energy": -1.0}, "calcs_reversed": [calculation], "state": "successful"}


@pytest.mark.parametrize(
    ("runs", "known", "expected"),
    [
        ([[9, 8], None], [4], None),
        ([None], [4], None),
        ([[9, 8], [4]], [4], [9, 8, 4]),
        ([[9, 8]], None, [9, 8]),
        ([[9]], [9, 8], [9, 8]),
    ],
)
def test_a_run_that_cannot_be_counted_leaves_the_sum_unknown(tmp_path, monkeypatch, perovskite, runs, known, expected):
    for number, steps in enumerate(runs):
        append_entry(tmp_path / "ledger", entry(str(number), steps, number))
    cost = compared(tmp_path, monkeypatch, perovskite, task(perovskite, known))
    assert (cost.electronic_steps, cost.engine, cost.converged) == (expected, "VASP", True)


def test_a_document_that_cannot_be_counted_says_nothing_of_convergence(tmp_path, monkeypatch, perovskite):
    append_entry(tmp_path / "ledger", entry("a", None))
    document = {"structure": perovskite, "output": {"energy": -1.0}}
    cost = compared(tmp_path, monkeypatch, perovskite, document)
    assert cost.converged is cost.electronic_steps is None
    assert compared(tmp_path, monkeypatch, perovskite, None).converged is False


@pytest.mark.parametrize(("end", "readable"), [(2, False), (40, False), (-2, False), (-1, True)])
def test_lines_that_a_kill_has_cut(tmp_path, caplog, end, readable):
    """The cut line is skipped, alone; a line that lacks only its end is whole."""
    path, other = tmp_path / "ledger", tmp_path / "other"
    append_entry(path, entry("a", [9]))
    append_entry(other, entry("b", [4]))
    file, cut = path / "c1.jsonl", other / "c1.jsonl"
    file.write_bytes(file.read_bytes() + cut.read_bytes()[:end])
    append_entry(path, entry("c", [3]))
    assert ledger_cost(path, *ABOUT).electronic_steps == ([9, 4, 3] if readable else None)
    assert ("line 4 is cut" in caplog.text) != readable


@pytest.mark.parametrize(
    ("end", "again"),
    [
        pytest.param(-2, True, id="the line says whose it is"),
        pytest.param(20, True, id="its run is known"),
        pytest.param(8, False, id="it may be of any run of the candidate"),
    ],
)
def test_a_cut_line_leaves_the_count_unknown_until_its_run_writes_again(tmp_path, end, again):
    path, other = tmp_path / "ledger", tmp_path / "other"
    append_entry(str(path), entry("a", [9]))
    append_entry(other, entry("a", [9, 8]))
    (file,), (cut,) = path.iterdir(), other.iterdir()
    file.write_bytes(file.read_bytes() + cut.read_bytes()[1:end])
    # Not the 9 of the line before.
    assert ledger_cost(str(path), *ABOUT).electronic_steps is None
    append_entry(path, entry("another", [4]).model_copy(update={"candidate_id": "another"}))
    assert ledger_cost(path, ABOUT[0], "another", ABOUT[2]).electronic_steps == [4]
    append_entry(path, entry("a", [9, 8]))
    assert ledger_cost(path, *ABOUT).electronic_steps == ([9, 8] if again else None)


def test_no_ledger(tmp_path):
    for path in (tmp_path, tmp_path / "ledger"):
        assert ledger_cost(path, *ABOUT) is None


def append_many(path, name):
    for number in range(200):
        append_entry(path, entry(f"{name}-{number}", [number] * (1 + number % 50)))


def test_many_processes_append_at_once(tmp_path):
    path = tmp_path / "ledger"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=append_many, args=(path, name)) for name in "abcd"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len(read_ledger(path)) == 800


def test_the_ledger_can_be_set_by_the_environment(tmp_path):
    code = "from cryslator_flows.settings import SETTINGS; print(SETTINGS.ledger)"
    environment = {"CRYSLATOR_LEDGER": str(tmp_path / "ledger"), "PATH": ""}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == str(tmp_path / "ledger")


def kinds(maker):
    return [type(handler) for handler in maker.run_vasp_kwargs["handlers"]]


def test_every_vasp_maker_gets_recorders_and_keeps_its_own():
    first = RelaxMaker(run_vasp_kwargs={"handlers": [PotimErrorHandler(dE_threshold=7)], "max_errors": 3})
    maker = DoubleRelaxMaker(relax_maker1=first, relax_maker2=RelaxMaker(write_additional_data={"mine:json": {"a": 1}}))
    recorded = record_relax_maker(maker, *ABOUT)
    assert kinds(recorded.relax_maker1) == [StepRecorder, FinalStepRecorder, PotimErrorHandler]
    assert kinds(recorded.relax_maker2) == [StepRecorder, FinalStepRecorder, *map(type, DEFAULT_HANDLERS)]
    assert recorded.relax_maker1.run_vasp_kwargs["max_errors"] == 3
    assert recorded.relax_maker1.run_vasp_kwargs["handlers"][2].dE_threshold == 7
    provenance = {"campaign": "oxides", "candidate_id": "c1", "start": "translated"}
    assert recorded.relax_maker1.write_additional_data == {"cryslator:json": provenance}
    assert recorded.relax_maker2.write_additional_data == {"mine:json": {"a": 1}, "cryslator:json": provenance}
    assert vars(recorded.relax_maker1.run_vasp_kwargs["handlers"][0]) == provenance
    # The maker that was given is as before.
    assert len(maker.relax_maker1.run_vasp_kwargs["handlers"]) == 1
    assert maker.relax_maker2.run_vasp_kwargs == {}


def test_a_single_vasp_maker():
    maker = add_handlers(RelaxMaker(), [PotimErrorHandler()])
    assert kinds(maker) == [PotimErrorHandler, *map(type, DEFAULT_HANDLERS)]


def test_makers_without_vasp_are_left_alone():
    maker = ForceFieldRelaxMaker(force_field_name="CHGNet")
    assert record_relax_maker(maker, *ABOUT) is maker
