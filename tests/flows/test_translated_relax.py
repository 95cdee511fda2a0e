"""One structure, translated before any relax maker, with the steps counted."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from ase import Atoms
from atomate2.forcefields.flows.relax import CHGNetVaspRelaxMaker
from atomate2.vasp.flows.core import DoubleRelaxMaker
from jobflow import Flow, JobStore, job, run_locally
from maggma.stores import MemoryStore
from monty.json import MontyDecoder, jsanitize
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from cryslator_flows.counting import count_steps
from cryslator_flows.documents.relaxations import JOB_FAILED, TranslatedRelaxation
from cryslator_flows.errors import StructureError
from cryslator_flows.flows.translated_relax import TranslatedRelaxFlowMaker
from cryslator_flows.jobs.translate import TranslateMaker
from cryslator_flows.translator.translator import Translator
from tests.engines.test_gpaw import quick
from tests.flows.makers import DoubleMaker, FussyRelaxMaker, PairPotentialRelaxMaker
from tests.flows.test_vasp_comparison import electronic_steps
from tests.support.fake_vasp.runs import poll_often


@pytest.fixture
def store():
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    store.connect()
    return store


def translated(relax_maker, model):
    return TranslatedRelaxFlowMaker(relax_maker=relax_maker, translate_maker=TranslateMaker(model_name=str(model.path)))


@job
def give(structure):
    return {"structure": structure}


def run(flow, store, folder, **options):
    """Run a flow after a round through JSON, as jobflow-remote stores it; returns the document of its last job."""
    flow = MontyDecoder().process_decoded(json.loads(json.dumps(jsanitize(flow, strict=True, enum_values=True))))
    run_locally(flow, store=store, create_folders=True, root_dir=folder, log=False, **options)
    return store.get_output(flow.job_uuids[-1], load=True)


def test_a_structure_and_atoms_start_any_flow(store, tmp_path, rutile, tiny_model):
    maker = translated(PairPotentialRelaxMaker(), tiny_model)
    expected = Translator(tiny_model).translate(rutile)
    for number, given in enumerate((rutile, AseAtomsAdaptor.get_atoms(rutile, msonable=False))):
        flow = maker.make(given)
        document = TranslatedRelaxation.model_validate(run(flow, store, tmp_path / str(number)))
        assert document.translation.structure.matches(expected.structure, scale=False)
        assert document.unrelaxed_structure == rutile
        assert document.cost.ionic_steps == count_steps(store.get_output(flow.output.uuid, load=True)).ionic_steps > 1
        assert document.cost.converged


def test_it_stands_between_other_jobs(store, tmp_path, rutile, tiny_model):
    first = give(rutile)
    maker = translated(DoubleMaker(), tiny_model)
    relaxed = maker.make(first.output["structure"])
    last = give(relaxed.output.structure)
    end = Structure.from_dict(run(Flow([first, relaxed, last]), store, tmp_path)["structure"])
    assert end.volume != pytest.approx(rutile.volume, rel=0.01)
    (row,) = store.query({"name": "count steps"}, load=True)
    assert len(TranslatedRelaxation.model_validate(row["output"]).job_uuids) == 2


def test_a_failed_relaxation_is_counted_as_one(store, tmp_path, rutile, tiny_model):
    maker = translated(FussyRelaxMaker(fails_with="Ti"), tiny_model)
    document = TranslatedRelaxation.model_validate(run(maker.make(rutile), store, tmp_path))
    assert (document.error, document.structure) == (JOB_FAILED, None)


def test_a_failed_translation_ends_the_flow(store, tmp_path, rutile, tiny_model):
    rutile.append("Fe", rutile[0].frac_coords)
    maker = translated(PairPotentialRelaxMaker(), tiny_model)
    run_locally(maker.make(rutile), store=store, create_folders=True, root_dir=tmp_path, log=False)
    assert list(store.query({})) == []


def test_atoms_that_are_no_crystal_are_refused_at_once():
    with pytest.raises(StructureError, match="not periodic"):
        TranslatedRelaxFlowMaker().make(Atoms("Mg"))


def test_a_maker_without_earlier_folder(rutile):
    flow = TranslatedRelaxFlowMaker(relax_maker=CHGNetVaspRelaxMaker()).make(rutile)
    assert len(flow.job_uuids) == 4


@pytest.mark.slow
def test_all_steps_of_vasp_count(fake_vasp, store, rutile, tiny_model):
    maker = translated(poll_often(DoubleRelaxMaker()), tiny_model)
    document = TranslatedRelaxation.model_validate(run(maker.make(rutile), store, Path.cwd()))
    folders = sorted(path.parent for path in Path.cwd().glob("job_*/cryslator.json*"))
    assert len(folders) == 2
    assert document.cost.total_electronic_steps == electronic_steps(folders)
    assert (document.cost.attempts, document.cost.converged, document.cost.engine) == (2, True, "VASP")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gpaw") is None, reason="GPAW is not installed: make gpaw")
def test_all_steps_of_gpaw_count(store, tmp_path, tiny_model):
    cell = [[0, 2.1, 2.1], [2.1, 0, 2.1], [2.1, 2.1, 0]]
    atoms = Atoms("MgO", cell=cell, scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], pbc=True)
    maker = translated(quick(), tiny_model)
    document = TranslatedRelaxation.model_validate(run(maker.make(atoms), store, tmp_path))
    assert (document.cost.engine, document.cost.converged) == ("GPAW", True)
    assert document.cost.total_electronic_steps > 0
