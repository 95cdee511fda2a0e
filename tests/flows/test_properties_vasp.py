"""The property comparison on VASP: atomate2's makers, custodian, emmet and the store are real, VASP is a double."""

import numpy as np
import pytest
from atomate2.vasp.jobs.mp import MPGGARelaxMaker
from jobflow import Flow, JobStore, run_locally
from maggma.stores import MemoryStore
from pymatgen.core import Structure

from cryslator_flows.documents.properties import PropertyComparison
from cryslator_flows.errors import DataError
from cryslator_flows.flows.property_comparison import PropertyComparisonFlowMaker, vasp_static_maker
from cryslator_flows.report.property_tables import plot_properties, properties_markdown
from tests.analysis.test_property_errors import electrons
from tests.support.fake_vasp.runs import poll_often

pytestmark = pytest.mark.slow


def test_from_relaxation_to_comparison(rutile, fake_vasp):
    """The relaxation sorts the sites of the candidate; all is compared, and none of it is a measurement."""
    start = Structure.from_sites(sorted(rutile, key=lambda site: site.specie.symbol))
    start.translate_sites([0], [0.02, 0.01, 0])
    relaxation = poll_often(MPGGARelaxMaker()).make(start)
    maker = PropertyComparisonFlowMaker(static_maker=poll_often(vasp_static_maker()))
    flow = maker.make("id", "TiO2", {"unrelaxed": start, "relaxed": relaxation.output.structure})
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    run_locally(Flow([relaxation, flow]), store=store, create_folders=True, root_dir=fake_vasp, log=False)
    found = PropertyComparison.model_validate(store.get_output(flow.output.uuid, load=True))

    relaxed = Structure.from_dict(store.get_output(relaxation.uuid)["structure"])
    assert [site.specie for site in relaxed] != [site.specie for site in start]
    errors = found.errors["unrelaxed"]
    assert found.missing == {}
    assert errors.volume == pytest.approx(start.volume / relaxed.volume - 1)
    assert errors.lengths == pytest.approx(np.subtract(start.lattice.abc, relaxed.lattice.abc))
    # Sites taken for one another would be two angstrom apart.
    assert 0.01 < errors.cartesian < 0.1

    unrelaxed, end = found.electronic["unrelaxed"], found.electronic["relaxed"]
    assert errors.band_gap == pytest.approx(unrelaxed.band_gap - end.band_gap)
    # The double's gap grows with the volume.
    assert errors.band_gap * errors.volume > 0
    assert 0 <= errors.dos_distance < 0.05
    settings = store.query_one({"name": "static TiO2 unrelaxed"})["output"]["input"]["parameters"]
    assert settings["NEDOS"] == 1001
    for item in (unrelaxed, end):
        assert item.engine == "VASP"
        assert item.dos_error is None
        assert electrons(item.dos) == pytest.approx(settings["NELECT"] / 6, rel=0.01)

    assert found.synthetic
    assert "Left out, since a test double calculated them: 1 candidates" in properties_markdown([found])
    with pytest.raises(DataError, match="none of 1 property comparisons is a measurement"):
        plot_properties(fake_vasp / "properties.png", [found])
