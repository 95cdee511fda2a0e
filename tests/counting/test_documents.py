"""Steps from task documents and records of all attempts, and how costs add up."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from atomate2.forcefields.jobs import ForceFieldRelaxMaker
from chgnet.model.dynamics import CHGNetCalculator
from jobflow import run_locally

from cryslator_flows.counting import count_steps, total_cost
from cryslator_flows.errors import CountingError
from tests.counting.test_counting import run_attempts
from tests.support.vasp_files import write_run


@pytest.fixture
def count_evaluations(monkeypatch):
    calls = []
    original = CHGNetCalculator.calculate

    def counted(self, *args, **kwargs):
        calls.append(1)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(CHGNetCalculator, "calculate", counted)
    return calls


@pytest.mark.parametrize("steps", [300, 2, 1])
def test_ionic_steps_are_energy_evaluations(perovskite, tmp_path, count_evaluations, steps):
    """CHGNet's own calls are counted beside the document; also when cut short, and for a static calculation."""
    perovskite.scale_lattice(perovskite.volume * 1.1)
    maker = ForceFieldRelaxMaker(
        force_field_name="CHGNet", relax_kwargs={"fmax": 0.05}, optimizer_kwargs={"optimizer": "BFGS"}, steps=steps
    )
    job = maker.make(perovskite)
    document = run_locally(job, create_folders=True, root_dir=tmp_path, log=False, ensure_success=True)[job.uuid][1]
    cost = count_steps(document.output)
    # The optimizer counts from the step after the first evaluation.
    assert cost.ionic_steps == len(count_evaluations)
    assert cost.electronic_steps is None
    assert cost.total_electronic_steps is None
    assert cost.engine == "CHGNet"
    assert cost.converged == (steps != 2)
    assert cost.wall_time > 0


def vasp_document(*counts, state="successful", kpoints=(), **more):
    kpoints = kpoints or [4] * len(counts)
    calculations = [
        SimpleNamespace(
            output=SimpleNamespace(num_electronic_steps=count),
            input=SimpleNamespace(nkpoints=number),
            vasp_version="6.4.3",
        )
        for count, number in zip(counts, kpoints, strict=True)
    ]
    return SimpleNamespace(
        calcs_reversed=calculations[::-1], state=SimpleNamespace(value=state), dir_name="x", **more
    )  # fmt: skip


def test_vasp_documents_sum_over_their_calculations():
    cost = count_steps(vasp_document([14, 5], [7, 5, 3]))
    assert cost.electronic_steps == [14, 5, 7, 5, 3]
    assert (cost.ionic_steps, cost.total_electronic_steps, cost.n_kpoints) == (5, 34, 4)
    assert cost.attempts is cost.discarded_electronic_steps is None
    assert cost.converged
    assert count_steps(vasp_document([3], state="failed")).converged is False
    assert count_steps(vasp_document([3], [4], kpoints=[4, 8])).n_kpoints is None
    assert count_steps(vasp_document([3], vasp_version="6.4.3-synthetic")).synthetic


def test_missing_counts_are_unknown_not_zero():
    for cost in (count_steps(vasp_document([14, 5], None)), count_steps(vasp_document([14, 5], []))):
        assert cost.electronic_steps is cost.ionic_steps is None
    assert count_steps(vasp_document([])).converged is False
    assert total_cost([vasp_document([4]), vasp_document(None)]).total_electronic_steps is None


def test_documents_from_a_store_are_dictionaries():
    document = {
        "calcs_reversed": [{"output": {"num_electronic_steps": [3]}}, {"output": {"num_electronic_steps": [9, 5]}}],
        "state": "successful",
        "additional_json": {"cryslator_guard": {"reason": "forces"}},
    }
    cost = count_steps(document)
    assert (cost.electronic_steps, cost.guard, cost.n_kpoints, cost.converged) == ([9, 5, 3], "forces", None, True)


def recorded(folder: Path, **more) -> dict:
    return {"cryslator_cost": {"cost": count_steps(folder).model_dump(mode="json"), "error": None, **more}}


def test_the_record_of_all_attempts_is_preferred(tmp_path):
    run_attempts(tmp_path, [[7, 2], [3]], [2, 1])
    document = vasp_document([3], additional_json=recorded(tmp_path))
    cost = count_steps(document)
    assert (cost.electronic_steps, cost.attempts, cost.discarded_electronic_steps) == ([7, 2, 3], 2, 9)
    assert (cost.dir_name, cost.converged) == ("x", True)
    assert count_steps(vasp_document([3], state="failed", additional_json=recorded(tmp_path))).converged is False
    # Also where the document itself knows no counts, as with a stored trajectory.
    assert count_steps(vasp_document(None, additional_json=recorded(tmp_path))).electronic_steps == [7, 2, 3]
    assert total_cost([document, document]).discarded_electronic_steps == 18


def test_a_record_with_trouble_leaves_counts_unknown(tmp_path):
    write_run(tmp_path, [3])
    cost = count_steps(vasp_document([3], additional_json=recorded(tmp_path, error="CountingError: damaged")))
    assert (cost.electronic_steps, cost.ionic_steps, cost.converged) == (None, None, True)


def test_a_record_of_another_run_is_refused(tmp_path):
    write_run(tmp_path, [3])
    with pytest.raises(CountingError, match="reports 3 electronic steps in all attempts, calcs_reversed 14"):
        count_steps(vasp_document([14], additional_json=recorded(tmp_path)))


def test_parts_are_summed():
    cost = total_cost([vasp_document([4, 3]), vasp_document([5])])
    assert (cost.ionic_steps, cost.total_electronic_steps, cost.n_kpoints) == (3, 12, 4)
    assert total_cost([vasp_document([4]), vasp_document([5], kpoints=[9])]).n_kpoints is None


def moving_document(steps, nsw, converged):
    calculation = {
        "output": {"num_electronic_steps": steps},
        "input": {"incar": {"NSW": nsw} if nsw else {"ALGO": "Fast"}},
        "has_vasp_completed": converged,
    }
    return {"calcs_reversed": [calculation], "dir_name": "x"}


@pytest.mark.parametrize(
    ("relaxed", "static", "converged"),
    [(True, True, True), (False, True, False), (True, False, False), (None, True, None), (None, False, False)],
)
def test_relaxation_and_static_converge_together(relaxed, static, converged):
    documents = [moving_document([9], 99, False), moving_document([5], 99, relaxed), moving_document([3], 0, static)]
    cost = total_cost(documents)
    assert (cost.total_electronic_steps, cost.converged) == (17, converged)


def old_document(*counts, **more):
    """As atomate 1, the Materials Project and earlier emmet have it."""
    output = {"ionic_steps": [{"electronic_steps": [{}] * count} for count in counts]}
    return {"calcs_reversed": [{"output": output, **more}], "dir_name": "x"}


def test_documents_that_hold_the_steps_themselves():
    cost = count_steps({**old_document(3, 2), "state": "successful"})
    assert (cost.ionic_steps, cost.electronic_steps, cost.converged) == (2, [3, 2], True)
    assert count_steps(old_document(3, 0, has_vasp_completed=True)).electronic_steps is None


@pytest.mark.parametrize(
    ("completed", "converged"), [(True, True), (False, False), ("successful", True), ("failed", False), (None, None)]
)
def test_documents_without_a_state(completed, converged):
    assert count_steps(old_document(3, has_vasp_completed=completed)).converged is converged
    assert count_steps({**old_document(3, has_vasp_completed=True), "state": "failed"}).converged is False


def test_a_record_knows_whether_it_converged(tmp_path):
    write_run(tmp_path, [3])
    assert count_steps({**old_document(3), "additional_json": recorded(tmp_path)}).converged is True


def test_core_hours_need_time_and_cores():
    assert count_steps({**old_document(3), "run_stats": {"overall": {"elapsed_time": 9.0}}}).core_hours is None
    stats = {"overall": {"elapsed_time": 90.0, "cores": 16}}
    assert count_steps({**old_document(3), "run_stats": stats}).core_hours == pytest.approx(0.4)


def test_run_stats_of_zeros_are_no_time():
    assert count_steps({**old_document(3), "run_stats": {"overall": {"elapsed_time": 0.0}}}).wall_time is None
    assert count_steps({**old_document(3), "run_stats": {"overall": {"elapsed_time": 7.5}}}).wall_time == 7.5


def test_a_potential_whose_most_steps_are_unknown():
    document = {"ase_calculator_name": "CHGNet", "output": {"n_steps": 5}, "input": {}}
    cost = count_steps(document)
    assert cost.ionic_steps is cost.converged is None
    assert count_steps({**document, "input": {"steps": 100}, "state": "failed"}).ionic_steps == 4


def test_other_documents_are_refused():
    with pytest.raises(CountingError, match="SimpleNamespace without a calculation of VASP"):
        count_steps(SimpleNamespace(structure=None))
    with pytest.raises(CountingError, match="dict without a calculation of VASP"):
        count_steps({"calcs_reversed": [], "state": "successful"})
    molecule = {"qchem_version": "6", "input": {"molecule": {}}, "output": {"scf_energy": -1.0}}
    with pytest.raises(CountingError, match="without a calculation of VASP"):
        count_steps({"calcs_reversed": [molecule], "state": "successful"})
