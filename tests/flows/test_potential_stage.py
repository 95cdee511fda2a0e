"""The stage between translation and relaxation: a potential relaxes and selects."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from jobflow import job, run_locally

from cryslator_flows.campaign.file import CampaignSettings
from cryslator_flows.crystals.packing import Selection
from cryslator_flows.documents.potential import PotentialBatch
from cryslator_flows.documents.relaxations import RelaxationComparison
from cryslator_flows.documents.summary import CampaignSummary
from cryslator_flows.errors import CampaignError, CryslatorError
from cryslator_flows.flows.potential_stage import PotentialFlowMaker
from cryslator_flows.jobs import potential_relax
from cryslator_flows.jobs.potential_relax import RelaxReferencesMaker, relax_all
from cryslator_flows.jobs.potential_select import PotentialSelectMaker
from cryslator_flows.results.frames import potential_frame
from cryslator_flows.results.results import CampaignResults
from cryslator_flows.screening import fitted_references
from cryslator_flows.screening.cuts import Cuts
from cryslator_flows.screening.hulls import Competition
from tests.flows.makers import FussyRelaxMaker, LoggingRelaxMaker, PairPotentialRelaxMaker
from tests.flows.test_screening import SPACES, TEMPLATES, screening


@dataclass
class GrowingRelaxMaker(PairPotentialRelaxMaker):
    """Leaves a cell of ten times the volume."""

    @job
    def make(self, structure, prev_dir=None):
        document = PairPotentialRelaxMaker.make.original(self, structure)
        document.structure.scale_lattice(10 * structure.volume)
        return document


@dataclass
class LosingRelaxMaker(PairPotentialRelaxMaker):
    """Leaves a crystal of one formula without its first atom."""

    loses: str = ""

    @job
    def make(self, structure, prev_dir=None):
        document = PairPotentialRelaxMaker.make.original(self, structure)
        if structure.formula == self.loses:
            document.structure.remove_sites([0])
        return document


def staged(potential, tiny_model, top_k=2, **changes):
    maker = screening(PairPotentialRelaxMaker(), tiny_model, controls=1, top_k=5)
    relax = maker.select_maker.relax_maker
    relax.control_starts = ("unrelaxed", "translated", "translated_mlip")
    relax.comparison_maker.mlip_maker = potential
    select = PotentialSelectMaker(cuts=Cuts(top_k=top_k, known_phases=False))
    maker.select_maker.potential_maker = PotentialFlowMaker(
        relax_maker=potential, batch=2, select_maker=select, **changes
    )
    return maker


@pytest.fixture
def few_compounds(monkeypatch):
    """Fewer known compounds, to save time."""
    monkeypatch.setattr(fitted_references, "PER_ELEMENT", 2)
    monkeypatch.setattr(fitted_references, "MOST_ATOMS", 8)


def run(maker, store, tmp_path):
    flow = maker.make(TEMPLATES, SPACES)
    run_locally(flow, store=store, create_folders=True, root_dir=tmp_path, log=False)
    summary = CampaignSummary.model_validate(store.get_output(flow.jobs[-1].uuid))
    rows = store.query({"output.@class": "RelaxationComparison"}, load=True)
    return summary, [RelaxationComparison.model_validate(row["output"]) for row in rows]


def batches(store):
    rows = sorted(store.query({"metadata.stage": "potential"}, load=True), key=lambda row: row["name"])
    return [PotentialBatch.model_validate(row["output"]) for row in rows]


def test_what_the_potential_keeps_is_relaxed_from_its_structures(store, tmp_path, tiny_model, few_compounds):
    summary, comparisons = run(staged(PairPotentialRelaxMaker(sigma=2.0), tiny_model), store, tmp_path)
    stats = summary.potential
    assert (stats.engine, stats.n_relaxed, stats.n_selected, summary.selected) == ("lennardjones", 5, 2, 2)
    assert stats.ionic_steps > 1
    (spent,) = summary.prerelaxations
    assert (spent.start, spent.engines, spent.ionic_steps) == ("translated_mlip", ["lennardjones"], stats.ionic_steps)
    assert stats.failed == {}
    *of_candidates, of_compounds = batches(store)
    assert [len(batch.relaxed) for batch in of_candidates] == [2, 2, 1]
    assert len(of_compounds.relaxed) >= stats.n_compounds > 2
    by_name = {item.name: item for batch in of_candidates for item in batch.relaxed}
    assert len(comparisons) == 2
    starts = sorted(tuple(item.start for item in comparison.relaxations) for comparison in comparisons)
    assert starts == [("translated_mlip",), ("unrelaxed", "translated", "translated_mlip")]
    names = {comparison.candidate_id for comparison in comparisons}
    assert names < by_name.keys()
    # The most stable by the potential, not by the translator.
    frame = potential_frame(CampaignResults(store, "test"), summary, Competition({}))
    assert frame["fitted_formation_energy_per_atom"].is_monotonic_increasing
    assert {*frame.index[frame["selected"]]} == {*frame.index[:2]} == names
    assert len(frame) == 5
    selections = [
        Selection.model_validate(row["output"]) for row in store.query({"output.@class": "Selection"}, load=True)
    ]
    assert {*next(item.candidate_ids for item in selections if item.potential)} == names


def test_what_is_left_to_other_flows_starts_from_its_structures(store, tmp_path, tiny_model, few_compounds):
    maker = staged(PairPotentialRelaxMaker(sigma=2.0), tiny_model, top_k=3)
    maker.select_maker.max_relaxed = 1
    run(maker, store, tmp_path)
    selection = CampaignResults(store, "test").selection()
    names = [part.arrays()["candidate_id"].tolist() for part in (selection.remaining, selection.prerelaxed)]
    assert names == [selection.candidate_ids[1:]] * 2
    flow = maker.make_relaxations(selection.remaining, prerelaxed=selection.prerelaxed)
    run_locally(flow, store=store, create_folders=True, root_dir=tmp_path, log=False)
    relaxed = [
        row["metadata"] for row in store.query({"metadata.stage": "relax", "metadata.element": None}, ["metadata"])
    ]
    assert sorted(row["start"] for row in relaxed) == ["translated", *["translated_mlip"] * 3, "unrelaxed"]


def test_a_candidate_that_the_potential_cannot_relax_is_lost_alone(store, tmp_path, tiny_model, few_compounds):
    potential = FussyRelaxMaker(fails_with="Sr")
    summary, comparisons = run(staged(potential, tiny_model, top_k=5), store, tmp_path)
    lost = sum(summary.potential.failed.values())
    assert "no Sr here" in " ".join(summary.potential.failed)
    assert summary.potential.n_selected == 5 - lost == len(comparisons)
    assert not any("Sr" in comparison.reduced_formula for comparison in comparisons)


def test_a_killed_batch_goes_on_after_what_it_had_done(tmp_path, monkeypatch, rutile):
    (tmp_path / "job").mkdir()
    monkeypatch.chdir(tmp_path / "job")
    structures = [(str(scale), rutile.copy().scale_lattice(rutile.volume * scale)) for scale in (1.0, 1.05, 1.1)]
    maker = LoggingRelaxMaker(log=str(tmp_path / "log"))
    first = next(relax_all(maker, structures))
    again = list(relax_all(maker, structures))
    assert again[0] == first
    assert len((tmp_path / "log").read_text().splitlines()) == 3
    assert [item.name for item in again] == ["1.0", "1.05", "1.1"]
    # A structure that has ended its process twice is not tried again.
    file = next((tmp_path / "cryslator_potential").iterdir())
    file.write_text("\nstarted\n\nstarted\n")
    assert [item.error for item in relax_all(maker, structures) if item.error] == ["its process ended 2 times"]


def test_a_potential_that_relaxes_nothing_is_tried_again(tmp_path, monkeypatch, rutile, perovskite):
    def errors(potential):
        maker = RelaxReferencesMaker(relax_maker=potential)
        return [item.error for item in RelaxReferencesMaker.make.original(maker, ["Ti"]).relaxed]

    monkeypatch.setattr(potential_relax, "reference_compounds", lambda _: {"a": rutile, "b": perovskite})
    (tmp_path / "job").mkdir()
    monkeypatch.chdir(tmp_path / "job")
    maker = LoggingRelaxMaker(log=str(tmp_path / "missing" / "log"))
    for _ in range(3):
        with pytest.raises(CryslatorError, match=r"not even Si: FileNotFoundError: .*; correct this"):
            errors(maker)
    (tmp_path / "missing").mkdir()
    assert errors(maker) == [None, None]
    # What is due to the structures is no reason to try them again.
    assert errors(FussyRelaxMaker(fails_with="O")) == ["RuntimeError: no O here"] * 2


def test_a_cell_that_explodes_is_no_result(tmp_path, monkeypatch, rutile):
    (tmp_path / "job").mkdir()
    monkeypatch.chdir(tmp_path / "job")
    (item,) = relax_all(GrowingRelaxMaker(), [("a", rutile)])
    assert item.structure is None
    assert "without end" in item.error


def test_a_result_of_other_atoms_is_no_result(tmp_path, monkeypatch, rutile, perovskite):
    (tmp_path / "job").mkdir()
    monkeypatch.chdir(tmp_path / "job")
    (lost, kept) = relax_all(LosingRelaxMaker(loses="Ti2 O4"), [("a", rutile), ("b", perovskite)])
    assert lost.structure is None
    assert lost.error
    assert kept.structure is not None


def test_without_a_single_compound_nothing_is_selected(store, tmp_path, tiny_model, monkeypatch):
    monkeypatch.setattr(fitted_references, "MOST_ATOMS", 0)
    summary, comparisons = run(staged(PairPotentialRelaxMaker(), tiny_model), store, tmp_path)
    assert summary.selected == 0
    assert comparisons == []
    assert summary.potential.failed == {"an element has no energy by the potential": 5}


FILE = {
    "name": "staged",
    "templates": [{"source": "aflow", "anonymous_formulas": ["ABC3"], "elements": ["O"], "max_atoms": 5}],
    "substitutions": [{"kind": "roles", "cations": [["Mn"], ["Ca"]]}],
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"maker": "nonsense"}, ["potential.maker 'nonsense': not a known name; give 'chgnet'", "force_field_name"]),
        ({"maker": "DoubleRelaxMaker"}, ["potential.maker", "runs DFT"]),
        ({"maker": "tests.flows.makers.DoubleMaker"}, ["potential.maker", "a maker of one job"]),
    ],
)
def test_wrong_potentials(changes, words):
    with pytest.raises(CampaignError) as raised:
        CampaignSettings.model_validate({**FILE, "potential": changes}).to_maker()
    for word in words:
        assert word in str(raised.value)


def test_the_example_is_a_campaign():
    campaign = CampaignSettings.from_file(Path(__file__).parents[2] / "workflows/funnel-oxides.yaml")
    maker = campaign.to_maker().select_maker
    assert (maker.cuts.top_k, maker.potential_maker.batch, maker.relax_maker.controls) == (40, 20, 10)


def test_starts_follow_the_potential():
    campaign = CampaignSettings.model_validate({**FILE, "potential": {"select": {"top_k": 3}}})
    assert campaign.relaxation.starts == ("unrelaxed", "translated", "translated_mlip")
    maker = campaign.to_maker().select_maker
    assert maker.potential_maker.select_maker.cuts.top_k == 3
    assert maker.relax_maker.other_start == "translated_mlip"
    with pytest.raises(ValueError, match="add translated_mlip"):
        CampaignSettings.model_validate({**FILE, "potential": {}, "relaxation": {"starts": ["unrelaxed"]}})
