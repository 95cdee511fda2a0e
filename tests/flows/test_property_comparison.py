import pytest
from atomate2.vasp.flows.core import DoubleRelaxMaker
from atomate2.vasp.jobs.core import StaticMaker
from jobflow import Flow, JobStore, Response, job, run_locally
from maggma.stores import MemoryStore

from cryslator_flows.analysis.property_errors import broaden_levels
from cryslator_flows.documents.properties import DensityOfStates, ElectronicProperties
from cryslator_flows.flows.property_comparison import PropertyComparisonFlowMaker
from cryslator_flows.jobs.compare_properties import ComparePropertiesMaker
from tests.flows.makers import FormulaStaticMaker


def scaled(structure, factor):
    other = structure.copy()
    other.scale_lattice(structure.volume * factor)
    return other


def run(flow, folder):
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    responses = run_locally(flow, store=store, create_folders=True, root_dir=folder, log=False)
    return responses[flow.output.uuid][1].output


def test_errors_of_each_start(rutile, tmp_path):
    structures = {"unrelaxed": scaled(rutile, 1.2), "translated": scaled(rutile, 1.1), "relaxed": rutile}
    flow = PropertyComparisonFlowMaker(static_maker=FormulaStaticMaker()).make("id", "TiO2", structures)
    assert {job.name for job, _ in flow.iterflow()} == {
        "formula static TiO2 unrelaxed", "formula static TiO2 translated", "formula static TiO2 relaxed",
        "compare properties TiO2",
    }  # fmt: skip
    found = run(flow, tmp_path)
    volume = rutile.volume / 6
    assert (found.candidate_id, found.reduced_formula, found.missing) == ("id", "TiO2", {})
    for start, excess in (("unrelaxed", 0.2), ("translated", 0.1)):
        errors = found.errors[start]
        assert errors.volume == pytest.approx(excess)
        assert errors.band_gap == pytest.approx(excess * volume / 10)
        assert errors.efermi == pytest.approx(-excess * volume / 5)
    assert 0 < found.errors["translated"].dos_distance < found.errors["unrelaxed"].dos_distance
    assert set(found.errors) == {"unrelaxed", "translated"}
    assert found.synthetic


def test_failed_static_leaves_the_geometry(rutile, tmp_path):
    structures = {"unrelaxed": scaled(rutile, 1.2), "translated": scaled(rutile, 1.1), "relaxed": rutile}
    maker = FormulaStaticMaker(fails_above=rutile.volume * 1.15)
    found = run(PropertyComparisonFlowMaker(static_maker=maker).make("id", "TiO2", structures), tmp_path)
    assert found.errors["unrelaxed"].volume == pytest.approx(0.2)
    assert found.errors["unrelaxed"].band_gap is found.errors["unrelaxed"].dos_distance is None
    assert found.errors["translated"].band_gap > 0
    assert found.missing == {"unrelaxed": "its static calculation failed"}


@job
def relax(structure, fails):
    if fails:
        raise RuntimeError("no convergence")
    return Response(output={"structure": structure})


@pytest.mark.parametrize("fails", [False, True])
def test_structures_of_other_jobs(rutile, tmp_path, fails):
    """The relaxed structure may come from a relaxation, which may fail: then nothing is compared, and it says why."""
    relaxation = relax(rutile, fails)
    structures = {"unrelaxed": scaled(rutile, 1.2), "relaxed": relaxation.output["structure"]}
    flow = PropertyComparisonFlowMaker(static_maker=FormulaStaticMaker()).make("id", "TiO2", structures)
    found = run(Flow([relaxation, flow], output=flow.output), tmp_path)
    if fails:
        assert found.errors == {}
        assert found.missing == {"relaxed": "no such structure: its job failed"}
        assert set(found.electronic) == {"unrelaxed"}
    else:
        assert found.errors["unrelaxed"].volume == pytest.approx(0.2)


def test_other_atoms_are_told(rutile, perovskite, tmp_path):
    structures = {"unrelaxed": perovskite, "translated": rutile, "relaxed": rutile}
    flow = PropertyComparisonFlowMaker(static_maker=FormulaStaticMaker()).make("id", "TiO2", structures)
    found = run(flow, tmp_path)
    assert set(found.errors) == {"translated"}
    assert "other atoms" in found.missing["unrelaxed"]


def test_incomparable_electrons_leave_the_geometry(rutile, tmp_path):
    """A density of states from another version's grid, say."""
    document = ElectronicProperties(
        engine="x", band_gap=1, efermi=1, dos=DensityOfStates(energies=[0, 1], densities=[1, 1])
    )
    documents = {"unrelaxed": document, "relaxed": document.model_copy(update={"dos": broaden_levels([-1], [2], 1)})}
    structures = {"unrelaxed": scaled(rutile, 1.2), "relaxed": rutile}
    compare = ComparePropertiesMaker().make("id", "TiO2", structures, documents)
    found = run(Flow([compare], output=compare.output), tmp_path)
    assert found.errors["unrelaxed"].volume == pytest.approx(0.2)
    assert "unequal grids" in found.missing["unrelaxed"]


def test_structures_that_are_needed(rutile):
    maker = PropertyComparisonFlowMaker(static_maker=FormulaStaticMaker())
    for structures in ({}, {"relaxed": rutile}, {"unrelaxed": rutile}, {"relaxed": rutile, "translate": rutile}):
        with pytest.raises(
            ValueError, match="give 'relaxed' and one or several of unrelaxed, scaled, translated, mlip"
        ):
            maker.make("id", "TiO2", structures)


def test_vasp_parses_the_density_of_states(rutile):
    """Also where the maker is one of several jobs, and other settings of the user stay."""
    makers = PropertyComparisonFlowMaker(), PropertyComparisonFlowMaker(static_maker=DoubleRelaxMaker())
    mine = StaticMaker(name="mine", task_document_kwargs={"store_trajectory": "no"})
    for maker in (*makers, PropertyComparisonFlowMaker(static_maker=mine)):
        flow = maker.make("id", "TiO2", {"unrelaxed": rutile, "relaxed": rutile})
        statics = [job for job, _ in flow.iterflow()][:-1]
        assert len(statics) in (2, 4)
        assert all(job.maker.task_document_kwargs["parse_dos"] is True for job in statics)
    assert statics[0].maker.task_document_kwargs["store_trajectory"] == "no"
    assert mine.task_document_kwargs == {"store_trajectory": "no"}
    assert makers[0].static_maker.input_set_generator.user_incar_settings["NEDOS"] == 1001
