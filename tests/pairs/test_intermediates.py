"""Ionic steps of grown pairs as further unrelaxed crystals of their targets."""

from pymatgen.core import Structure

from cryslator_flows.documents.grown_pairs import GrownPairs, PairCounts
from cryslator_flows.flows.pairs_flow import PairsFlowMaker
from cryslator_flows.pairs.raw import Dropped
from cryslator_flows.pairs.sources.grown import grown_pairs
from tests.flows.conftest import memory_store
from tests.flows.makers import PairPotentialRelaxMaker
from tests.flows.test_pairs_flow import run_here
from tests.flows.test_screening import SPACES, TEMPLATES


def grow(folder, intermediates, **fields):
    store = memory_store()
    maker = PairPotentialRelaxMaker(relax_cell=False, **fields)
    flow = PairsFlowMaker("grown", maker, intermediates=intermediates).make(TEMPLATES, SPACES)
    run_here(flow, store, folder)
    counts = GrownPairs.model_validate(store.get_output(flow.jobs[-1].uuid, load=True)).counts
    return store, counts, [pair for pair in grown_pairs(store, "grown") if not isinstance(pair, Dropped)]


def test_ionic_steps_are_intermediates(tmp_path):
    _, plain, without = grow(tmp_path / "without", 0)
    store, counts, pairs = grow(tmp_path / "with", 2)
    firsts = [pair for pair in pairs if "ionic_step" not in pair.model_extra]
    frames = [pair for pair in pairs if "ionic_step" in pair.model_extra]
    assert (plain.n_intermediates, len(without)) == (0, plain.n_pairs)
    assert sorted(pair.target for pair in firsts) == sorted(pair.target for pair in without)
    assert (len(firsts), len(frames)) == (counts.n_pairs, counts.n_intermediates)
    assert counts.dropped == plain.dropped
    documents = {
        row["metadata"]["candidate_id"]: row["output"]
        for row in store.query({"metadata.stage": "relax"}, ["metadata", "output"], load=True)
    }
    by_target = {pair.target: pair for pair in firsts}
    assert 0 < len(frames) <= 2 * len(firsts)
    for frame in frames:
        first, number = by_target[frame.target], frame.model_extra["ionic_step"]
        steps = documents[frame.target]["output"]["ionic_steps"]
        assert 1 < number < len(steps)
        step = Structure.from_dict(steps[number - 1]["mol_or_struct"])
        assert frame.structure("unrelaxed").matches(step, scale=False)
        assert frame.structure("relaxed").matches(first.structure("relaxed"), scale=False)
        assert frame.model_extra == {**first.model_extra, "ionic_step": number}


def test_documents_without_structures_give_no_intermediates(tmp_path):
    _, counts, pairs = grow(tmp_path, 2, ionic_step_data=("energy",))
    assert counts.n_pairs == len(pairs) > 0
    assert counts.n_intermediates == 0


def test_counts_of_intermediates_add_up():
    parts = [PairCounts(n_pairs=1, n_intermediates=2), PairCounts(n_pairs=2, n_intermediates=3)]
    assert PairCounts.add(parts).n_intermediates == 5
