"""Pairs grown under jobflow-remote, and a potential that fails there: nothing waits for what will not come."""

import pytest

from cryslator_flows.crystals.enumeration import Enumeration
from cryslator_flows.crystals.substitution import RolePools
from cryslator_flows.crystals.templates import AflowTemplates
from cryslator_flows.documents.relaxations import RelaxationComparison
from cryslator_flows.flows.pairs_flow import PairsFlowMaker
from cryslator_flows.flows.relaxation_comparison import RelaxationComparisonFlowMaker
from cryslator_flows.jobs.grow_pairs import GrowPairsMaker
from cryslator_flows.pairs.raw import Dropped
from cryslator_flows.pairs.sources.grown import grown_pairs
from tests.flows.makers import DoubleMaker, FussyRelaxMaker, PairPotentialRelaxMaker
from tests.flows.test_starts import candidate_of, translation_of

pytestmark = pytest.mark.slow


def test_pairs_grow_around_failed_relaxations(jfr_project):
    relax_maker = FussyRelaxMaker(fails_with="Sr", relax_cell=False)
    maker = PairsFlowMaker("grown", relax_maker, grow_maker=GrowPairsMaker(chunk_size=1))
    templates = [AflowTemplates(elements=["O"], anonymous_formulas=["ABC3"], max_atoms=5)]
    spaces = [RolePools(kind="roles", cations=[["Mn"], ["Ca", "Sr"]])]
    jfr_project.submit(maker.make(templates, spaces))
    jfr_project.run(900)
    store = jfr_project.controller.jobstore
    candidates = {item.candidate_id: item for item in Enumeration(templates[0].load(), spaces)}
    found = {item.name if isinstance(item, Dropped) else item.target: item for item in grown_pairs(store, "grown")}
    assert found.keys() == candidates.keys()
    for name, item in found.items():
        failed = isinstance(item, Dropped) and item.reason == "relaxation failed"
        assert failed == ("Sr" in candidates[name].chemsys)
    (row,) = store.query({"output.@class": "GrownPairs"})
    counts = row["output"]["counts"]
    assert counts["n_candidates"] == len(candidates)
    assert counts["n_pairs"] == sum(not isinstance(item, Dropped) for item in found.values()) > 0


def test_a_potential_that_fails_fails_its_start_alone(jfr_project, rutile):
    maker = RelaxationComparisonFlowMaker(relax_maker=DoubleMaker(), mlip_maker=FussyRelaxMaker(fails_with="Ti"))
    starts = ["unrelaxed", "mlip", "translated_mlip"]
    jfr_project.submit(maker.make(candidate_of(rutile), translation_of(rutile.copy().apply_strain(-0.02)), starts))
    jfr_project.run(600)
    (row,) = jfr_project.controller.jobstore.query({"output.@class": "RelaxationComparison"}, load=True)
    comparison = RelaxationComparison.model_validate(row["output"])
    assert {item.outcome for item in comparison.endings} == {"failed"}
    assert comparison.relaxation("unrelaxed").cost.converged
    for start in starts[1:]:
        assert comparison.relaxation(start).error == "the pre-relaxation with the potential failed"


def test_a_potential_of_two_jobs(jfr_project, rutile):
    maker = RelaxationComparisonFlowMaker(relax_maker=PairPotentialRelaxMaker(), mlip_maker=DoubleMaker())
    jfr_project.submit(maker.make(candidate_of(rutile), translation_of(rutile), ["unrelaxed", "mlip"]))
    jfr_project.run(600)
    (row,) = jfr_project.controller.jobstore.query({"output.@class": "RelaxationComparison"}, load=True)
    comparison = RelaxationComparison.model_validate(row["output"])
    assert comparison.ending("mlip").outcome == "same minimum"
    assert comparison.relaxation("mlip").prerelaxation.converged
