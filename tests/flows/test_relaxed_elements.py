"""Elements are relaxed by the maker of the candidates, for formation energies without any input."""

import pytest
from atomate2.vasp.flows.mp import MPGGADoubleRelaxMaker
from jobflow import run_locally

from cryslator_flows.crystals.packing import Selection
from cryslator_flows.documents.candidates import TranslationStats
from cryslator_flows.documents.references import ElementReference
from cryslator_flows.documents.summary import CampaignSummary
from cryslator_flows.flows import relaxed_elements
from cryslator_flows.flows.relaxation_comparison import RelaxationComparisonFlowMaker
from cryslator_flows.flows.relaxed_elements import RelaxElementFlowMaker
from cryslator_flows.jobs.relax import RelaxSelectedMaker
from cryslator_flows.jobs.relax_lanes import relax_selection
from cryslator_flows.results.relaxed_frame import relaxed_frame
from cryslator_flows.results.results import CampaignResults
from cryslator_flows.running.local.run import CampaignRun
from cryslator_flows.running.status import STATES
from cryslator_flows.screening.hulls import Competition
from tests.flows.makers import CompoundsOnlyRelaxMaker, DoubleMaker, PairPotentialRelaxMaker
from tests.flows.test_screening import run, screening, table
from tests.running.test_run import campaign, run_counting


def test_formation_energies_need_no_input(store, tmp_path):
    """And no step of an element enters a saving."""
    with_elements = screening(PairPotentialRelaxMaker(), top_k=4)
    without = screening(PairPotentialRelaxMaker(), top_k=4)
    without.select_maker.relax_maker.known_elements = None
    summary, expected = run(with_elements, store, tmp_path / "a"), run(without, store, tmp_path / "b")
    assert {"Mn", "O"} < set(summary.element_energies) <= {"Mn", "O", "Ca", "Sr", "Ba"}
    assert (summary.elements_without_energy, expected.element_energies) == ({}, {})
    assert (summary.savings, summary.outcomes) == (expected.savings, expected.outcomes)
    results = CampaignResults(store, "test")
    for item in results.references():
        assert item.relaxation.structure.symbol_set == (item.symbol,)
        assert item.relaxation.energy_per_atom == summary.element_energies[item.symbol]
    frame = relaxed_frame(results.comparisons(), summary.element_energies, Competition({}))
    assert len(frame) == 4
    for row in frame.itertuples():
        elements = sum(
            amount * summary.element_energies[symbol] for symbol, amount in results_composition(row.formula).items()
        )
        assert row.formation_energy_per_atom == pytest.approx(row.energy_per_atom - elements)


def results_composition(formula):
    from pymatgen.core import Composition

    return Composition(formula).fractional_composition.get_el_amt_dict()


def test_given_elements_are_not_relaxed(store, tmp_path):
    maker = screening(PairPotentialRelaxMaker(), top_k=2)
    maker.select_maker.relax_maker.known_elements = ("O", "Mn")
    summary = run(maker, store, tmp_path)
    assert summary.element_energies
    assert {"O", "Mn"}.isdisjoint(summary.element_energies)


def test_elements_without_an_energy_are_named_with_the_reason(store, tmp_path):
    maker = CompoundsOnlyRelaxMaker(fails_for="Mn", unconverged_for="O")
    summary = run(screening(maker, top_k=2), store, tmp_path)
    assert summary.elements_without_energy == {"Mn": "a relaxation job failed", "O": "not converged"}
    assert summary.relaxed == 2
    frame = relaxed_frame(CampaignResults(store, "test").comparisons(), summary.element_energies, Competition({}))
    assert len(frame) == 2
    assert frame["formation_energy_per_atom"].isna().all()
    assert frame["energy_above_hull"].isna().all()


@pytest.mark.parametrize(("maker", "symbol"), [(DoubleMaker(), "Fe"), (PairPotentialRelaxMaker(), "He")])
def test_any_maker_and_any_element(maker, symbol, store, tmp_path):
    """Makers of several jobs; an element without a known crystal says so in place of a relaxation."""
    flow = RelaxElementFlowMaker(relax_maker=maker).make(symbol)
    run_locally(flow, store=store, create_folders=True, root_dir=tmp_path, log=False)
    item = ElementReference.model_validate(store.get_output(flow.jobs[-1].uuid))
    assert item.symbol == symbol
    if symbol == "He":
        assert "He: no structure of this element is known" in item.relaxation.error
    else:
        assert len(item.relaxation.job_uuids) == 2
        assert item.relaxation.cost.converged


def test_an_element_relaxed_without_its_moments_is_not_reused(monkeypatch):
    key = RelaxElementFlowMaker().settings_key()
    monkeypatch.setattr(relaxed_elements, "MOMENTS", {})
    assert RelaxElementFlowMaker().settings_key() != key


def test_failed_element_stops_no_campaign_and_runs_again_alone(tmp_path):
    """Also after a correction of the energies in the campaign file, which is no other flow."""
    made = campaign(tmp_path, "CompoundsOnlyRelaxMaker", fails_for="Mn")
    made.relaxation.relax_elements = True
    first = CampaignRun(made, tmp_path / "run")
    summary, happened = run_counting(first)
    assert summary.relaxed == summary.selected
    assert (happened["failed"], [*first.failures.values()]) == (1, ["RuntimeError: no Mn alone"])
    assert list(summary.elements_without_energy) == ["Mn"]
    made.relaxation.element_energies["Mn"] = -9.0
    _, happened = run_counting(CampaignRun(made, tmp_path / "run"))
    assert happened["done"] == 0
    again = []
    CampaignRun(made, tmp_path / "run").run(
        lambda happening, job: again.append((happening, job.name)), rerun_failed=True
    )
    assert [name for happening, name in again if happening in ("done", "failed")] == [
        "pair potential relax element Mn", "read element Mn",
    ]  # fmt: skip


def test_status_counts_the_elements_among_the_relaxations(tmp_path):
    made = campaign(tmp_path, "PairPotentialRelaxMaker")
    made.relaxation.relax_elements = True
    run = CampaignRun(made, tmp_path / "run")
    summary, _ = run_counting(run)
    from cryslator_flows.running.folder_status import FolderWatch

    with run.folder.opened() as folder:
        counts = FolderWatch(folder).look().counts
        names = {row["name"] for row in folder.job_store.query({"metadata.stage": "relax"}, ["name"])}
    n_elements = len(summary.element_energies)
    assert set(counts["relax"]) <= set(STATES)
    assert counts["relax"]["done"] == 2 * summary.selected + n_elements
    assert counts["compare"]["done"] == summary.selected + n_elements
    assert "pair potential relax element Mn" in names
    assert isinstance(summary, CampaignSummary)


@pytest.mark.parametrize(("maker", "fetches"), [(MPGGADoubleRelaxMaker(), True), (PairPotentialRelaxMaker(), False)])
def test_phases_of_the_materials_project_are_fetched_for_vasp_alone(maker, fetches, perovskite):
    relax_maker = RelaxSelectedMaker(RelaxationComparisonFlowMaker(relax_maker=maker))
    chosen = table(perovskite, ("a", {}, -3.0, 0.1))
    elements = relax_maker.elements_to_relax(chosen)
    selection = Selection(n_selected=1, candidate_ids=["a"], stats=TranslationStats(), elements=elements)
    flow = relax_selection(relax_maker, selection, chosen, None, [], "c")
    names = [job.name for job, _ in flow.iterflow()]
    assert ("fetch phases" in names) == fetches
    assert {f"read element {symbol}" for symbol in elements} < set(names)
    assert len(elements) == 3
