"""Adaptation of the translator to a random sample of a campaign's candidates."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from jobflow import run_locally

from cryslator_flows.campaign.file import CampaignSettings
from cryslator_flows.crystals.packing import TranslatedCandidates, TranslatedChunk
from cryslator_flows.crystals.substitution import RolePools
from cryslator_flows.documents.adaptation import Adapted
from cryslator_flows.documents.candidates import Translation
from cryslator_flows.documents.summary import CampaignSummary
from cryslator_flows.flows.screening import ScreeningFlowMaker
from cryslator_flows.jobs import adapt_model
from cryslator_flows.jobs.adapt import AdaptMaker
from cryslator_flows.jobs.adapt_model import AdaptModelMaker
from cryslator_flows.jobs.learn import tune_here
from cryslator_flows.results.frames import potential_frame
from cryslator_flows.results.results import CampaignResults
from cryslator_flows.screening.acquisition import RandomSample
from cryslator_flows.screening.hulls import Competition
from cryslator_flows.training.recalibrate import recalibrate, score_held_out
from cryslator_flows.training.round_tuning import FineTuning
from cryslator_flows.training.travel import unpack_model
from cryslator_flows.translator.model_folder import ModelFolder
from cryslator_flows.translator.translator import Translator
from tests.flows.makers import FussyRelaxMaker, PairPotentialRelaxMaker
from tests.flows.test_potential_stage import FILE, few_compounds, staged  # noqa: F401
from tests.flows.test_screening import TEMPLATES, table

SPACES = [RolePools(kind="roles", cations=[["Mn", "Ti"], ["Ca", "Sr", "Ba"]])]


def adapting(potential, tiny_model, size, **fit) -> ScreeningFlowMaker:
    maker = staged(potential, tiny_model)
    translate = maker.enumerate_maker.translate_maker
    model_maker = AdaptModelMaker(model_name=translate.model_name, fine_tune=FineTuning(epochs=2, **fit))
    adapt = AdaptMaker(
        relax_maker=potential, batch=6, sample=RandomSample(size), model_maker=model_maker, translate_maker=translate
    )
    stops = replace(maker.select_maker, relax_maker=None)
    return replace(maker, select_maker=stops, adapt_maker=adapt)


def run(maker, store, tmp_path):
    flow = maker.make(TEMPLATES, SPACES)
    run_locally(flow, store=store, create_folders=True, root_dir=tmp_path, log=False)
    summary = CampaignSummary.model_validate(store.get_output(flow.jobs[-1].uuid))
    (row,) = store.query({"output.@class": Adapted.__name__}, load=True)
    return summary, Adapted.model_validate(row["output"])


@pytest.mark.slow
def test_a_sample_adapts_the_model_and_tests_it_on_the_other_half(store, tmp_path, tiny_model, few_compounds):  # noqa: F811
    potential = PairPotentialRelaxMaker(sigma=2.2, steps=60)
    summary, adapted = run(adapting(potential, tiny_model, 12), store, tmp_path)
    told = summary.adaptation
    assert told == adapted.adaptation
    assert (told.requested, told.n_sampled, told.n_relaxed, told.engine) == (12, 12, 12, "lennardjones")
    assert told.n_train + told.n_held_out + sum(told.dropped.values()) == 12
    assert 0 <= told.n_train - told.n_held_out <= 1
    assert told.after.energy_error < told.before.energy_error
    assert told.kept is None
    assert 0 <= told.after.coverage <= 1
    assert told.after.half_width > 0
    assert (adapted.model.name, adapted.relaxed) == ("test-adapted", [])
    # All candidates are translated again, and these translations count.
    results = CampaignResults(store, "test")
    rows = list(store.query({"output.@class": TranslatedChunk.__name__}))
    counts = [
        sum(row["output"]["stats"]["n_translated"] for row in rows if adapted is row["metadata"].get("adapted"))
        for adapted in (None, True)
    ]
    assert counts[0] == counts[1] == summary.translated > 12
    assert {name for chunk in results.chunks() for name in chunk.stats.models} == {"test-adapted"}
    assert summary.versions["test-adapted"] == adapted.model.version == told.model_version
    assert results.current_summary([]).adaptation == told
    # The starts changed, so the stage of the potential relaxes its candidates anew.
    frame = potential_frame(results, summary, Competition({}))
    assert frame.index.is_unique
    assert summary.potential.n_relaxed == 5
    # The compounds of the sample determine the energies of the elements.
    assert summary.potential.element_energies == told.element_energies
    assert store.count({"name": {"$regex": "known compounds"}}) == 1

    # The half held out is not in the training: the errors are those of the shipped model on it.
    model = unpack_model(adapted.model, tmp_path / "unpacked")
    base = tiny_model.calibration()
    assert len(model.calibration().known) == len(base.known) + told.n_train


@pytest.mark.slow
def test_the_own_model_is_kept_if_the_adapted_one_is_worse(store, tmp_path, tiny_model, few_compounds, monkeypatch):  # noqa: F811
    """It learns from wrong energies. The sample is larger than the space, with failures."""

    def tune_wrongly(name, base, records, settings):
        wrong = {"formation_energy_per_atom": 50.0}
        return tune_here(name, base, [record.model_copy(update=wrong) for record in records], settings)

    monkeypatch.setattr(adapt_model, "LEAST_HALF", 3)
    monkeypatch.setattr(adapt_model, "tune_here", tune_wrongly)
    potential = FussyRelaxMaker(fails_with="Sr", sigma=2.2)
    maker = adapting(potential, tiny_model, 1000, minutes=0.1)
    summary, adapted = run(maker, store, tmp_path)
    told = summary.adaptation
    assert (told.requested, told.n_sampled) == (1000, summary.translated)
    assert told.dropped["RuntimeError: no Sr here"] == told.n_sampled - told.n_relaxed > 0
    assert told.after.energy_error > told.before.energy_error
    assert "larger energy error" in told.kept
    assert (adapted.model, told.model_name) == (None, "tiny")
    assert {name for chunk in CampaignResults(store, "test").chunks() for name in chunk.stats.models} == {"tiny"}
    # The starts are as before, so nothing is relaxed twice.
    assert len(adapted.relaxed) == told.n_sampled
    assert summary.potential.n_relaxed + summary.potential.failed["RuntimeError: no Sr here"] == 5
    names = {row["name"] for row in store.query({"metadata.stage": "potential"})}
    assert not any(name.startswith("potential ") for name in names)


@pytest.mark.slow
def test_too_few_candidates_adapt_nothing(store, tmp_path, tiny_model, few_compounds):  # noqa: F811
    potential = FussyRelaxMaker(fails_with="O")
    summary, _ = run(adapting(potential, tiny_model, 10), store, tmp_path)
    told = summary.adaptation
    assert (told.n_train, told.n_held_out, told.before, told.after) == (0, 0, None, None)
    assert told.kept == "0 and 0 candidates in the halves, 5 are needed"
    assert sum(told.dropped.values()) == 10


def test_the_sample_is_random_and_the_same_however_candidates_are_cut(perovskite):
    entries = [(f"{number:02}", {}, -number / 10, 0.1) for number in range(40)]
    whole, sample = table(perovskite, *entries), RandomSample(12)

    def names(candidates):
        return candidates.arrays()["candidate_id"].tolist()

    chosen = names(sample.choose(whole))
    parts = [sample.choose(table(perovskite, *entries[first : first + 7])) for first in range(0, 40, 7)]
    assert names(sample.choose(TranslatedCandidates.join(parts))) == chosen
    assert len(set(chosen)) == 12
    assert chosen not in (sorted(chosen), names(RandomSample(12, seed=1).choose(whole)))
    assert 5 < np.mean([int(name) for name in chosen]) < 34
    assert len(names(RandomSample(99).choose(whole))) == 40


def translation(structure, energy):
    numbers = dict.fromkeys(("mean_displacement", "volume_change", "max_principal_strain", "domain_distance"), 0.0)
    return Translation(
        structure=structure, formation_energy_per_atom=energy, formation_energy_uncertainty=0.1,
        formation_energy_uncertainty_90=0.2, atoms_too_close=False, unknown_elements=[], out_of_domain=False,
        model_name="", model_version="", **numbers,
    )  # fmt: skip


def test_scores_by_hand(perovskite):
    energies = np.linspace(-2, 0, 20)
    # The two lowest by the potential are -2 and -1.89; the prediction exchanges the second with the last.
    predicted = energies.copy()
    predicted[[1, 19]] = predicted[[19, 1]]
    translations = [translation(perovskite, energy) for energy in predicted]
    scores = score_held_out(translations, np.full(20, 0.5), energies, np.full(20, perovskite.volume / 1.1))
    assert scores.recall == 0.5
    assert scores.coverage == 0.9
    assert scores.energy_error == pytest.approx(2 * (energies[19] - energies[1]) / 20)
    assert scores.volume_error == pytest.approx(0.1)
    assert scores.half_width == 0.5


def test_intervals_hold_as_often_as_stated(tiny_model, tmp_path, perovskite):
    """The base states far too small errors; of new candidates some 90 % are then in the intervals."""
    generator = np.random.default_rng(3)
    structures = [
        perovskite.copy().scale_lattice(perovskite.volume * scale) for scale in generator.uniform(0.8, 1.2, 400)
    ]
    translator = Translator(tiny_model)
    found = translator.translate_many(structures)
    half_widths = np.array([item.formation_energy_uncertainty_90 for item in found])
    errors = half_widths * generator.standard_normal(400) * 7
    energies = np.array([item.formation_energy_per_atom for item in found]) + errors
    copy = ModelFolder(shutil.copytree(tiny_model.path, tmp_path / "tuned"))
    _, tested = recalibrate(copy, tiny_model, [perovskite], structures[:200], energies[:200])
    after = Translator(copy).translate_many(structures)
    stated = np.array([item.formation_energy_uncertainty_90 for item in after])
    assert np.mean(np.abs(errors) < half_widths) < 0.2
    assert np.mean(np.abs(errors[200:]) < stated[200:]) == pytest.approx(0.9, abs=0.06)
    # What is reported is not of the candidates that set the width.
    assert len(set(np.round(tested / stated[:200], 6))) > 1
    assert np.mean(np.abs(errors[:200]) < tested) == pytest.approx(0.9, abs=0.06)


def test_settings():
    campaign = CampaignSettings.model_validate({**FILE, "potential": {"adapt": 50, "batch": 7}})
    maker = campaign.to_maker().adapt_maker
    assert (maker.sample, maker.batch, maker.model_maker.model_name) == (RandomSample(50), 7, campaign.model)
    assert CampaignSettings.model_validate({**FILE, "potential": {}}).to_maker().adapt_maker is None
    relaxation = {"element_energies": {"O": -5.0}}
    with pytest.raises(ValueError, match="remove `rounds` or `adapt`"):
        CampaignSettings.model_validate({**FILE, "potential": {"adapt": 50}, "rounds": {}, "relaxation": relaxation})
    with pytest.raises(ValueError, match="greater than or equal to 10"):
        CampaignSettings.model_validate({**FILE, "potential": {"adapt": 3}})
