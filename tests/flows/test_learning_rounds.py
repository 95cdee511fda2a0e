"""Rounds of active learning: which candidates they take, what they learn, and what they hand on."""

import base64
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobflow import run_locally
from monty.itertools import chunks

from cryslator_flows.analysis.formation_energies import formation_energies
from cryslator_flows.crystals.packing import Selection, TranslatedCandidates
from cryslator_flows.documents.relaxations import RelaxationComparison
from cryslator_flows.documents.rounds import Learned
from cryslator_flows.documents.summary import CampaignSummary
from cryslator_flows.errors import CampaignError, ModelError
from cryslator_flows.jobs.learn import NO_ELEMENT, LearnMaker
from cryslator_flows.jobs.learning_round import RoundMaker
from cryslator_flows.screening.acquisition import Acquisition
from cryslator_flows.training.round_tuning import FineTuning
from cryslator_flows.training.travel import pack_model, unpack_model
from tests.flows.makers import CompoundsOnlyRelaxMaker, FussyRelaxMaker, PairPotentialRelaxMaker
from tests.flows.test_screening import SPACES, TEMPLATES, screening, table

ENERGIES = {"Mn": -1.0, "Ca": -0.5, "Sr": -0.45, "Ba": -0.4, "O": -1.0}


def with_rounds(maker, tiny_model, rounds=2, size=3, energies=ENERGIES, **settings):
    learn = LearnMaker(
        model_name=str(tiny_model.path), element_energies=energies, fine_tune=FineTuning(epochs=1, minutes=0.02)
    )
    rounds = RoundMaker(
        maker.select_maker.relax_maker,
        rounds=rounds,
        acquisition=Acquisition(size, **settings),
        learn_maker=learn,
        translate_maker=maker.enumerate_maker.translate_maker,
    )
    maker.select_maker.relax_maker.known_elements = tuple(energies)
    return replace(maker, round_maker=rounds)


def documents(store, kind):
    """All documents of a kind: the last one of each job, oldest first."""
    rows = store.query({"output.@class": kind.__name__}, load=True, sort={"completed_at": 1})
    return [(row, kind.model_validate(row["output"])) for row in rows]


@pytest.mark.slow
def test_two_rounds(store, tmp_path, tiny_model):
    """Each relaxes what the newest model finds, learns from all so far, and leaves the rest to the next."""
    energies = {"O": ENERGIES["O"]}
    maker = screening(PairPotentialRelaxMaker(sigma=2.2), tiny_model, top_k=4)
    maker = with_rounds(maker, tiny_model, energies=energies)
    run_locally(maker.make(TEMPLATES, SPACES), store=store, create_folders=True, root_dir=tmp_path, log=False)
    learned = [document for _, document in documents(store, Learned)]
    first, second = learned[-1].outcomes
    assert learned[0].outcomes == [first]
    assert [item.round for item in (first, second)] == [1, 2]
    assert len({*first.batch, *second.batch}) == 6
    assert (first.pairs, second.pairs) == (3, 6)
    assert [item.model_name for item in (first, second)] == ["test-round-1", "test-round-2"]
    assert len({tiny_model.version(), first.model_version, second.model_version}) == 3
    assert first.energy_error > 0
    assert second.lowest_energy <= first.lowest_energy

    # The tuned model's files are in the additional store, and small documents remain.
    row = store.query_one({"output.@class": Learned.__name__})
    assert "blob_uuid" in row["output"]["model"]["files"]

    # Candidates are translated three times over, each time all of them, and by the newest model.
    rows = list(store.query({"name": {"$regex": "^translate"}, "output.@class": "TranslatedChunk"}))
    by_round = {number: [r for r in rows if r["metadata"].get("round") == number] for number in (None, 1, 2)}
    assert len({sum(r["output"]["stats"]["n_translated"] for r in part) for part in by_round.values()}) == 1
    assert {v for r in by_round[2] for v in r["output"]["stats"]["models"].items()} == {
        ("test-round-2", second.model_version)
    }

    # What rounds relaxed counts in the summary, and is not relaxed again.
    ((_, summary),) = documents(store, CampaignSummary)
    selection = documents(store, Selection)[0][1]
    compared = [document.candidate_id for _, document in documents(store, RelaxationComparison)]
    assert len(compared) == len(set(compared)) == summary.selected == summary.relaxed == selection.n_selected
    assert {*first.batch, *second.batch} <= set(selection.candidate_ids) == set(compared)
    assert summary.rounds == [first, second]

    # Elements are relaxed where a round or the selection first needs them, once each, and the rounds learn from them.
    relaxed = [row["metadata"]["element"] for row in store.query({"metadata.element": {"$ne": None}}, ["metadata"])]
    assert len(relaxed) == len(set(relaxed))
    assert {"Mn"} < set(relaxed) == set(summary.element_energies) <= {"Mn", "Ca", "Sr", "Ba"}
    (lowest,) = [item for _, item in documents(store, RelaxationComparison) if item.candidate_id == second.lowest]
    formed = formation_energies([lowest], summary.element_energies | energies)
    assert second.lowest_energy == pytest.approx(formed.energies[second.lowest])
    assert summary.translated == sum(r["output"]["stats"]["n_translated"] for r in by_round[None])


@pytest.mark.slow
def test_a_round_without_pairs_says_so_and_goes_on(store, tmp_path, tiny_model):
    """Relaxations that fail teach nothing: the model stays, the candidates are not tried again, rounds end early."""
    maker = with_rounds(screening(FussyRelaxMaker(fails_with="Mn"), tiny_model, top_k=2), tiny_model, size=7, rounds=9)
    run_locally(maker.make(TEMPLATES, SPACES), store=store, create_folders=True, root_dir=tmp_path, log=False)
    ((_, summary),) = documents(store, CampaignSummary)
    assert 1 < len(summary.rounds) < 9
    assert sum(len(item.batch) for item in summary.rounds) == summary.translated == summary.selected
    for outcome in summary.rounds:
        assert (outcome.model_name, outcome.model_version) == ("tiny", tiny_model.version())
        assert outcome.not_learnt.startswith("0 training pairs so far")
        assert outcome.energy_error is outcome.lowest_energy is None


@pytest.mark.slow
def test_what_has_an_element_without_energy_teaches_nothing(store, tmp_path, tiny_model):
    relax = CompoundsOnlyRelaxMaker(sigma=2.2, fails_for="Mn")
    maker = with_rounds(screening(relax, tiny_model, top_k=1), tiny_model, rounds=1, energies={})
    run_locally(maker.make(TEMPLATES, SPACES), store=store, create_folders=True, root_dir=tmp_path, log=False)
    ((_, summary),) = documents(store, CampaignSummary)
    assert summary.elements_without_energy == {"Mn": "a relaxation job failed"}
    (outcome,) = summary.rounds
    assert (outcome.energy_error, outcome.lowest_energy, outcome.pairs) == (None, None, 0)
    assert outcome.dropped == {NO_ELEMENT: 3}


def test_an_element_without_energy_is_one_clear_error(tiny_model):
    maker = screening(PairPotentialRelaxMaker(), tiny_model, top_k=2)
    enumerate_maker = replace(maker.enumerate_maker, elements=["Mn"])
    with pytest.raises(CampaignError, match=r"element_energies lacks .*O.*, which candidates have"):
        enumerate_maker.make.original(enumerate_maker, TEMPLATES, SPACES, maker.select_maker.cuts)


def test_batch_by_hand(perovskite):
    candidates = table(
        perovskite,
        ("a", {}, -3.0, 0.1), ("b", {}, -2.9, 0.4), ("c", {}, -2.8, 0.1), ("d", {"Ca": "Sr"}, -2.5, 0.1),
        ("bad", {}, -9.0, 0.1),
    )  # fmt: skip

    def chosen(size=9, **fields):
        return Acquisition(size, **fields).choose(candidates).arrays()["candidate_id"].tolist()

    assert chosen() == ["b", "a", "c", "d"]
    assert chosen(exploration=0.0) == ["a", "b", "c", "d"]
    assert chosen(per_composition=1) == ["b", "d"]
    assert chosen(size=2) == ["b", "a"]
    assert chosen(size=2, excluded=["b", "d"]) == ["a", "c"]
    assert chosen(excluded=["a", "b", "c", "d"]) == []


@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["Ca", "Sr"]), st.integers(-9, 0), st.integers(1, 5), st.booleans()),
        min_size=1, max_size=16,
    ),
    parts=st.integers(1, 5),
    size=st.integers(1, 6),
    exploration=st.sampled_from([0.0, 1.0, 3.0]),
    per_composition=st.sampled_from([None, 1, 2]),
)  # fmt: skip
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_batch_from_batches_is_that_from_all(perovskite, rows, parts, size, exploration, per_composition):
    entries = [
        (f"{number:02}", {"Ca": symbol}, energy / 4, uncertainty / 8)
        for number, (symbol, energy, uncertainty, _) in enumerate(rows)
    ]
    relaxed = [f"{number:02}" for number, row in enumerate(rows) if row[3]]
    acquisition = Acquisition(size, exploration, per_composition).excluding(relaxed)
    expected = acquisition.choose(table(perovskite, *entries)).arrays()
    chosen = [acquisition.choose(table(perovskite, *chunk)) for chunk in chunks(entries, parts)]
    found = acquisition.choose(TranslatedCandidates.join(chosen)).arrays()
    assert found["candidate_id"].tolist() == expected["candidate_id"].tolist()
    assert not set(expected["candidate_id"].tolist()) & set(relaxed)
    assert len(expected["candidate_id"]) <= size
    if per_composition:
        assert np.unique(expected["formula"], return_counts=True)[1].max(initial=0) <= per_composition


def test_a_model_travels_in_a_document(tmp_path, tiny_model):
    packed = pack_model(tiny_model, "base")
    written = unpack_model(packed, tmp_path / "elsewhere")
    assert written.path == tmp_path / "elsewhere/tiny"
    assert written.version() == packed.version == tiny_model.version()
    assert written.config() == tiny_model.config()
    damaged = packed.model_copy(deep=True)
    weights = bytearray(base64.b64decode(damaged.files["model.safetensors"]))
    weights[-1] ^= 1
    damaged.files["model.safetensors"] = base64.b64encode(weights).decode()
    with pytest.raises(ModelError, match="was damaged"):
        unpack_model(damaged, tmp_path / "again")
