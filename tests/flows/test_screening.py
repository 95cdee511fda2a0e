from hashlib import sha256

import pytest
from atomate2.vasp.flows.core import DoubleRelaxMaker
from atomate2.vasp.powerups import update_user_incar_settings
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore

from cryslator_flows.crystals.enumeration import Enumeration
from cryslator_flows.crystals.substitution import RolePools
from cryslator_flows.crystals.templates import AflowTemplates
from cryslator_flows.flows.comparison import RelaxationComparisonFlowMaker
from cryslator_flows.flows.screening import ScreeningFlowMaker
from cryslator_flows.jobs.enumerate import EnumerateMaker
from cryslator_flows.jobs.select import SelectMaker
from cryslator_flows.jobs.selection import energies_above_hull, is_control
from cryslator_flows.jobs.translate import TranslateMaker
from cryslator_flows.schemas import CampaignSummary, Candidate, TranslatedChunk, Translation
from tests.flows.makers import DoubleMaker, FussyRelaxMaker, PairPotentialRelaxMaker

TEMPLATES = [AflowTemplates(elements=["O"], n_elements=3, max_atoms=5)]
SPACES = [RolePools(kind="roles", cations=[["Mn"], ["Ca", "Sr", "Ba"]])]


@pytest.fixture
def store():
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    store.connect()
    return store


def screening(relax_maker, tiny_model=None, **selection):
    return ScreeningFlowMaker(
        name="test",
        enumerate_maker=EnumerateMaker(
            chunk_size=5,
            translate_maker=TranslateMaker(model_name=str(tiny_model.path) if tiny_model else "cryslator-oxides"),
        ),
        select_maker=SelectMaker(
            **selection,
            comparison_maker=relax_maker and RelaxationComparisonFlowMaker(relax_maker=relax_maker),
        ),
    )


def run(maker, store, tmp_path):
    flow = maker.make(TEMPLATES, SPACES)
    run_locally(flow, store=store, create_folders=True, root_dir=tmp_path, log=False)
    return CampaignSummary.model_validate(store.get_output(flow.jobs[-1].uuid))


def test_whole_flow_under_jobflows_own_manager(store, tmp_path):
    summary = run(screening(PairPotentialRelaxMaker(), top_k=3, per_composition=1), store, tmp_path)
    expected = list(Enumeration(TEMPLATES[0].load(), SPACES))
    assert summary.counts.unique == summary.translated == len(expected)
    assert summary.counts.enumerated == len(expected) + summary.counts.duplicates + summary.counts.not_charge_balanced
    assert summary.selected == summary.relaxed == sum(summary.outcomes["translated"].values()) == 3
    assert summary.versions["jobflow"]
    assert summary.versions["cryslator-oxides"]
    chunks = list(store.query({"name": {"$regex": "^translate"}}))
    assert len(chunks) == -(-len(expected) // 5)
    assert all(chunk["metadata"]["campaign"] == "test" for chunk in chunks)


def test_structures_are_in_the_additional_store(store, tmp_path):
    run(screening(None, top_k=1), store, tmp_path)
    document = store.query_one({"name": "translate 1"})
    assert "blob_uuid" in document["output"]["candidates"]
    assert "blob_uuid" in document["output"]["translations"]
    loaded = TranslatedChunk.model_validate(store.query_one({"name": "translate 1"}, load=True)["output"])
    assert 0 < loaded.seconds < 60
    assert {(item.model_name, item.model_version) for item in loaded.translations} == {
        (loaded.model_name, loaded.model_version)
    }
    assert [c.candidate_id for c in loaded.candidates] == [t.candidate_id for t in loaded.translations]


def test_stops_after_selection_without_relaxation(store, tmp_path):
    summary = run(screening(None, top_k=4), store, tmp_path)
    assert (summary.selected, summary.relaxed, summary.savings) == (4, 0, [])


def test_a_failed_and_an_unconverged_relaxation_stop_nothing(store, tmp_path, tiny_model):
    maker = screening(FussyRelaxMaker(fails_with="Sr", unconverged_with="Ba"), tiny_model, per_composition=1)
    summary = run(maker, store, tmp_path)
    assert summary.outcomes["translated"]["failed"] >= 1
    assert summary.outcomes["translated"]["unconverged"] >= 1
    assert summary.relaxed >= 1
    for row in store.query({"name": {"$regex": "^compare"}}):
        if "Sr" in row["output"]["reduced_formula"]:
            assert [item["error"] for item in row["output"]["relaxations"]] == ["a relaxation job failed"] * 2


def test_nothing_selected_is_a_summary_too(store, tmp_path):
    summary = run(screening(PairPotentialRelaxMaker(), max_formation_energy=-99.0), store, tmp_path)
    assert (summary.selected, summary.outcomes, summary.savings) == (0, {}, [])


def test_relax_maker_that_makes_a_flow(store, tmp_path):
    run(screening(DoubleMaker(), top_k=1), store, tmp_path)
    (row,) = store.query({"name": {"$regex": "^compare"}})
    relaxations = row["output"]["relaxations"]
    for item in relaxations:
        assert len(item["job_uuids"]) == 2
        parts = [store.get_output(uuid)["output"]["n_steps"] - 1 for uuid in item["job_uuids"]]
        assert item["cost"]["ionic_steps"] == sum(parts)


def test_single_start_for_what_is_no_control(store, tmp_path):
    summary = run(screening(PairPotentialRelaxMaker(), top_k=3, control_share=0.0), store, tmp_path)
    assert summary.outcomes == {"translated": {"not compared": 3}}
    assert summary.savings == []


def test_powerups_reach_the_relax_maker():
    maker = screening(DoubleRelaxMaker(), top_k=1)
    changed = update_user_incar_settings(maker, {"ENCUT": 777})
    relax = changed.select_maker.comparison_maker.relax_maker
    assert relax.relax_maker1.input_set_generator.user_incar_settings["ENCUT"] == 777
    assert relax.relax_maker2.input_set_generator.user_incar_settings["ENCUT"] == 777


def rows(perovskite, *entries):
    """Candidates with made-up energies: (candidate id, substitution, formation energy, uncertainty)."""
    from cryslator_flows.crystals.substitution import substitute

    made = []
    for name, mapping, energy, uncertainty in entries:
        structure = substitute(perovskite, {"Ca": "Ca", "Ti": "Ti", "O": "O", **mapping})
        candidate = Candidate(
            candidate_id=name, template_id="t", substitution=mapping, structure=structure,
            reduced_formula=structure.composition.reduced_formula, chemsys=structure.chemical_system,
        )  # fmt: skip
        translation = Translation(
            candidate_id=name, structure=structure, formation_energy_per_atom=energy,
            formation_energy_uncertainty=uncertainty, formation_energy_uncertainty_90=2 * uncertainty,
            mean_displacement=0, volume_change=0, max_principal_strain=0, atoms_too_close=name == "bad",
            unknown_elements=[], domain_distance=2 * (name == "d"), out_of_domain=name == "d",
            model_name="m", model_version="v",
        )  # fmt: skip
        made.append((candidate, translation))
    return made


def test_cuts_and_ranking(perovskite):
    table = rows(
        perovskite,
        ("a", {}, -3.0, 0.1), ("b", {}, -3.2, 0.5), ("c", {"Ca": "Sr"}, -3.4, 0.1), ("bad", {}, -9.0, 0.1),
        ("d", {"Ca": "Ba"}, -1.0, 0.1),
    )  # fmt: skip

    def kept(**fields):
        return [candidate.candidate_id for candidate, _ in SelectMaker(**fields).select(table)]

    assert kept() == ["c", "b", "a", "d"]
    assert kept(max_formation_energy=-2) == ["c", "b", "a"]
    assert kept(max_uncertainty=0.2) == ["c", "a", "d"]
    assert kept(in_domain_only=True) == ["c", "b", "a"]
    assert kept(per_composition=1) == ["c", "b", "d"]
    assert kept(top_k=2) == ["c", "b"]


def test_hull_by_hand(perovskite):
    """CaTiO3 against CaO + TiO2: known phases push it above the hull."""
    table = rows(perovskite, ("a", {}, -3.0, 0.1), ("b", {}, -2.9, 0.1), ("c", {"Ca": "Sr"}, -2.0, 0.1))
    assert energies_above_hull(table, {}) == pytest.approx([0, 0.1, 0], abs=1e-9)
    # (2 CaO + 3 TiO2) / 5 atoms: (2 * -3.3 + 3 * -3.4) / 5 = -3.36
    # SrTiO3 against 3 TiO2 + 2 Sr + ...: 3 * -3.4 / 5 = -2.04, for want of a known SrO.
    references = {"CaO": -3.3, "TiO2": -3.4}
    assert energies_above_hull(table, references) == pytest.approx([0.36, 0.46, 0.04], abs=1e-9)
    kept = SelectMaker(max_energy_above_hull=0.4, references=references).select(table)
    assert [candidate.candidate_id for candidate, _ in kept] == ["a", "c"]


def test_control_share_is_a_property_of_the_candidate():
    ids = [sha256(bytes([number % 256, number // 256])).hexdigest()[:16] for number in range(2000)]
    share = sum(is_control(name, 0.25) for name in ids) / len(ids)
    assert share == pytest.approx(0.25, abs=0.03)
    assert all(is_control(name, 1.0) for name in ids)
    assert not any(is_control(name, 0.0) for name in ids)
    assert all(is_control(name, 0.5) for name in ids if is_control(name, 0.25))
