"""Starts that an interatomic potential makes, of the unrelaxed and of the translated structure."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jobflow import job, run_locally
from maggma.stores import MemoryStore
from pydantic import ValidationError
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from cryslator_flows.campaign.relaxation_settings import RelaxationSettings
from cryslator_flows.counting import count_steps
from cryslator_flows.crystals.symmetry import SYMPREC
from cryslator_flows.documents.candidates import Candidate, EnumerationCounts, Translation, TranslationStats
from cryslator_flows.documents.relaxations import STARTS, RelaxationComparison
from cryslator_flows.flows.relaxation_comparison import RelaxationComparisonFlowMaker
from cryslator_flows.jobs.compare import CompareMaker
from cryslator_flows.jobs.relax import RelaxSelectedMaker
from cryslator_flows.jobs.summarize import summarize
from cryslator_flows.results.frames import relaxations_frame
from cryslator_flows.running.local.job_loop import LocalRun
from cryslator_flows.training.tracking import with_calibration
from cryslator_flows.translator.expected_errors import ExpectedErrors
from tests.flows.makers import DoubleMaker, FussyRelaxMaker, PairPotentialRelaxMaker
from tests.flows.test_screening import run, screening


def candidate_of(structure):
    return Candidate(
        candidate_id="ab", template_id="t", substitution={}, structure=structure,
        reduced_formula=structure.composition.reduced_formula, chemsys=structure.chemical_system,
    )  # fmt: skip


def translation_of(structure):
    return Translation(
        candidate_id="ab", structure=structure, formation_energy_per_atom=-1, formation_energy_uncertainty=0.1,
        formation_energy_uncertainty_90=0.2, mean_displacement=0, volume_change=0, max_principal_strain=0,
        atoms_too_close=False, unknown_elements=[], domain_distance=0, out_of_domain=False, model_name="m",
        model_version="v",
    )  # fmt: skip


@dataclass
class ChoosyMaker(PairPotentialRelaxMaker):
    """A potential that fails for cells above a volume."""

    name: str = "potential"
    fails_above: float = 1e9

    @job
    def make(self, structure, prev_dir=None):
        if structure.volume > self.fails_above:
            raise RuntimeError("too large for this potential")
        return PairPotentialRelaxMaker.make.original(self, structure)


@dataclass
class RecordingMaker(PairPotentialRelaxMaker):
    """Writes the structure it starts from beside its job."""

    @job
    def make(self, structure, prev_dir=None):
        structure.to("start.json")
        return PairPotentialRelaxMaker.make.original(self, structure)


@pytest.fixture
def pair(rutile):
    """An unrelaxed and a translated structure that are not each other scaled."""
    translated = rutile.copy()
    translated.scale_lattice(rutile.volume * 0.9)
    return rutile, translated


def compare(maker, pair, starts, store, folder, how=run_locally):
    flow = maker.make(candidate_of(pair[0]), translation_of(pair[1]), starts)
    if how is run_locally:
        run_locally(flow, store=store, create_folders=True, root_dir=folder, log=False)
    else:
        how(flow, store, folder)
    return RelaxationComparison.model_validate(store.get_output(flow.jobs[-1].uuid, load=True)), flow


def run_here(flow, store, folder):
    journal = MemoryStore(key="entry")
    journal.connect()
    LocalRun(store, journal, folder, lambda *_: None).run(flow)


def relaxed(structure, folder):
    work = PairPotentialRelaxMaker().make(structure)
    return run_locally(work, create_folders=True, root_dir=folder, log=False)[work.uuid][1].output


def test_each_potential_start_is_its_own_structure_relaxed_first(pair, store, tmp_path):
    maker = RelaxationComparisonFlowMaker(relax_maker=RecordingMaker(), mlip_maker=PairPotentialRelaxMaker())
    comparison, flow = compare(maker, pair, STARTS, store, tmp_path / "flow")
    assert [item.start for item in comparison.relaxations] == list(STARTS)
    assert [item.start for item in comparison.endings] == ["scaled", "translated", "mlip", "translated_mlip"]
    for start, before in (("mlip", pair[0]), ("translated_mlip", pair[1])):
        spent = comparison.relaxation(start).prerelaxation
        expected = count_steps(relaxed(before, tmp_path))
        assert (spent.ionic_steps, spent.engine, spent.converged) == (expected.ionic_steps, expected.engine, True)
        assert spent.wall_time > 0
        # Relaxed by the same potential already: what is left are a step or two, and those alone are the start's cost.
        assert comparison.relaxation(start).cost.ionic_steps <= 3 < spent.ionic_steps
    for start in ("unrelaxed", "translated"):
        assert comparison.relaxation(start).prerelaxation is None
    # The potential's jobs are placed and named like the relaxations of their start.
    made = [work for work, _ in flow.iterflow() if work.metadata.get("start") == "translated_mlip"]
    assert [work.metadata["stage"] for work in made] == ["relax"] * 3
    assert all(work.name.endswith("TiO2 translated_mlip") for work in made)


def test_the_scaled_start_is_the_unrelaxed_structure_at_the_translated_volume(pair, store, tmp_path):
    translated = pair[1].copy()
    translated.perturb(0.1)
    maker = RelaxationComparisonFlowMaker(relax_maker=RecordingMaker())
    compare(maker, (pair[0], translated), ["scaled"], store, tmp_path)
    (path,) = Path(tmp_path).rglob("start.json")
    start = pair[0].from_file(path)
    assert start.volume == pytest.approx(translated.volume)
    assert start.frac_coords == pytest.approx(pair[0].frac_coords)
    assert start.lattice.angles == pytest.approx(pair[0].lattice.angles)
    assert maker.settings_key("m", "1", ["scaled"]) != maker.settings_key("m", "2", ["scaled"])
    assert pair[0].volume == pytest.approx(candidate_of(pair[0]).structure.volume)


def test_frozen_atoms_of_a_candidate_move(pair, store, tmp_path):
    frozen = pair[0].copy(site_properties={"selective_dynamics": [[False] * 3] * 6, "magmom": [1.0] * 6})
    maker = RelaxationComparisonFlowMaker(relax_maker=RecordingMaker())
    comparison, _ = compare(maker, (frozen, pair[1]), ["unrelaxed", "translated"], store, tmp_path)
    starts = [json.loads(path.read_text()) for path in tmp_path.glob("*/start.json")]
    assert len(starts) == 2
    assert {key for start in starts for site in start["sites"] for key in site["properties"]} == {"magmom"}
    assert set(comparison.unrelaxed_structure.site_properties) == {"magmom"}


def test_the_symmetry_is_that_of_the_structure_it_came_from(pair, store, tmp_path):
    maker = RelaxationComparisonFlowMaker(relax_maker=RecordingMaker(), mlip_maker=PairPotentialRelaxMaker())
    compare(maker, pair, ["translated_mlip"], store, tmp_path)
    (path,) = Path(tmp_path).rglob("start.json")
    start = pair[0].from_file(path)
    assert start.volume != pytest.approx(pair[1].volume, rel=1e-3)
    assert [len(SpacegroupAnalyzer(part, SYMPREC).get_symmetry_operations()) for part in (start, pair[1])] == [16, 16]
    assert start.species == pair[1].species


@pytest.mark.parametrize("how", [run_locally, run_here])
def test_a_failed_potential_fails_its_start_alone(pair, store, tmp_path, how):
    potential = ChoosyMaker(fails_above=0.95 * pair[0].volume)
    maker = RelaxationComparisonFlowMaker(relax_maker=DoubleMaker(), mlip_maker=potential)
    comparison, _ = compare(maker, pair, STARTS, store, tmp_path, how)
    failed = comparison.relaxation("mlip")
    assert (failed.structure, failed.error) == (None, "the pre-relaxation with the potential failed")
    assert failed.prerelaxation is None
    assert {item.start: item.outcome for item in comparison.endings} == {
        "scaled": "same minimum", "translated": "same minimum", "mlip": "failed", "translated_mlip": "same minimum",
    }  # fmt: skip


def test_a_potential_of_several_jobs(pair, store, tmp_path):
    maker = RelaxationComparisonFlowMaker(relax_maker=PairPotentialRelaxMaker(), mlip_maker=DoubleMaker())
    comparison, _ = compare(maker, pair, ["unrelaxed", "mlip"], store, tmp_path)
    single = count_steps(relaxed(pair[0], tmp_path / "single")).ionic_steps
    assert comparison.relaxation("mlip").prerelaxation.ionic_steps > single
    assert comparison.ending("mlip").outcome == "same minimum"


def test_a_document_without_steps_tells_no_cost(pair):
    comparison = CompareMaker().make.original(
        CompareMaker(), candidate_of(pair[0]), translation_of(pair[1]), {"mlip": [None]}, {"mlip": ["u"]}, "c",
        potentials={"mlip": [{"structure": pair[0]}]},
    )  # fmt: skip
    relaxation = comparison.relaxation("mlip")
    assert (relaxation.prerelaxation, relaxation.error) == (None, "a relaxation job failed")


def test_settings_of_the_potential_are_settings():
    keys = {
        RelaxationComparisonFlowMaker(relax_maker=PairPotentialRelaxMaker(), mlip_maker=potential).settings_key(
            "m", "v"
        )
        for potential in (PairPotentialRelaxMaker(), replace(PairPotentialRelaxMaker(), steps=7), DoubleMaker())
    }
    assert len(keys) == 3


def with_errors(model):
    """Give a model expected errors of one for volume, shape and positions."""
    errors = ExpectedErrors(torch.zeros(3, 7), torch.ones(6, 3))
    with_calibration(model, replace(model.calibration(), errors=errors))


@pytest.mark.parametrize(
    ("starts", "other"),
    [
        (("unrelaxed", "translated"), "translated"),
        (STARTS, "translated_mlip"),
        (("unrelaxed", "translated_mlip"), "translated_mlip"),
        (("unrelaxed", "translated", "mlip"), "mlip"),
        (("unrelaxed",), "unrelaxed"),
    ],
)
def test_what_is_no_control_starts_nearest_to_the_relaxed_structure(starts, other):
    assert RelaxSelectedMaker(None, control_starts=starts).other_start == other


def test_uncertain_structures_go_through_the_potential(pair):
    """The distance is 5 for a displacement of 3 and a shape of 2 times 2 angstrom."""
    certain = translation_of(pair[1])
    uncertain = certain.model_copy(update={"shape_uncertainty_90": 2.0, "displacement_uncertainty_90": 3.0})
    assert (certain.distance_90(), uncertain.distance_90()) == (None, 5.0)
    maker = RelaxSelectedMaker(None, uncertain_above=4.9, control_ids=("control",))
    assert maker.starts_of("other", certain) == ["translated"]
    assert maker.starts_of("other", uncertain) == ["translated_mlip"]
    assert maker.starts_of("control", uncertain) == ["unrelaxed", "translated"]
    for calm in (replace(maker, uncertain_above=5.1), replace(maker, uncertain_above=None)):
        assert calm.starts_of("other", uncertain) == ["translated"]
    assert replace(maker, control_starts=("unrelaxed",)).starts_of("other", uncertain) == ["unrelaxed"]


def test_the_limit_applies_where_a_potential_is_named():
    named = RelaxationSettings.model_validate({"mlip": {}})
    assert (named.uncertain_limit, named.needs_potential) == (0.14, True)
    assert (RelaxationSettings().uncertain_limit, RelaxationSettings().needs_potential) == (None, False)
    assert RelaxationSettings.model_validate({"mlip": {}, "uncertain_above": None}).needs_potential is False
    with pytest.raises(ValidationError, match="uncertain_above"):
        RelaxationSettings(uncertain_above=0)


def test_an_uncertain_candidate_of_a_campaign_starts_from_the_potential(store, tmp_path, tiny_model):
    """The tiny model states no uncertainty of structures; with one far above the limit all others are uncertain."""
    maker = screening(FussyRelaxMaker(), tiny_model, top_k=2, controls=1)
    relax = maker.select_maker.relax_maker
    relax.uncertain_above = 1e-9
    relax.comparison_maker.mlip_maker = PairPotentialRelaxMaker()
    with_errors(tiny_model)
    summary = run(maker, store, tmp_path)
    assert summary.outcomes["translated_mlip"] == {"not compared": 1}
    (spent,) = summary.prerelaxations
    assert (spent.start, spent.n_candidates) == ("translated_mlip", 1)


def test_a_campaign_from_the_potential_relaxed_translation(store, tmp_path, tiny_model):
    maker = screening(FussyRelaxMaker(), tiny_model, top_k=2, controls=0)
    relax = maker.select_maker.relax_maker
    relax.control_starts = ("unrelaxed", "translated_mlip")
    relax.comparison_maker.mlip_maker = PairPotentialRelaxMaker()
    summary = run(maker, store, tmp_path)
    assert summary.outcomes == {"translated_mlip": {"not compared": 2}}
    (spent,) = summary.prerelaxations
    assert (spent.start, spent.n_candidates, spent.unconverged) == ("translated_mlip", 2, 0)
    rows = [
        RelaxationComparison.model_validate(row["output"])
        for row in store.query({"output.@class": "RelaxationComparison"}, load=True)
    ]
    frame = relaxations_frame(rows, {})
    assert np.mean(frame["prerelaxation_ionic_steps"]) == spent.ionic_steps
    assert set(frame["prerelaxation_engine"]) == set(spent.engines)
    assert (frame["prerelaxation_wall_time"] > 0).all()
    assert summarize("test", EnumerationCounts(), TranslationStats(), 2, rows).prerelaxations == [spent]
    assert [row.digest().relaxation("translated_mlip").prerelaxation for row in rows] == [
        row.relaxation("translated_mlip").prerelaxation for row in rows
    ]


@pytest.mark.slow
def test_four_starts_with_chgnet(rutile, store, tmp_path):
    """The default potential on a real oxide: all four starts end in one minimum."""
    translated = rutile.copy()
    translated.scale_lattice(rutile.volume * 1.04)
    comparison, _ = compare(RelaxationComparisonFlowMaker(), (rutile, translated), STARTS, store, tmp_path)
    assert {item.outcome for item in comparison.endings} == {"same minimum"}
    for start in ("mlip", "translated_mlip"):
        assert comparison.relaxation(start).prerelaxation.engine == "CHGNet"
        assert comparison.relaxation(start).prerelaxation.ionic_steps > 1
        assert comparison.relaxation(start).cost.ionic_steps <= 2
