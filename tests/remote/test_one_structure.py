"""A translated relaxation outside a campaign under jobflow-remote."""

import pytest

from cryslator_flows.documents.relaxations import JOB_FAILED, TranslatedRelaxation
from tests.flows.makers import DoubleMaker, FussyRelaxMaker
from tests.flows.test_translated_relax import translated

pytestmark = pytest.mark.slow


def test_relaxations_and_failures_are_counted(jfr_project, rutile, perovskite, tiny_model):
    jfr_project.submit(translated(DoubleMaker(), tiny_model).make(rutile))
    jfr_project.submit(translated(FussyRelaxMaker(fails_with="Ca"), tiny_model).make(perovskite))
    jfr_project.run(600)
    rows = jfr_project.controller.jobstore.query({"output.@class": "TranslatedRelaxation"}, load=True)
    found = {item.unrelaxed_structure.reduced_formula: item for item in map(_document, rows)}
    assert found["TiO2"].cost.converged
    assert found["TiO2"].structure.volume != pytest.approx(rutile.volume, rel=0.01)
    assert found["CaTiO3"].error == JOB_FAILED


def _document(row):
    return TranslatedRelaxation.model_validate(row["output"])
