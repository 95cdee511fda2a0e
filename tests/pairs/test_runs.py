"""Pairs from folders of VASP and from stores of task documents, all left by real runs of atomate2's makers."""

import gzip
import json
import os
import shutil

import numpy as np
import pytest
import yaml
from atomate2.vasp.flows.core import DoubleRelaxMaker
from monty.json import jsanitize
from pymatgen.core import SETTINGS, Lattice, Structure

from cryslator_flows.campaign.store import SQLiteStore
from cryslator_flows.errors import DataError, StoreError
from cryslator_flows.pairs.align import align
from cryslator_flows.pairs.raw import Dropped
from cryslator_flows.pairs.store import read_store
from cryslator_flows.pairs.trajectory import evenly_spaced
from cryslator_flows.pairs.vasp import read_vasp_runs
from tests.fake_vasp.runs import folder as folder_of
from tests.fake_vasp.runs import relax
from tests.flows.makers import PairPotentialRelaxMaker


@pytest.fixture(scope="module")
def squeezed():
    structure = Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.6, 2.95), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
    )
    structure.scale_lattice(0.88 * structure.volume)
    return structure


@pytest.fixture(scope="module")
def double(squeezed, fake_vasp_files, tmp_path_factory):
    """The documents of a double relaxation by the test double of VASP; their folders remain."""
    with pytest.MonkeyPatch.context() as patch:
        potcars = str(fake_vasp_files / "potcars")
        patch.setenv("PATH", str(fake_vasp_files / "bin"), prepend=os.pathsep)
        patch.setenv("PMG_VASP_PSP_DIR", potcars)
        patch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", potcars)
        patch.chdir(tmp_path_factory.mktemp("double"))
        return relax(DoubleRelaxMaker(), squeezed)


def genuine(document, target, change=lambda text: text):
    """A folder of the double, with vasprun.xml as VASP itself would have signed it."""
    shutil.copytree(folder_of(document), target)
    text = gzip.decompress((target / "vasprun.xml.gz").read_bytes()).decode()
    (target / "vasprun.xml.gz").write_bytes(gzip.compress(change(text.replace("-synthetic", "")).encode()))
    return target


def volumes(pairs):
    return [(pair.unrelaxed.volume, pair.relaxed.volume) for pair in pairs]


def test_a_folder_of_relaxations(double, squeezed, tmp_path):
    first, second = double
    genuine(first, tmp_path / "runs/a/relax 1")
    genuine(second, tmp_path / "runs/a/relax 2")
    pairs = [*read_vasp_runs(tmp_path / "runs")]
    assert [pair.name for pair in pairs] == [pair.target for pair in pairs] == ["a/relax 1", "a/relax 2"]
    ends = [first.output.structure.volume, second.output.structure.volume]
    expected = [(squeezed.volume, ends[0]), (ends[0], ends[1])]
    assert np.array(volumes(pairs)) == pytest.approx(np.array(expected), rel=1e-5)
    energies = [pair.columns["energy_per_atom"] for pair in pairs]
    assert energies == pytest.approx([first.output.energy_per_atom, second.output.energy_per_atom])
    assert [*read_vasp_runs(tmp_path / "runs/a/relax 1")][0].target == "relax 1"
    (single,) = read_vasp_runs(tmp_path / "runs/a/relax 1/vasprun.xml.gz")
    assert single.relaxed == pairs[0].relaxed
    assert align(pairs[0]).structure("relaxed").matches(first.output.structure, scale=False)


def test_intermediates_lead_to_the_same_target(double, tmp_path):
    genuine(double[0], tmp_path / "run")
    (whole,) = read_vasp_runs(tmp_path / "run")
    pairs = [*read_vasp_runs(tmp_path / "run", 2)]
    n_steps = len(double[0].calcs_reversed[0].output.num_electronic_steps)
    numbers = [round((n_steps - 1) / 3) + 1, round(2 * (n_steps - 1) / 3) + 1]
    assert [pair.name for pair in pairs] == ["run", *(f"run, ionic step {number}" for number in numbers)]
    assert [pair.columns.get("ionic_step") for pair in pairs] == [None, *numbers]
    assert {pair.target for pair in pairs} == {"run"}
    assert {pair.relaxed.volume for pair in pairs} == {whole.relaxed.volume}
    starts = [pair.unrelaxed.volume for pair in pairs]
    assert starts[0] < starts[1] <= starts[2]
    assert len([*read_vasp_runs(tmp_path / "run", 99)]) == n_steps - 1


@pytest.mark.parametrize(("length", "count", "places"), [(1, 3, []), (2, 3, []), (3, 3, [1]), (101, 3, [25, 50, 75])])
def test_evenly_spaced(length, count, places):
    assert evenly_spaced(length, count) == places


def test_relaxations_in_one_folder_are_one(double, squeezed, tmp_path):
    for number, document in enumerate(double, 1):
        run = genuine(document, tmp_path / f"part{number}")
        (tmp_path / "run").mkdir(exist_ok=True)
        (run / "vasprun.xml.gz").rename(tmp_path / f"run/vasprun.xml.relax{number}.gz")
    shutil.rmtree(tmp_path / "part1")
    shutil.rmtree(tmp_path / "part2")
    (pair,) = read_vasp_runs(tmp_path)
    assert pair.unrelaxed.volume == pytest.approx(squeezed.volume, rel=1e-5)
    assert pair.relaxed.volume == pytest.approx(double[1].output.structure.volume, rel=1e-5)


def test_a_restarted_relaxation_began_where_custodian_found_it(double, tmp_path):
    run = genuine(double[1], tmp_path / "run")
    before = genuine(double[0], tmp_path / "other")
    shutil.copy(before / "POSCAR.orig.gz", run / "POSCAR.orig.gz")
    (pair,) = read_vasp_runs(run)
    assert pair.unrelaxed.volume == pytest.approx(Structure.from_file(before / "POSCAR.orig.gz").volume)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[: len(text) // 2], "vasprun.xml cannot be read"),
        (lambda text: "", "vasprun.xml cannot be read"),
        (lambda text: text.replace('"ISIF">3', '"ISIF">2').replace('"ISIF"> 3', '"ISIF"> 2'), "cell"),
        (lambda text: text.replace('"NSW">99', '"NSW">0').replace('"NSW"> 99', '"NSW"> 0'), "no relaxation"),
        (lambda text: text.replace("6.4.3", "6.4.3-synthetic"), "made by a test double of the engine"),
    ],
)
def test_what_makes_no_pair_is_dropped_and_the_others_come(double, tmp_path, change, reason):
    genuine(double[0], tmp_path / "a", change)
    genuine(double[1], tmp_path / "b")
    dropped, pair = read_vasp_runs(tmp_path)
    assert isinstance(dropped, Dropped)
    assert (dropped.name, reason in dropped.reason, pair.name) == ("a", True, "b")


def test_an_unconverged_relaxation_is_dropped(double, tmp_path):
    n_steps = len(double[0].calcs_reversed[0].output.num_electronic_steps)

    def cut_short(text):
        assert "99" in text
        return text.replace("99</i>", f"{n_steps}</i>")

    genuine(double[0], tmp_path / "a", cut_short)
    assert [*read_vasp_runs(tmp_path)] == [Dropped("a", "not converged")]


def test_a_folder_without_vasp(tmp_path):
    with pytest.raises(DataError, match=r"no vasprun\.xml in it"):
        [*read_vasp_runs(tmp_path)]


def store_file(folder, documents, criteria=None, key="uuid"):
    """A file that describes an embedded store with the documents, beside it."""
    folder.mkdir(exist_ok=True)
    store = SQLiteStore(str(folder / "tasks.sqlite"), "tasks", key=key)
    store.connect()
    store.update(jsanitize(documents, strict=True, enum_values=True), key)
    store.close()
    kind = f"{SQLiteStore.__module__}.{SQLiteStore.__name__}"
    spec = {"type": kind, "database": "tasks.sqlite", "collection_name": "tasks"}
    content = {"store": spec, "criteria": criteria or {}}
    (folder / "store.yaml").write_text(yaml.safe_dump(content))
    return folder / "store.yaml"


def unsigned(document):
    """A document as if VASP itself had run."""
    return json.loads(json.dumps(jsanitize(document, strict=True, enum_values=True)).replace("-synthetic", ""))
