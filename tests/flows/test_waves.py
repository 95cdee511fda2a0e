"""Chunks, gathered shortlists, waves and what is left to other flows, under jobflow's own and our own manager."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from jobflow import run_locally
from maggma.stores import MemoryStore
from monty.json import MontyEncoder

from cryslator_flows.crystals.packing import Selection, TranslatedChunk
from cryslator_flows.documents.relaxations import RelaxationComparison
from cryslator_flows.documents.stages import STAGES
from cryslator_flows.flows.relaxation_comparison import RelaxationComparisonFlowMaker
from cryslator_flows.jobs import enumerate as enumerate_module
from cryslator_flows.jobs.placing import ALL_STAGES, configure_stages
from cryslator_flows.jobs.reuse import find_known
from cryslator_flows.running.local.job_loop import LocalRun
from tests.flows.conftest import memory_store
from tests.flows.makers import DoubleMaker, FussyRelaxMaker, PairPotentialRelaxMaker
from tests.flows.test_screening import SPACES, TEMPLATES, run, screening


def comparisons(job_store):
    rows = job_store.query({"output.@class": "RelaxationComparison"}, load=True)
    return [RelaxationComparison.model_validate(row["output"]) for row in rows]


def selections(job_store):
    return [
        Selection.model_validate(row["output"]) for row in job_store.query({"name": "select", "index": 1}, load=True)
    ]


@pytest.mark.slow
def test_gathered_shortlists_select_the_same(store, tmp_path, tiny_model, monkeypatch):
    another_store = memory_store()
    plain = screening(None, tiny_model, top_k=4, per_composition=2)
    chunked = replace(plain, enumerate_maker=replace(plain.enumerate_maker, chunk_size=2))
    first = run(plain, store, tmp_path)
    monkeypatch.setattr(enumerate_module, "PARTS_PER_JOB", 2)
    second = run(chunked, another_store, tmp_path)
    assert store.count({"name": "gather"}) == 0
    chunks = another_store.count({"name": {"$regex": "^translate"}, "output.@class": "TranslatedChunk"})
    assert another_store.count({"name": "gather"}) >= chunks // 2 > 2
    assert [item.candidate_ids for item in selections(another_store)] == [
        item.candidate_ids for item in selections(store)
    ]
    assert (second.translated, second.not_translated, second.selected) == (first.translated, 0, 4)


def test_each_candidate_is_relaxed_once_in_bounded_waves(store, tmp_path, tiny_model):
    maker = screening(FussyRelaxMaker(fails_with="Sr"), tiny_model, per_composition=1, top_k=6)
    summary = run(maker, store, tmp_path)
    done = comparisons(store)
    assert {item.candidate_id for item in done} == set(selections(store)[0].candidate_ids)
    assert len(done) == summary.selected == sum(summary.outcomes["translated"].values()) > 2
    assert summary.outcomes["translated"]["failed"] >= 1
    for row in store.query({"name": {"$regex": "^relax wave"}, "index": 1}):
        relaxed = store.count({"hosts": row["uuid"], "name": {"$regex": "^compare"}})
        assert relaxed <= maker.select_maker.relax_maker.wave_size


def test_what_one_flow_does_not_take_is_left_to_others(store, tmp_path, tiny_model):
    maker = screening(PairPotentialRelaxMaker(), tiny_model, top_k=5)
    maker.select_maker.max_relaxed = 2
    summary = run(maker, store, tmp_path)
    (selection,) = selections(store)
    first = [item.candidate_id for item in comparisons(store)]
    assert (summary.selected, summary.relaxed, selection.n_selected) == (5, 2, 5)
    assert sorted(first) == sorted(selection.candidate_ids[:2])
    run_locally(maker.make_relaxations(selection.remaining), store=store, create_folders=True, root_dir=tmp_path)
    everything = comparisons(store)
    assert sorted(item.candidate_id for item in everything) == sorted(selection.candidate_ids)
    assert {item.campaign for item in everything} == {"test"}
    maker.select_maker.relax_maker = None
    with pytest.raises(ValueError, match="stops after the selection"):
        maker.make_relaxations(selection.remaining)


def run_here(flow, job_store, folder, look=lambda happening, job: None):
    """Run with our own manager and return the jobs that were started."""
    journal = MemoryStore(key="entry")
    journal.connect()
    started = []

    def report(happening, job):
        look(happening, job)
        started.extend([job] if happening == "started" else [])

    LocalRun(job_store, journal, folder, report).run(flow)
    return started


def test_every_job_is_marked_and_placed_by_its_stage(store, tmp_path, tiny_model):
    maker = screening(DoubleMaker(), tiny_model, top_k=3)
    flow = maker.make(TEMPLATES, SPACES)
    configs = {stage: {"worker": f"w-{stage}", "priority": 3} for stage in STAGES if stage != "compare"}
    configure_stages(flow, configs)
    jobs = [job for job in run_here(flow, store, tmp_path) if job.name != "store_inputs"]
    assert {job.metadata["campaign"] for job in jobs} == {"test"}
    assert {job.metadata["stage"] for job in jobs} == set(STAGES) - {"learn", "potential"}
    for job in jobs:
        stage = job.metadata["stage"]
        config = {key: value for key, value in job.config.manager_config.items() if key != ALL_STAGES}
        assert config == configs.get(stage, {})
        assert (ALL_STAGES in job.config.manager_config) == (stage in {"enumerate", "select"})
        assert ("candidate_id" in job.metadata) == (stage in {"relax", "compare"})
        assert ("start" in job.metadata) == (stage == "relax")
    relaxations = Counter(" element " in job.name for job in jobs if job.metadata["stage"] == "relax")
    assert relaxations[False] == 3 * 2 * 2
    assert relaxations[True] >= 3 * 2
    for row in store.query({"output.@class": "RelaxationComparison"}):
        assert row["metadata"]["stage"] == "compare"


def test_what_another_campaign_relaxed_is_reused(store, tmp_path, tiny_model):
    maker = screening(PairPotentialRelaxMaker(), tiny_model, top_k=4)
    before = run(maker, store, tmp_path)
    known = comparisons(store)
    again = replace(maker, name="second")
    cuts = maker.select_maker.cuts.model_copy(update={"top_k": 6})
    again.select_maker = replace(maker.select_maker, cuts=cuts)
    waves = []

    def look(happening, job):
        if happening == "queued" and job.name == "relax wave":
            waves.append(json.dumps(job, cls=MontyEncoder))

    jobs = run_here(again.make(TEMPLATES, SPACES, known), store, tmp_path / "second", look)
    relaxations = [job.name for job in jobs if job.metadata["stage"] == "relax" and job.name != "store_inputs"]
    assert sum(" element " not in name for name in relaxations) == 2 * 2
    assert waves
    assert not any('"unrelaxed_structure": {' in wave for wave in waves)
    rows = [item for item in comparisons(store) if item.campaign == "second"]
    assert sorted(str(item.reused_from) for item in rows) == ["None"] * 2 + ["test"] * 4
    by_id = {item.candidate_id: item for item in known}
    for item in rows:
        if item.reused_from:
            assert item.relaxations == by_id[item.candidate_id].relaxations
    (row,) = store.query({"output.@class": "CampaignSummary", "output.campaign": "second"})
    assert (row["output"]["reused"], before.reused) == (4, 0)
    assert row["output"]["selected"] == 6


def test_only_the_same_start_and_settings_are_known(store, tmp_path, tiny_model):
    maker = screening(PairPotentialRelaxMaker(), tiny_model, top_k=1)
    run(maker, store, tmp_path)
    (known,) = comparisons(store)
    rows = [
        pair
        for row in store.query({"output.@class": "TranslatedChunk"}, load=True)
        for pair in TranslatedChunk.model_validate(row["output"]).rows()
    ]
    candidate, translation = next(pair for pair in rows if pair[0].candidate_id == known.candidate_id)
    comparison = maker.select_maker.relax_maker.comparison_maker
    model = translation.model_name, translation.model_version
    settings = comparison.settings_key(*model)
    both = ["unrelaxed", "translated"]
    assert settings == known.settings
    assert find_known(candidate, both, settings, [known]) is known
    # The same crystal with its axes and its origin elsewhere.
    turned = candidate.structure.copy()
    turned.translate_sites(range(len(turned)), [0.2, 0.3, 0.4])
    turned = turned.from_sites(sorted(turned, key=lambda site: -site.frac_coords[0]))
    assert find_known(candidate.model_copy(update={"structure": turned}), both, settings, [known]) is known
    for changed in (candidate.structure.copy().scale_lattice(candidate.structure.volume * 1.05),
                    candidate.structure.copy(site_properties={"magmom": [3.0] * len(candidate.structure)}),
                    candidate.structure * (1, 1, 2)):  # fmt: skip
        assert find_known(candidate.model_copy(update={"structure": changed}), both, settings, [known]) is None
    assert find_known(candidate, ["unrelaxed", "mlip"], settings, [known]) is None
    other = RelaxationComparisonFlowMaker(relax_maker=replace(PairPotentialRelaxMaker(), steps=7))
    assert find_known(candidate, both, other.settings_key(*model), [known]) is None
    assert find_known(candidate, both, comparison.settings_key(model[0], "other"), [known]) is None
    known.relaxation("translated").cost.converged = False
    assert find_known(candidate, both, settings, [known]) is None
