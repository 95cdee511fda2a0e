"""The whole comparison of one candidate on VASP's test double: real input sets, custodian, parsers and counting."""

import json
from pathlib import Path

import pytest
from atomate2.vasp.flows.core import DoubleRelaxMaker
from atomate2.vasp.powerups import update_user_incar_settings
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore
from monty.io import zopen
from pymatgen.core import Structure

from cryslator_flows.analysis.savings import measure_all_savings
from cryslator_flows.counting.ledger import LEDGER_NAME
from cryslator_flows.documents.candidates import Candidate, Translation
from cryslator_flows.documents.relaxations import RelaxationComparison
from cryslator_flows.engines.by_name import build_relax_maker
from cryslator_flows.engines.vasp_settings import GuardLimits
from cryslator_flows.flows.relaxation_comparison import RelaxationComparisonFlowMaker
from tests.flows.makers import PairPotentialRelaxMaker
from tests.support.fake_vasp.runs import poll_often
from tests.support.ledgers import read_ledger

pytestmark = pytest.mark.slow


@pytest.fixture
def store():
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    store.connect()
    return store


def contents(folder, name):
    """Text of a file, zipped or not."""
    (path,) = (path for path in folder.glob(f"{name}*") if ".orig" not in path.name)
    with zopen(path, "rt") as file:
        return file.read()


def electronic_steps(folders):
    """Lines of electronic steps in the OSZICAR of each folder, counted without anything of ours."""
    lines = [line for folder in folders for line in contents(folder, "OSZICAR").splitlines()]
    return sum(line.startswith(("DAV:", "RMM:")) for line in lines)


def compare(store, unrelaxed, translated, starts=("unrelaxed", "translated"), relax_maker=None, **fields):
    """Run the flow in the current folder; returns its document and the folder of each VASP job by its start."""
    candidate = Candidate(
        candidate_id="ab", template_id="t", substitution={}, structure=unrelaxed,
        reduced_formula=unrelaxed.composition.reduced_formula, chemsys=unrelaxed.chemical_system,
    )  # fmt: skip
    translation = Translation(
        candidate_id="ab", structure=translated, formation_energy_per_atom=-1, formation_energy_uncertainty=0.1,
        formation_energy_uncertainty_90=0.2, mean_displacement=0, volume_change=0, max_principal_strain=0,
        atoms_too_close=False, unknown_elements=[], domain_distance=0, out_of_domain=False, model_name="m",
        model_version="v",
    )  # fmt: skip
    maker = RelaxationComparisonFlowMaker(relax_maker=poll_often(relax_maker or DoubleRelaxMaker()), **fields)
    flow = maker.make(candidate, translation, starts, "oxides")
    # A powerup reaches the flow's jobs as it reaches a maker, the second of each start too.
    flow = update_user_incar_settings(flow, {"ENCUT": 610})
    run_locally(flow, store=store, create_folders=True, log=False)
    folders = {start: [] for start in starts}
    for folder in sorted(path.parent for path in Path.cwd().glob("job_*/cryslator.json*")):
        folders[json.loads(contents(folder, "cryslator.json"))["start"]].append(folder)
    return RelaxationComparison.model_validate(store.get_output(flow.jobs[-1].uuid, load=True)), folders


def test_pair_of_double_relaxations(fake_vasp, store, rutile):
    rutile.replace_species({"Ti": "Mn"})
    rutile.add_site_property("magmom", [3.0, -3.0, 0.0, 0.0, 0.0, 0.0])
    translated = rutile.copy()
    translated.scale_lattice(rutile.volume * 1.25)
    comparison, folders = compare(store, rutile, translated, guard=None)
    for start in ("unrelaxed", "translated"):
        cost = comparison.relaxation(start).cost
        assert len(folders[start]) == 2
        assert cost.total_electronic_steps == electronic_steps(folders[start])
        assert (cost.attempts, cost.discarded_electronic_steps, cost.converged, cost.synthetic) == (2, 0, True, True)
        assert cost.n_kpoints
        assert all("ENCUT = 610" in contents(folder, "INCAR") for folder in folders[start])
    for one, other in zip(folders["unrelaxed"], folders["translated"], strict=True):
        for name in ("INCAR", "KPOINTS", "POTCAR"):
            assert contents(one, name) == contents(other, name)
        assert contents(one, "POSCAR") != contents(other, "POSCAR")
    assert "MAGMOM = 1*3.0 1*-3.0 4*0.0" in contents(folders["translated"][0], "INCAR")
    assert comparison.ending().outcome == "same minimum"
    # Numbers of a test double are not a saving.
    assert measure_all_savings([comparison]) == []
    documents = list(store.query({"output.additional_json.cryslator": {"$exists": True}}))
    assert sorted(row["output"]["additional_json"]["cryslator"]["start"] for row in documents) == [
        "translated", "translated", "unrelaxed", "unrelaxed",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["MPGGADoubleRelaxStaticMaker", "MP24DoubleRelaxStaticMaker"])
def test_relaxations_with_static(fake_vasp, store, rutile, name):
    """All three VASP jobs cost; the static one has the energy. What removes files afterwards is no calculation."""
    translated = rutile.copy()
    translated.scale_lattice(rutile.volume * 1.05)
    comparison, folders = compare(store, rutile, translated, relax_maker=build_relax_maker(name, {}), guard=None)
    for start in ("unrelaxed", "translated"):
        relaxation = comparison.relaxation(start)
        assert len(relaxation.job_uuids) == len(folders[start]) == 3
        assert relaxation.cost.total_electronic_steps == electronic_steps(folders[start])
        assert (relaxation.cost.attempts, relaxation.cost.converged) == (3, True)
        documents = [store.get_output(uuid, load=True) for uuid in relaxation.job_uuids]
        assert documents[-1]["task_type"] == "Static"
        assert relaxation.energy_per_atom == documents[-1]["output"]["energy"] / len(rutile)
        assert relaxation.structure == Structure.from_dict(documents[1]["structure"])
    assert comparison.ending().outcome == "same minimum"


def test_a_failed_relaxation_leaves_nothing_that_waits(fake_vasp, store, rutile, monkeypatch):
    monkeypatch.setenv("FAKE_VASP_FAULTS", "edddav:always")
    maker = build_relax_maker("MP24DoubleRelaxStaticMaker", {})
    comparison, folders = compare(store, rutile, rutile.copy(), relax_maker=maker)
    assert [item.error for item in comparison.relaxations] == ["a relaxation job failed"] * 2
    assert [len(folders[start]) for start in ("unrelaxed", "translated")] == [1, 1]


def test_bad_translation_is_guarded_and_counted(fake_vasp, store, rutile):
    bad = rutile.copy()
    bad.scale_lattice(rutile.volume * 0.55)
    comparison, folders = compare(store, rutile, bad, guard=GuardLimits(max_pressure=10))
    cost = comparison.relaxation("translated").cost
    assert "pressure" in cost.guard
    assert cost.attempts == 3
    assert cost.total_electronic_steps == electronic_steps(folders["translated"]) + cost.discarded_electronic_steps
    assert cost.discarded_electronic_steps > 0
    assert comparison.relaxation("unrelaxed").cost.guard is None
    assert comparison.ending().outcome == "same minimum"


def test_starts_by_a_potential_cost_what_vasp_spent(fake_vasp, store, rutile):
    """The potential's steps stand beside those of VASP; the guard goes back to the unrelaxed structure here too."""
    rutile.add_site_property("magmom", [3.0, -3.0, 0.0, 0.0, 0.0, 0.0])
    rutile.replace_species({"Ti": "Mn"})
    translated = rutile.copy()
    translated.scale_lattice(rutile.volume * 1.1)
    starts = ("unrelaxed", "mlip", "translated_mlip")
    fields = {"mlip_maker": PairPotentialRelaxMaker(), "guard": GuardLimits(max_pressure=10)}
    comparison, folders = compare(store, rutile, translated, starts, **fields)
    first = {start: folders[start][0] for start in starts}
    for start in starts:
        relaxation = comparison.relaxation(start)
        spent = electronic_steps(folders[start]) + relaxation.cost.discarded_electronic_steps
        assert relaxation.cost.total_electronic_steps == spent > 0
        assert relaxation.cost.converged
        for name in ("INCAR", "KPOINTS", "POTCAR"):
            assert contents(first[start], name) == contents(first["unrelaxed"], name)
        if start != "unrelaxed":
            assert relaxation.prerelaxation.engine == "lennardjones"
            assert relaxation.prerelaxation.electronic_steps is None
            assert relaxation.prerelaxation.ionic_steps > 1
            # What the potential makes of an oxide is nothing that VASP would call good.
            assert "pressure" in relaxation.cost.guard
            assert comparison.ending(start).outcome == "same minimum"
    assert comparison.relaxation("unrelaxed").prerelaxation is None


def test_failed_start_is_known_by_what_it_spent(fake_vasp, store, rutile, monkeypatch):
    """No TaskDoc comes home from the job that failed; the ledger does."""
    monkeypatch.setenv("FAKE_VASP_FAULTS", "edddav:always")
    comparison, _ = compare(store, rutile, rutile.copy())
    assert comparison.ending().outcome == "failed"
    spent = {entry.start: entry.cost.total_electronic_steps for entry in read_ledger(Path(LEDGER_NAME))}
    for start in ("unrelaxed", "translated"):
        relaxation = comparison.relaxation(start)
        assert relaxation.error == "a relaxation job failed"
        assert relaxation.cost.total_electronic_steps == spent[start] > 0
        assert relaxation.cost.converged is False
        assert relaxation.cost.attempts > 1
