"""torch-sim's own Lennard-Jones model where torch-sim is installed (Python 3.12); else what needs no torch-sim."""

import json
import sys
from importlib.util import find_spec

import pytest
from jobflow import run_locally
from monty.json import MontyDecoder, MontyEncoder

from cryslator_flows.counting import count_steps
from cryslator_flows.documents.relaxations import RelaxationComparison
from cryslator_flows.engines.by_name import build_relax_maker, check_installed
from cryslator_flows.engines.torchsim import TorchSimRelaxMaker
from cryslator_flows.errors import CampaignError
from cryslator_flows.flows.relaxation_comparison import RelaxationComparisonFlowMaker
from tests.flows.conftest import memory_store
from tests.flows.makers import PairPotentialRelaxMaker
from tests.flows.test_starts import candidate_of, translation_of

PATH = "atomate2.torchsim.core.TorchSimOptimizeMaker"
LENNARD_JONES = {
    "model_type": "LennardJonesModel",
    "model_path": "",
    "model_kwargs": {"sigma": 1.9, "epsilon": 0.3, "cutoff": 6.0, "compute_stress": True},
}
needs_torch_sim = pytest.mark.skipif(find_spec("torch_sim") is None, reason="torch-sim is not installed")


def relax(structure, folder, **settings):
    maker = build_relax_maker(PATH, LENNARD_JONES | settings)
    # As a JobStore or a queue hands it on.
    work = json.loads(json.dumps(maker.make(structure), cls=MontyEncoder), cls=MontyDecoder)
    store = memory_store()
    run_locally(work, store=store, create_folders=True, root_dir=folder, log=False, raise_immediately=True)
    return store.get_output(work.uuid, load=True)


def test_without_torch_sim_a_campaign_can_be_submitted_but_not_run_here(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_sim", None)
    monkeypatch.setattr("cryslator_flows.engines.by_name.find_spec", lambda name: None)
    maker = build_relax_maker(PATH, LENNARD_JONES, "relaxation.mlip")
    assert isinstance(maker, TorchSimRelaxMaker)
    assert json.loads(json.dumps(maker, cls=MontyEncoder), cls=MontyDecoder) == maker
    with pytest.raises(CampaignError, match=r"torch-sim: not installed here; pip install 'atomate2\[torchsim\]'"):
        check_installed(maker, "relaxation.mlip")


@needs_torch_sim
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model_type": "MaceModl"}, "model_type 'MaceModl' is unknown; did you mean 'MaceModel'"),
        ({"optimizer": "fir"}, "did you mean 'fire'"),
        ({"convergence_fn": "forces"}, "did you mean 'force'"),
        ({"init_kwargs": {"cell_filter": "frechett"}}, "did you mean 'frechet'"),
        ({"steps": 7}, "unexpected keyword argument 'steps'"),
    ],
)
def test_mistakes_are_named(settings, words):
    with pytest.raises(CampaignError, match=rf"^relaxation.mlip.kwargs: torch-sim: .*{words}"):
        build_relax_maker(PATH, LENNARD_JONES | settings, "relaxation.mlip")


@needs_torch_sim
def test_cell_and_steps(rutile, tmp_path):
    document = relax(rutile, tmp_path)
    cost = count_steps(document)
    relaxed = rutile.from_dict(document["structure"])
    assert relaxed.volume != pytest.approx(rutile.volume, rel=0.01)
    assert relaxed.species == rutile.species
    assert (cost.engine, cost.converged, cost.electronic_steps) == ("torch-sim LennardJonesModel", True, None)
    # Convergence is looked for after every fifth move; a cell filter evaluates the first structure twice.
    assert cost.ionic_steps % 5 == 2
    assert cost.wall_time > 0
    fixed = relax(rutile, tmp_path, init_kwargs={})
    assert rutile.from_dict(fixed["structure"]).volume == pytest.approx(rutile.volume)


@needs_torch_sim
def test_cut_short(rutile, tmp_path):
    cost = count_steps(relax(rutile, tmp_path, max_steps=5, convergence_fn_kwargs={"force_tol": 1e-9}))
    assert (cost.ionic_steps, cost.converged) == (7, False)


@needs_torch_sim
def test_start_of_a_comparison(rutile, tmp_path):
    translated = rutile.copy().apply_strain(-0.03)
    potential = build_relax_maker(PATH, LENNARD_JONES)
    maker = RelaxationComparisonFlowMaker(relax_maker=PairPotentialRelaxMaker(), mlip_maker=potential)
    flow = maker.make(candidate_of(rutile), translation_of(translated), ["unrelaxed", "mlip", "translated_mlip"])
    store = memory_store()
    run_locally(flow, store=store, create_folders=True, root_dir=tmp_path, log=False)
    comparison = RelaxationComparison.model_validate(store.get_output(flow.jobs[-1].uuid, load=True))
    assert [item.outcome for item in comparison.endings] == ["same minimum"] * 2
    spent = [comparison.relaxation(start).prerelaxation for start in ("mlip", "translated_mlip")]
    assert {item.engine for item in spent} == {"torch-sim LennardJonesModel"}
    assert all(item.converged and item.ionic_steps > 1 for item in spent)
