"""torch-sim's own Lennard-Jones model where torch-sim is installed (Python 3.12); else what needs no torch-sim."""

import json
import sys
from importlib.util import find_spec

import pytest
from jobflow import run_locally
from monty.json import MontyDecoder, MontyEncoder
from pymatgen.core import Lattice, Structure

from cryslator_flows.counting import count_steps
from cryslator_flows.documents.relaxations import RelaxationComparison
from cryslator_flows.engines.by_name import FORCE_FIELD_MAKER, build_relax_maker, check_installed
from cryslator_flows.engines.torchsim import TorchSimRelaxMaker, batched_maker
from cryslator_flows.errors import CampaignError
from cryslator_flows.flows.relaxation_comparison import RelaxationComparisonFlowMaker
from cryslator_flows.jobs.potential_relax import relax_all
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


@needs_torch_sim
def test_a_cell_without_forces_on_atoms_relaxes(tmp_path):
    volumes = []
    for length in (2.2, 2.6):
        document = relax(Structure(Lattice.cubic(length), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]), tmp_path)
        assert count_steps(document).converged
        volumes.append(Structure.from_dict(document["structure"]).volume)
    assert volumes[0] == pytest.approx(volumes[1], rel=0.01)


@pytest.fixture
def crystals(rutile, perovskite):
    rutile.add_site_property("magmom", [1.0] * len(rutile))
    return [rutile, perovskite.copy().apply_strain(-0.1), rutile.copy().apply_strain(-0.2), perovskite]


@needs_torch_sim
@pytest.mark.parametrize("most_atoms", [6, 12, 100])
def test_many_at_once_end_as_alone(crystals, most_atoms):
    """Two structures, one after the other or all at a time."""
    limits = {"memory_scales_with": "n_atoms", "max_memory_scaler": most_atoms}
    maker = build_relax_maker(PATH, LENNARD_JONES | {"autobatcher_dict": limits})
    assert maker.batched
    together = maker.relax_many(crystals)
    alone = [maker.relax_many([structure])[0] for structure in crystals]
    assert len({item.cost.ionic_steps for item in alone}) > 1
    # torch-sim looks after every fifth move; one that joins a running batch may need a look more.
    steps = [[item.cost.ionic_steps for item in part] for part in (together, alone)]
    assert all(abs(first - second) <= 5 for first, second in zip(*steps, strict=True)), steps
    energies = [[item.output.energy / item.structure.num_sites for item in part] for part in (together, alone)]
    assert energies[0] == pytest.approx(energies[1], abs=1e-3)
    for item, before in zip(together, crystals, strict=True):
        assert item.structure.species == before.species
        assert item.structure.site_properties == before.site_properties
    assert maker.model is maker.model


@needs_torch_sim
def test_a_batch_of_the_potential(crystals, tmp_path, monkeypatch):
    """One whose cell shrinks without end is lost alone; what a batch has done is not done again."""
    monkeypatch.chdir(tmp_path)
    limits = {"memory_scales_with": "n_atoms", "max_memory_scaler": 100}
    maker = build_relax_maker(PATH, LENNARD_JONES | {"autobatcher_dict": limits})
    lost = crystals[3].copy().scale_lattice(4 * crystals[3].volume)
    items = [("a", crystals[0]), ("lost", lost), ("b", crystals[1])]
    calls = []
    together = TorchSimRelaxMaker.relax_many
    monkeypatch.setattr(
        TorchSimRelaxMaker, "relax_many", lambda self, given: calls.append(len(given)) or together(self, given)
    )
    done = list(relax_all(maker, items))
    assert [item.name for item in done] == ["a", "lost", "b"]
    assert [item.error is None for item in done] == [True, False, True]
    assert "without end" in done[1].error
    assert all(item.seconds > 0 and item.ionic_steps > 1 for item in (done[0], done[2]))
    before = list(calls)
    assert list(relax_all(maker, items)) == done
    assert calls == before


@needs_torch_sim
def test_where_a_batch_fails_each_is_relaxed_alone(crystals, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # No structure fits.
    limits = {"memory_scales_with": "n_atoms", "max_memory_scaler": 1}
    maker = build_relax_maker(PATH, LENNARD_JONES | {"autobatcher_dict": limits})
    assert all(item.error is None for item in relax_all(maker, [("a", crystals[0]), ("b", crystals[1])]))


def test_sevennet_runs_in_batches_on_a_gpu(monkeypatch):
    maker = build_relax_maker(FORCE_FIELD_MAKER, {"force_field_name": "SevenNet", "relax_kwargs": {"fmax": 0.03}})
    monkeypatch.setattr("cryslator_flows.engines.torchsim.find_spec", lambda name: name)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert batched_maker(maker) is None
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    twin = batched_maker(maker)
    assert twin.settings["model_path"] == "7net-0"
    assert twin.settings["convergence_fn_kwargs"] == {"force_tol": 0.03}
    assert batched_maker(TorchSimRelaxMaker(LENNARD_JONES | {"autobatcher_dict": False})) is None
    # Its settings have no counterpart in torch-sim, or it is another potential.
    assert batched_maker(build_relax_maker(FORCE_FIELD_MAKER, {"force_field_name": "SevenNet", "relax_shape": True,
                                                               "relax_cell": False})) is None  # fmt: skip
    assert batched_maker(build_relax_maker(FORCE_FIELD_MAKER, {"force_field_name": "CHGNet"})) is None
