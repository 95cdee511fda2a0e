from collections import Counter
from hashlib import sha256
from itertools import chain, groupby

import numpy as np
import pandas as pd
import pytest
from atomate2.vasp.flows.core import DoubleRelaxMaker
from atomate2.vasp.powerups import update_user_incar_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobflow import run_locally
from monty.itertools import chunks

from cryslator_flows.crystals.candidate_rows import CandidateRow, make_candidate
from cryslator_flows.crystals.enumeration import Enumeration
from cryslator_flows.crystals.packing import PackedCandidates, TranslatedCandidates, TranslatedChunk
from cryslator_flows.crystals.substitution import RolePools, Substitution
from cryslator_flows.crystals.templates import AflowTemplates
from cryslator_flows.documents.candidates import Template, Translation
from cryslator_flows.documents.summary import CampaignSummary
from cryslator_flows.flows.relaxation_comparison import RelaxationComparisonFlowMaker
from cryslator_flows.flows.screening import ScreeningFlowMaker
from cryslator_flows.jobs.enumerate import EnumerateMaker
from cryslator_flows.jobs.relax import RelaxSelectedMaker
from cryslator_flows.jobs.select import SelectMaker
from cryslator_flows.jobs.translate_chunk import TranslateChunkMaker
from cryslator_flows.report.tables import property_rows
from cryslator_flows.results.export import write_candidates
from cryslator_flows.results.results import CampaignResults
from cryslator_flows.screening.cuts import Cuts
from cryslator_flows.screening.hulls import Competition
from cryslator_flows.translator.default_model import DEFAULT_MODEL
from cryslator_flows.translator.property_predictor import PropertyPredictor
from tests.flows.makers import DoubleMaker, FussyRelaxMaker, PairPotentialRelaxMaker

TEMPLATES = [AflowTemplates(elements=["O"], n_elements=3, max_atoms=5)]
SPACES = [RolePools(kind="roles", cations=[["Mn"], ["Ca", "Sr", "Ba"]])]


def screening(relax_maker, tiny_model=None, controls=20, **selection):
    return ScreeningFlowMaker(
        name="test",
        enumerate_maker=EnumerateMaker(
            chunk_size=5,
            translate_maker=TranslateChunkMaker(model_name=str(tiny_model.path) if tiny_model else DEFAULT_MODEL),
        ),
        select_maker=SelectMaker(
            cuts=Cuts(**selection),
            relax_maker=relax_maker
            and RelaxSelectedMaker(
                RelaxationComparisonFlowMaker(relax_maker=relax_maker), wave_size=2, controls=controls
            ),
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
    assert summary.versions[DEFAULT_MODEL]
    chunks = list(store.query({"name": {"$regex": "^translate"}}))
    assert len(chunks) == len(list(Enumeration(TEMPLATES[0].load(), SPACES).chunks(5))) > 1
    assert all(chunk["metadata"]["campaign"] == "test" for chunk in chunks)


def test_structures_are_in_the_additional_store(store, tmp_path):
    run(screening(None, top_k=1), store, tmp_path)
    document = store.query_one({"name": "translate 1"})
    assert "blob_uuid" in document["output"]["translated"]
    assert "blob_uuid" in document["output"]["shortlist"]
    loaded = TranslatedChunk.model_validate(store.query_one({"name": "translate 1"}, load=True)["output"])
    assert 0 < loaded.stats.seconds < 60
    rows = list(loaded.rows())
    assert {item.model_name: item.model_version for _, item in rows} == loaded.stats.models
    assert [candidate.candidate_id for candidate, _ in rows] == [item.candidate_id for _, item in rows]


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
    summary = run(screening(PairPotentialRelaxMaker(), top_k=3, controls=0), store, tmp_path)
    assert summary.outcomes == {"translated": {"not compared": 3}}
    assert summary.savings == []


def test_powerups_reach_the_relax_maker():
    maker = screening(DoubleRelaxMaker(), top_k=1)
    changed = update_user_incar_settings(maker, {"ENCUT": 777})
    relax = changed.select_maker.relax_maker.comparison_maker.relax_maker
    assert relax.relax_maker1.input_set_generator.user_incar_settings["ENCUT"] == 777
    assert relax.relax_maker2.input_set_generator.user_incar_settings["ENCUT"] == 777


def table(perovskite, *entries):
    """Candidates with made-up energies: (candidate id, substitution, formation energy, uncertainty)."""
    template = Template(template_id="t", structure=perovskite)
    made = [
        CandidateRow(template, Substitution({"Ca": "Ca", "Ti": "Ti", "O": "O", **mapping}))
        for _, mapping, *_ in entries
    ]
    translations = []
    for row, (name, _, energy, uncertainty) in zip(made, entries, strict=True):
        candidate = make_candidate(row, None)
        translation = Translation(
            candidate_id=name, structure=candidate.structure, formation_energy_per_atom=energy,
            formation_energy_uncertainty=uncertainty, formation_energy_uncertainty_90=2 * uncertainty,
            mean_displacement=0, volume_change=0, max_principal_strain=0, atoms_too_close=name == "bad",
            unknown_elements=[], domain_distance=2 * (name == "d"), out_of_domain=name == "d",
            model_name="m", model_version="v",
        )  # fmt: skip
        translations.append((candidate.reduced_formula, translation))
    return TranslatedCandidates.add(PackedCandidates.pack(made), range(len(made)), translations)


def test_cuts_and_ranking(perovskite):
    candidates = table(
        perovskite,
        ("a", {}, -3.0, 0.1), ("b", {}, -3.2, 0.5), ("c", {"Ca": "Sr"}, -3.4, 0.1), ("bad", {}, -9.0, 0.1),
        ("d", {"Ca": "Ba"}, -1.0, 0.1),
    )  # fmt: skip

    def kept(**fields):
        return Cuts(**fields).select(candidates).arrays()["candidate_id"].tolist()

    assert kept() == ["c", "b", "a", "d"]
    assert kept(max_formation_energy=-2) == ["c", "b", "a"]
    assert kept(max_uncertainty=0.2) == ["c", "a", "d"]
    assert kept(in_domain_only=True) == ["c", "b", "a"]
    assert kept(per_composition=1) == ["c", "b", "d"]
    assert kept(top_k=2) == ["c", "b"]
    assert kept(max_formation_energy=-99) == []
    # With a cut above the hull the best are the nearest to it, not the ones of lowest formation energy.
    hull = {"max_energy_above_hull": 1.0, "references": {"SrTiO3": -3.7}, "known_phases": False}
    assert kept(**hull) == ["b", "d", "a", "c"]
    assert kept(**hull, top_k=2) == ["b", "d"]


def test_what_a_window_of_a_property_drops_still_competes(perovskite):
    """The metal at the hull has no gap; what lies too far above it is not kept in its place."""
    candidates = table(
        perovskite,
        ("a", {}, -3.0, 0.1), ("b", {}, -3.2, 0.1), ("c", {"Ca": "Sr"}, -3.4, 0.1), ("d", {"Ca": "Ba"}, -3.3, 0.1),
    ).with_properties({"band_gap": np.array([2.0, 0.0, 1.5, np.nan])})  # fmt: skip
    window = {"band_gap": {"model": "my-gaps", "min": 1}}
    left_out = Counter()
    kept = Cuts(properties=window).select(candidates, left_out)
    assert kept.arrays()["candidate_id"].tolist() == ["c", "a"]
    assert kept.arrays()["predicted band_gap"].tolist() == [1.5, 2.0]
    assert left_out["predicted band_gap at least 1"] == 2
    hull = Cuts(properties=window, max_energy_above_hull=0.1, known_phases=False)
    assert hull.select(candidates).arrays()["candidate_id"].tolist() == ["c"]


def test_properties_are_predicted_and_shown_in_the_funnel(store, tmp_path, tiny_model):
    predictor = PropertyPredictor.from_pretrained(tiny_model.path)
    plain = run(screening(None, tiny_model), store, tmp_path / "plain")
    assert list(property_rows(plain)) == []
    chunk = next(CampaignResults(store, "test").chunks())
    middle = float(np.median(chunk.translated.arrays()["formation_energy_per_atom"]))
    store.remove_docs({})
    window = {"model": str(tiny_model.path), "max": middle, "unit": predictor.unit}
    summary = run(screening(None, tiny_model, properties={predictor.target: window}), store, tmp_path)
    chunks = list(CampaignResults(store, "test").chunks())
    rows = [candidate for chunk in chunks for candidate, _ in chunk.rows()]
    column = f"predicted {predictor.target} (eV/atom)"
    found = np.concatenate([chunk.translated.arrays()[column] for chunk in chunks])
    expected = [item.value for item in predictor.predict_many(candidate.structure for candidate in rows)]
    assert found == pytest.approx(expected, abs=1e-4)
    assert 0 < summary.selected == (found <= middle).sum() < summary.translated
    reason = f"predicted {predictor.target} at most {middle:g} eV/atom"
    assert list(property_rows(summary)) == [(reason, summary.selected, summary.translated - summary.selected)]
    assert write_candidates(tmp_path / "candidates.csv", chunks, Competition({}), None) == len(rows)
    far = Cuts(properties={predictor.target: {**window, "max": None, "min": 9}})
    words = far.emptied_window(chunk.translated for chunk in chunks)
    assert (
        f"none of {len(rows)} candidates is at least 9 eV/atom; their predicted values are {found.min():g} to" in words
    )
    assert Cuts(properties={predictor.target: window}).emptied_window(chunk.translated for chunk in chunks) is None
    written = pd.read_csv(tmp_path / "candidates.csv").set_index("candidate_id")
    assert written.loc[[item.candidate_id for item in rows], column].tolist() == pytest.approx(found.tolist())


def test_the_candidates_left_out_are_counted_by_reason(perovskite):
    candidates = table(
        perovskite,
        ("a", {}, -3.0, 0.1), ("b", {}, -3.05, 0.1), ("c", {}, -2.9, 0.1), ("bad", {}, -9.0, 0.1),
        ("d", {"Ca": "Ba"}, -1.0, 0.1), ("e", {"Ca": "Sr"}, -3.4, 0.1), ("f", {"Ca": "Sr"}, -3.3, 0.7),
    )  # fmt: skip
    left_out = Counter()
    kept = Cuts(max_uncertainty=0.5, max_formation_energy=-2, per_composition=1, top_k=1).select(candidates, left_out)
    assert kept.arrays()["candidate_id"].tolist() == ["e"]
    assert left_out == {
        "atoms nearly coincide": 1, "uncertain": 1, "formation energy": 1, "others of the formula": 1,
        "others of the formula within the uncertainty": 1, "others than the best 1": 1,
    }  # fmt: skip


@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["Ca", "Sr", "Ba"]), st.sampled_from(["Ti", "Zr"]), st.integers(-9, 0)),
        min_size=1, max_size=20,
    ),
    size=st.integers(1, 6),
    hull=st.sampled_from([None, 0.0, 0.25]),
    per_composition=st.sampled_from([None, 1, 2]),
    top_k=st.sampled_from([None, 1, 3]),
    max_energy=st.sampled_from([None, -0.5]),
    whole=st.booleans(),
    properties=st.sampled_from([{}, {"band_gap": {"model": "m", "max": 0.5}}]),
)  # fmt: skip
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_selection_from_shortlists_is_that_from_all(
    perovskite, rows, size, hull, per_composition, top_k, max_energy, whole, properties
):
    """However the candidates are cut into chunks, and shortlists into shortlists of shortlists."""
    entries = [
        ("bad" if energy == -9 else f"{number:02}", {"Ca": first, "Ti": second}, energy / 4, 0.1)
        for number, (first, second, energy) in enumerate(rows)
    ]
    cuts = Cuts(
        max_formation_energy=max_energy, max_energy_above_hull=hull, per_composition=per_composition, top_k=top_k,
        properties=properties,
    )  # fmt: skip

    def made(entries):
        entries = list(entries)
        gaps = np.array([0.0 if name == "bad" else int(name) % 2 for name, *_ in entries])
        return table(perovskite, *entries).with_properties({"band_gap": gaps})

    expected = cuts.select(made(entries)).arrays()["candidate_id"].tolist()
    left_out = Counter()
    parts = [cuts.shortlist(made(chunk), left_out) for chunk in chunks(entries, size)]
    if whole:
        entries.sort(key=lambda entry: sorted(entry[1].items()))
        systems = [list(group) for _, group in groupby(entries, key=lambda entry: entry[1])]
        groups = [chain.from_iterable(group) for group in chunks(systems, size)]
        left_out.clear()
        parts = [cuts.shortlist(made(group).model_copy(update={"whole_systems": True}), left_out) for group in groups]
    gathered = [cuts.shortlist(TranslatedCandidates.join(parts[:2]), left_out), *parts[2:]]
    selected = cuts.select(TranslatedCandidates.join(gathered), left_out)
    assert left_out.total() == len(rows) - len(expected)
    assert selected.arrays()["candidate_id"].tolist() == expected


def test_controls_are_drawn_by_number_and_the_same_for_any_order(perovskite):
    maker = RelaxSelectedMaker(RelaxationComparisonFlowMaker(relax_maker=PairPotentialRelaxMaker()), controls=3)
    names = [sha256(bytes([number])).hexdigest()[:16] for number in range(20)]
    rows = [(name, {}, -3.0 - index / 100, 0.1) for index, name in enumerate(names)]
    drawn = maker.with_controls(table(perovskite, *rows)).control_ids
    assert len(drawn) == 3
    assert drawn == maker.with_controls(table(perovskite, *rows[::-1])).control_ids
    # As good as random: not the most stable ones.
    assert {*drawn} != {*names[:3]} | {*names[-3:]}
    assert len(maker.with_controls(table(perovskite, *rows[:2])).control_ids) == 2
