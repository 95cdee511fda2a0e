"""The recorder in real runs of custodian through atomate2, with the test double of VASP.

Whatever the double prints in all of its attempts goes to one file outside the run, which is what the counts are held
against.
"""

import re
import shutil
from pathlib import Path

import pytest
from atomate2.vasp.flows.core import DoubleRelaxMaker
from atomate2.vasp.jobs.core import RelaxMaker
from custodian.custodian import ErrorHandler
from custodian.utils import backup
from jobflow import Flow, JobStore, run_locally
from maggma.stores import MemoryStore

from cryslator_flows.counting import count_steps, total_cost
from cryslator_flows.counting.ledger import LEDGER_NAME, ledger_cost
from cryslator_flows.engines.recorder import record_relax_maker
from tests.support.fake_vasp.runs import poll_often
from tests.support.ledgers import read_ledger
from tests.support.waiting import wait_for

ABOUT = ("oxides", "c1", "translated")


@pytest.fixture
def printed(fake_vasp, tmp_path, monkeypatch):
    """What all attempts print: put an executable before the double that copies its output."""
    log, folder = tmp_path / "printed.txt", tmp_path / "tee"
    folder.mkdir()
    for name in ("vasp_std", "vasp_gam"):
        path = folder / name
        path.write_text(f'#!/bin/bash\nset -o pipefail\n"{shutil.which(name)}" | tee -a "{log}"\n')
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return log


def steps_printed(log: Path) -> list[int]:
    steps = []
    for number in re.findall(r"^DAV:\s*(\d+) ", log.read_text(), flags=re.MULTILINE):
        steps = [*steps, 1] if number == "1" else [*steps[:-1], steps[-1] + 1]
    return steps


@pytest.fixture
def store():
    return JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})


def run(maker, structure, store):
    """Run in the current folder, each job in one of its own; returns uuids and the documents that were made."""
    flow = Flow([maker.make(structure)])
    responses = run_locally(flow, store=store, create_folders=True, log=False)
    uuids = [job.uuid for job, _ in flow.iterflow()]
    return uuids, [responses[uuid][1].output for uuid in uuids if uuid in responses]


def recorded(about=ABOUT, **run_vasp_kwargs):
    return record_relax_maker(poll_often(RelaxMaker(run_vasp_kwargs=run_vasp_kwargs)), *about)


def without_record(document):
    return document.model_copy(update={"additional_json": None})


@pytest.mark.slow
def test_document_brings_the_count_home(printed, rutile, store):
    uuids, (document,) = run(recorded(), rutile, store)
    cost = count_steps(document)
    assert cost.electronic_steps == steps_printed(printed)
    assert (cost.attempts, cost.discarded_electronic_steps, cost.converged, cost.synthetic) == (1, 0, True, True)
    assert cost.n_kpoints == document.calcs_reversed[0].input.nkpoints
    about = {"campaign": "oxides", "candidate_id": "c1", "start": "translated"}
    assert document.additional_json["cryslator"] == about
    (entry,) = read_ledger(Path(LEDGER_NAME))
    assert (entry.job_uuid, entry.ended, entry.error) == (uuids[0], True, None)
    for same in (without_record(document), store.get_output(uuids[0], load=True), entry.directory):
        assert count_steps(same).electronic_steps == cost.electronic_steps
    assert count_steps(entry.directory).synthetic


@pytest.mark.slow
def test_attempts_that_custodian_corrected_are_counted(printed, rutile, store, monkeypatch):
    monkeypatch.setenv("FAKE_VASP_FAULTS", "edddav")
    _, (document,) = run(recorded(), rutile, store)
    cost = count_steps(document)
    assert cost.electronic_steps == steps_printed(printed)
    assert (cost.attempts, cost.discarded_electronic_steps, cost.converged) == (2, 3, True)
    assert count_steps(without_record(document)).total_electronic_steps == cost.total_electronic_steps - 3


@pytest.mark.slow
def test_failed_job_leaves_its_ledger_line(printed, rutile, store, monkeypatch):
    monkeypatch.setenv("FAKE_VASP_FAULTS", "edddav:always")
    uuids, documents = run(recorded(max_errors=3), rutile, store)
    assert documents == []
    (entry,) = read_ledger(Path(LEDGER_NAME))
    assert (entry.job_uuid, entry.ended, entry.cost.converged) == (uuids[0], True, False)
    assert entry.cost.electronic_steps == steps_printed(printed)
    assert entry.cost.attempts == 3
    # A rerun deletes the folder.
    shutil.rmtree(entry.directory)
    monkeypatch.delenv("FAKE_VASP_FAULTS")
    run(recorded(), rutile, store)
    cost = ledger_cost(Path(LEDGER_NAME), *ABOUT)
    assert cost.electronic_steps == steps_printed(printed)
    assert (cost.attempts, cost.converged) == (4, True)


@pytest.mark.slow
def test_unconverged_job_without_a_document(printed, rutile, store, monkeypatch):
    """atomate2 raises by default when a relaxation has not converged."""
    monkeypatch.setenv("FAKE_VASP_FAULTS", "scf_all:always")
    _, documents = run(recorded(max_errors=2), rutile, store)
    assert documents == []
    cost = ledger_cost(Path(LEDGER_NAME), *ABOUT)
    assert cost.electronic_steps == steps_printed(printed)
    assert cost.attempts > 1
    assert cost.converged is False


def test_killed_run(printed, rutile, store, monkeypatch):
    monkeypatch.setenv("FAKE_VASP_FAULTS", "crash:always")
    _, documents = run(recorded(max_errors=2), rutile, store)
    assert documents == []
    cost = ledger_cost(Path(LEDGER_NAME), *ABOUT)
    assert cost.electronic_steps == steps_printed(printed)
    assert cost.converged is False


class StopAfterTwo(ErrorHandler):
    """A monitor that ends an attempt for good, one ionic step after all other monitors were asked."""

    is_monitor = True

    def check(self, directory="./"):
        path = Path(directory, "OSZICAR")
        if not path.is_file() or (steps := path.read_text().count("F=")) < 2:
            return False
        return wait_for(lambda: path.read_text().count("F=") > steps, 60)

    def correct(self, directory="./"):
        backup(["OSZICAR", "OUTCAR"], directory=directory)
        return {"errors": ["two"], "actions": None}


@pytest.mark.slow
def test_attempt_that_another_monitor_ended(fake_vasp, rutile, store, monkeypatch):
    monkeypatch.setenv("FAKE_VASP_SLEEP", "0.5")
    rutile.scale_lattice(0.9 * rutile.volume)
    _, documents = run(recorded(handlers=[StopAfterTwo()], custodian_kwargs={"monitor_freq": 1}), rutile, store)
    assert documents == []
    (entry,) = read_ledger(Path(LEDGER_NAME))
    assert (entry.ended, entry.cost.attempts) == (True, 1)
    lines = Path(entry.directory, "OSZICAR").read_text().splitlines()
    assert entry.cost.total_electronic_steps == sum(line.startswith("DAV:") for line in lines)
    assert entry.cost.ionic_steps > 2


@pytest.mark.slow
def test_double_relaxations(printed, rutile, store):
    """Two jobs of atomate2, and one job of custodian with files .relax1 and .relax2."""
    _, documents = run(record_relax_maker(poll_often(DoubleRelaxMaker()), *ABOUT), rutile, store)
    assert total_cost(documents).electronic_steps == steps_printed(printed)
    assert ledger_cost(Path(LEDGER_NAME), *ABOUT).electronic_steps == steps_printed(printed)
    printed.unlink()
    about = ("oxides", "c2", "unrelaxed")
    _, (document,) = run(recorded(about, job_type="double relaxation"), rutile, store)
    assert len(document.calcs_reversed) == 2
    cost = count_steps(document)
    assert cost.electronic_steps == steps_printed(printed)
    assert cost.attempts == 2
    assert count_steps(without_record(document)).electronic_steps == cost.electronic_steps
    assert ledger_cost(Path(LEDGER_NAME), *about).electronic_steps == cost.electronic_steps


@pytest.mark.slow
def test_stored_trajectory_hides_the_counts_of_the_document(printed, rutile, store):
    maker = RelaxMaker(task_document_kwargs={"store_trajectory": "partial"})
    _, (document,) = run(record_relax_maker(poll_often(maker), *ABOUT), rutile, store)
    bare = count_steps(without_record(document))
    assert (bare.electronic_steps, bare.ionic_steps) == (None, None)
    assert count_steps(document).electronic_steps == steps_printed(printed)
