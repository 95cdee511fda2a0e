"""Pairs grown from substituted templates, without translation."""

from collections import Counter

import numpy as np
import pytest
from atomate2.vasp.flows.core import DoubleRelaxMaker
from atomate2.vasp.powerups import update_user_incar_settings
from jobflow import run_locally
from maggma.stores import MemoryStore
from pymatgen.core import Structure
from pymatgen.util.coord import pbc_shortest_vectors

from cryslator_flows.crystals.enumeration import Enumeration
from cryslator_flows.crystals.substitution import RolePools
from cryslator_flows.crystals.templates import AflowTemplates
from cryslator_flows.documents.grown_pairs import GrownPairs, PairCounts, PairsChunk
from cryslator_flows.flows.pairs_flow import PairsFlowMaker
from cryslator_flows.jobs import enumerate as enumerate_module
from cryslator_flows.jobs.count_pairs import CountPairsMaker
from cryslator_flows.jobs.grow_pairs import GrowPairsMaker
from cryslator_flows.jobs.placing import ALL_STAGES, configure_stages
from cryslator_flows.jobs.relax_lanes import LANES
from cryslator_flows.pairs.make import PairFolder
from cryslator_flows.pairs.raw import Dropped
from cryslator_flows.pairs.sources.grown import grown_pairs
from cryslator_flows.running.local.job_loop import LocalRun
from cryslator_flows.training.records import PairRecord, read_records
from tests.flows.makers import DoubleMaker, FussyRelaxMaker, PairPotentialRelaxMaker
from tests.flows.test_screening import SPACES, TEMPLATES

# At fixed cells: a Lennard-Jones crystal would strain oxides beyond what counts as one relaxation.
GENTLE = PairPotentialRelaxMaker(relax_cell=False)
ENERGIES = {"Mn": -9.0, "Ca": -2.0, "Sr": -1.6, "Ba": -1.9, "O": -4.9}


@pytest.fixture(scope="module")
def candidates():
    return {candidate.candidate_id: candidate for candidate in Enumeration(TEMPLATES[0].load(), SPACES)}


def grow(relax_maker, store, folder, chunk_size=4, how=run_locally, **fields):
    maker = PairsFlowMaker("grown", relax_maker, grow_maker=GrowPairsMaker(chunk_size=chunk_size), **fields)
    flow = maker.make(TEMPLATES, SPACES)
    if how is run_locally:
        run_locally(flow, store=store, create_folders=True, root_dir=folder, log=False, raise_immediately=False)
    else:
        how(flow, store, folder)
    return GrownPairs.model_validate(store.get_output(flow.jobs[-1].uuid, load=True))


def run_here(flow, store, folder, report=lambda happening, job: None):
    journal = MemoryStore(key="entry")
    journal.connect()
    LocalRun(store, journal, folder, report).run(flow)


def chunks(store):
    rows = store.query({"output.@class": "PairsChunk"}, load=True)
    return [PairsChunk.model_validate(row["output"]) for row in rows]


@pytest.mark.parametrize("how", [run_locally, run_here])
def test_every_candidate_is_a_pair_or_counted(store, tmp_path, candidates, how):
    maker = FussyRelaxMaker(fails_with="Sr", unconverged_with="Ba", relax_cell=False)
    grown = grow(maker, store, tmp_path, how=how)
    symbols = Counter(
        "Sr" if "Sr" in item.chemsys else "Ba" if "Ba" in item.chemsys else "Ca" for item in candidates.values()
    )
    assert grown.enumeration.unique == grown.counts.n_candidates == len(candidates)
    assert grown.counts.dropped["relaxation failed"] == symbols["Sr"]
    # Some of these have converged after two steps.
    assert 1 <= grown.counts.dropped["not converged"] <= symbols["Ba"]
    assert grown.counts.n_pairs + sum(grown.counts.dropped.values()) == len(candidates)
    assert grown.counts.engines == ["lennardjones"]
    found = list(grown_pairs(store, "grown"))
    names = [item.name if isinstance(item, Dropped) else item.target for item in found]
    assert sorted(names) == sorted(candidates)
    assert sum(isinstance(item, Dropped) for item in found) == sum(grown.counts.dropped.values())
    assert list(grown_pairs(store, "another")) == []


def test_a_pair_has_what_training_and_leakage_need(store, tmp_path, candidates):
    known = {symbol: energy for symbol, energy in ENERGIES.items() if symbol != "Sr"}
    grow(GENTLE, store, tmp_path, element_energies=known)
    rows = [pair for chunk in chunks(store) for pair in chunk.pairs]
    documents = {
        row["metadata"]["candidate_id"]: row["output"]
        for row in store.query({"metadata.stage": "relax"}, ["metadata", "output"], load=True)
    }
    assert len(rows) > 5
    for row in rows:
        record, candidate = PairRecord.model_validate(row), candidates[row["target"]]
        document = documents[record.target]
        assert record.structure("unrelaxed").matches(candidate.structure, scale=False)
        relaxed = Structure.from_dict(document["structure"])
        distances = pbc_shortest_vectors(
            relaxed.lattice, relaxed.frac_coords - relaxed.frac_coords[0],
            (moved := record.structure("relaxed").frac_coords) - moved[0], return_d2=True,
        )[1]  # fmt: skip
        assert np.diag(distances).max() < 1e-8
        assert record.species == [site.specie.symbol for site in candidate.structure]
        assert row["energy_per_atom"] == pytest.approx(document["output"]["energy"] / len(record.species))
        assert (row["template"], row["substitution"]) == (candidate.template_id, candidate.substitution)
        assert row["template_formula"]
        shares = candidate.structure.composition.fractional_composition.get_el_amt_dict()
        if "Sr" in shares:
            assert record.formation_energy_per_atom is None
        else:
            reference = sum(share * known[symbol] for symbol, share in shares.items())
            assert record.formation_energy_per_atom == pytest.approx(row["energy_per_atom"] - reference)


def test_documents_stay_small_and_chunks_wait_for_each_other(store, tmp_path, candidates, monkeypatch):
    monkeypatch.setattr(enumerate_module, "PARTS_PER_JOB", 2)
    grown = grow(GENTLE, store, tmp_path, chunk_size=1)
    found = chunks(store)
    assert len(found) == len(candidates) == 12
    assert sum(chunk.counts.n_candidates for chunk in found) == grown.counts.n_candidates == len(candidates)
    assert grown.counts.n_pairs == sum(len(chunk.pairs) for chunk in found) > 5
    # 12 counts by 6 jobs, those by 3, those by 2.
    assert store.count({"name": "count pairs"}) == 6 + 3 + 2
    for row in store.query({"output.@class": "PairsChunk"}):
        assert "blob_uuid" in row["output"]["pairs"]
    stages = {row["metadata"]["stage"] for row in store.query() if row["name"] != "store_inputs"}
    assert stages == {"enumerate", "select", "relax", "compare", "summarize"}


def test_chunks_beyond_the_fourth_need_an_earlier_one():
    maker = GrowPairsMaker(chunk_size=1)
    spaces = [RolePools(kind="roles", cations=[["Mn", "Ti", "V"], ["Ca", "Sr", "Ba"]])]
    replacement = GrowPairsMaker.make.original(maker, TEMPLATES, spaces, "x").replace
    made = [work for work in replacement.jobs if work.name.startswith("relax chunk")]
    assert len(made) > LANES
    assert [len(work.input_uuids) for work in made] == [0] * LANES + [1] * (len(made) - LANES)
    assert set(made[LANES].input_uuids) == {made[0].uuid}


def test_a_chunk_that_is_lost_is_counted(store, tmp_path, candidates):
    made = GrowPairsMaker().summarize_maker
    enumeration = Enumeration(TEMPLATES[0].load(), SPACES)
    list(enumeration)
    parts = [PairCounts(n_candidates=2, n_pairs=1, dropped={"not converged": 1}), None]
    grown = type(made).make.original(made, "x", enumeration.counts, parts)
    lost = len(candidates) - 2
    assert grown.counts.dropped == {"the job of its chunk failed": lost, "not converged": 1}
    assert grown.counts.n_candidates == len(candidates)
    counted = CountPairsMaker.make.original(CountPairsMaker(), [*parts, parts[0]])
    assert (counted.n_candidates, counted.n_pairs, counted.dropped) == (4, 2, {"not converged": 2})


def test_relax_maker_of_several_jobs(store, tmp_path, candidates):
    """The cells relax here, and so far that aligning refuses all of them."""
    grown = grow(DoubleMaker(), store, tmp_path, chunk_size=50)
    assert grown.counts.dropped == {"strain over 0.35": len(candidates)}
    assert store.count({"metadata.stage": "relax"}) == 2 * len(candidates)


def test_files_that_train_reads(store, tmp_path):
    grow(GENTLE, store, tmp_path / "jobs", element_energies=ENERGIES)
    summary = PairFolder(tmp_path / "files").fill(grown_pairs(store, "grown"), "flow", "grown")
    records = [record for name in summary.files for record in read_records(tmp_path / "files" / name, PairRecord)]
    assert len(records) == summary.kept > 0
    stored = {pair["target"]: pair for chunk in chunks(store) for pair in chunk.pairs}
    for record in records:
        row = stored[record.target]
        assert record.formation_energy_per_atom == pytest.approx(row["formation_energy_per_atom"])
        assert record.structure("relaxed").volume == pytest.approx(
            PairRecord.model_validate(row).structure("relaxed").volume, rel=1e-5
        )


def test_powerups_reach_the_jobs():
    maker = update_user_incar_settings(PairsFlowMaker("x", DoubleRelaxMaker()), {"ENCUT": 777})
    (work,) = maker.make(TEMPLATES, SPACES).jobs
    relax_maker = work.maker.chunk_maker.relax_maker
    assert relax_maker.relax_maker2.input_set_generator.user_incar_settings["ENCUT"] == 777
    assert work.metadata == {"stage": "enumerate", "pairs_flow": "x"}


def test_every_job_gets_the_configuration_of_its_stage(store, tmp_path):
    configs = {stage: {"worker": stage} for stage in ("enumerate", "select", "relax", "compare", "summarize")}
    placed = Counter()

    def look(happening, job):
        if happening == "started" and not job.name.startswith("store_inputs"):
            config = {key: value for key, value in job.config.manager_config.items() if key != ALL_STAGES}
            assert config == {"worker": job.metadata["stage"]}
            placed[config["worker"]] += 1

    flow = PairsFlowMaker("x", GENTLE).make(TEMPLATES, SPACES)
    configure_stages(flow, configs)
    run_here(flow, store, tmp_path, look)
    assert placed.keys() == configs.keys()


@pytest.mark.slow
def test_chgnet_grows_pairs(store, tmp_path):
    """CHGNet is the default: two real oxides in two templates."""
    templates = [AflowTemplates(elements=["O"], anonymous_formulas=["AB"], max_atoms=4)]
    spaces = [RolePools(kind="roles", cations=[["Mg", "Ca"]])]
    flow = PairsFlowMaker("oxides").make(templates, spaces)
    run_locally(flow, store=store, create_folders=True, root_dir=tmp_path, log=False)
    grown = GrownPairs.model_validate(store.get_output(flow.jobs[-1].uuid, load=True))
    assert grown.counts.engines == ["CHGNet"]
    pairs = [pair for pair in grown_pairs(store, "oxides") if not isinstance(pair, Dropped)]
    assert {pair.reduced_formula for pair in pairs} == {"MgO", "CaO"}
    for pair in pairs:
        assert pair.structure("relaxed").volume != pytest.approx(pair.structure("unrelaxed").volume, rel=1e-3)
        assert pair.model_extra["energy_per_atom"] < -4
