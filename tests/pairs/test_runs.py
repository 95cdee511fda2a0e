"""Pairs from folders of VASP and from stores of task documents, all left by real runs of atomate2's makers."""

import bz2
import gzip
import json
import lzma
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from atomate2.vasp.flows.core import DoubleRelaxMaker
from monty.json import jsanitize
from pymatgen.core import SETTINGS, Lattice, Structure

from cryslator_flows.counting import count_steps
from cryslator_flows.errors import DataError, StoreError
from cryslator_flows.pairs.align import align
from cryslator_flows.pairs.raw import Dropped
from cryslator_flows.pairs.sources.task_store import read_store
from cryslator_flows.pairs.sources.trajectory import evenly_spaced
from cryslator_flows.pairs.sources.vasp_runs import read_vasp_runs
from cryslator_flows.system.sqlite_store import SQLiteStore
from tests.flows.makers import PairPotentialRelaxMaker
from tests.support.fake_vasp.runs import folder as folder_of
from tests.support.fake_vasp.runs import relax


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
    assert [pair.target for pair in read_vasp_runs(tmp_path / "runs/a/relax 1")] == ["relax 1"]
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


def together(double, folder, *endings):
    """The relaxations of a double in one folder, under these endings."""
    for number, (document, ending) in enumerate(zip(double, endings, strict=True)):
        run = genuine(document, folder.with_name(f"{folder.name}-part{number}"))
        folder.mkdir(exist_ok=True)
        (folder / f"vasprun.xml{ending}").write_bytes(gzip.decompress((run / "vasprun.xml.gz").read_bytes()))
        shutil.rmtree(run)
    return folder


def test_the_last_of_several_may_have_no_number(double, squeezed, tmp_path):
    folder = together(double, tmp_path / "run", ".relax1", "")
    (pair,) = read_vasp_runs(tmp_path)
    assert (pair.target, pair.unrelaxed.volume) == ("run", pytest.approx(squeezed.volume, rel=1e-5))
    assert pair.relaxed.volume == pytest.approx(double[1].output.structure.volume, rel=1e-5)
    shutil.copy(folder / "vasprun.xml.relax1", folder / "vasprun.xml")
    steps = len(double[0].calcs_reversed[0].output.num_electronic_steps)
    assert len([*read_vasp_runs(tmp_path, 99)]) == steps - 1


@pytest.mark.parametrize("ending", ["", ".static"])
def test_what_is_no_part_of_the_relaxation_is_named(double, tmp_path, ending):
    folder = together([double[0]], tmp_path / "run", ".relax1")
    text = (folder / "vasprun.xml.relax1").read_text()
    static = (
        text.replace('"NSW">99', '"NSW">0').replace('"NSW"> 99', '"NSW"> 0').replace('"NSW">    99', '"NSW">     0')
    )
    assert static != text
    (folder / f"vasprun.xml{ending}").write_text(static)
    found = {type(item).__name__: item for item in read_vasp_runs(tmp_path)}
    assert found["RawPair"].target == "run"
    assert found["Dropped"] == Dropped(f"run/vasprun.xml{ending}", "no relaxation")


@pytest.mark.parametrize(("ending", "packed"), [(".bz2", bz2.compress), (".relax1.xz", lzma.compress)])
def test_packed_files(double, tmp_path, ending, packed):
    folder = together([double[0]], tmp_path / "run", "")
    text = (folder / "vasprun.xml").read_bytes()
    (folder / "vasprun.xml").unlink()
    (folder / f"vasprun.xml{ending}").write_bytes(packed(text))
    assert [pair.target for pair in read_vasp_runs(tmp_path)] == ["run"]


def test_a_run_with_fixed_atoms_is_dropped(double, tmp_path):
    def fix(text):
        rows = "<v type='logical'>  T  T  F </v>" * 6
        return text.replace("</structure>", f'<varray name="selective" type="logical">{rows}</varray></structure>')

    genuine(double[0], tmp_path / "a", fix)
    assert [*read_vasp_runs(tmp_path)] == [Dropped("a", "atoms were not free to relax")]


def test_the_reason_of_the_parser_is_kept(double, tmp_path):
    genuine(double[0], tmp_path / "a", lambda text: text[: len(text) // 2])
    (dropped,) = read_vasp_runs(tmp_path)
    assert dropped.reason == "vasprun.xml cannot be read"
    assert "Premature end of data" in dropped.detail


def test_vasprun_says_whether_a_run_without_outcar_converged(double, tmp_path):
    run = genuine(double[0], tmp_path / "a")
    for file in run.glob("OUTCAR*"):
        file.unlink()
    steps = double[0].calcs_reversed[0].output.num_electronic_steps
    cost = count_steps(run)
    assert (cost.electronic_steps, cost.converged) == (steps, True)
    text = gzip.decompress((run / "vasprun.xml.gz").read_bytes()).decode().replace("99</i>", f"{len(steps)}</i>")
    (run / "vasprun.xml.gz").write_bytes(gzip.compress(text.encode()))
    assert count_steps(run).converged is False


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


def store_file(folder, documents, criteria=None):
    """A file that describes an embedded store with the documents, beside it."""
    store = SQLiteStore(str(folder / "tasks.sqlite"), "tasks")
    store.connect()
    store.update(documents, "uuid")
    store.close()
    spec = {"type": "SQLiteStore", "path": "tasks.sqlite", "collection_name": "tasks"}
    (folder / "store.yaml").write_text(yaml.safe_dump({"store": spec, "criteria": criteria or {}}))
    return folder / "store.yaml"


def plain(document):
    """A document as stores keep it, signed as by VASP itself."""
    return json.loads(json.dumps(jsanitize(document, strict=True, enum_values=True)).replace("-synthetic", ""))


def in_job_store(documents):
    return [{"uuid": f"job {number}", "index": 1, "output": row} for number, row in enumerate(map(plain, documents))]


def test_task_documents_of_a_job_store(double, squeezed, tmp_path):
    pairs = [*read_store(store_file(tmp_path, in_job_store(double)))]
    assert [pair.target for pair in pairs] == ["job 0", "job 1"]
    ends = [document.output.structure.volume for document in double]
    assert np.array(volumes(pairs)) == pytest.approx(np.array([(squeezed.volume, ends[0]), tuple(ends)]), rel=1e-5)
    energies = [document.output.energy_per_atom for document in double]
    assert [pair.columns["energy_per_atom"] for pair in pairs] == pytest.approx(energies)
    assert all(align(pair).structure("relaxed").matches(pair.relaxed, scale=False) for pair in pairs)


def test_folders_and_documents_give_the_same_pairs(double, tmp_path):
    (tmp_path / "runs").mkdir()
    for number, document in enumerate(double):
        genuine(document, tmp_path / f"runs/job {number}")
    from_folders = [*read_vasp_runs(tmp_path / "runs", 3)]
    from_store = [*read_store(store_file(tmp_path, in_job_store(double)), 3)]
    assert [pair.name for pair in from_folders] == [pair.name for pair in from_store]
    assert np.array(volumes(from_folders)) == pytest.approx(np.array(volumes(from_store)), rel=1e-6)


def test_documents_of_emmet_of_earlier_years(double, squeezed, tmp_path):
    """Alone in their collection, the input under orig_inputs.poscar, no energy per atom."""
    row = plain(double[0])
    if row["orig_inputs"]["structure"] is None:
        pytest.skip("emmet-core before 0.87.2 keeps no structure of custodian's copy")
    row["orig_inputs"] = {"poscar": {"structure": row["orig_inputs"]["structure"]}}
    # What custodian restarted from.
    row["input"]["structure"] = row["output"]["structure"]
    del row["structure"], row["output"]["energy_per_atom"]
    rows = [{**row, "uuid": "a", "task_id": "mp-1"}, {**row, "uuid": "b", "task_id": "mp-2"}]
    (pair,) = read_store(store_file(tmp_path, rows, {"task_id": "mp-1"}))
    assert pair.target == "mp-1"
    assert pair.unrelaxed.volume == pytest.approx(squeezed.volume, rel=1e-5)
    assert pair.columns["energy_per_atom"] == pytest.approx(double[0].output.energy_per_atom)


def test_a_json_store(double, tmp_path):
    (tmp_path / "tasks.json").write_text(json.dumps([{**plain(double[0]), "task_id": "mp-1"}]))
    spec = {"store": {"type": "JSONStore", "paths": ["tasks.json"]}}
    (tmp_path / "store.json").write_text(json.dumps(spec))
    (pair,) = read_store(tmp_path / "store.json")
    assert pair.target == "mp-1"


def test_a_file_that_a_json_store_cannot_read_is_named(double, tmp_path):
    (tmp_path / "tasks.json").write_text(json.dumps([{**plain(double[0]), "task_id": "mp-1"}])[:-9])
    spec = {"store": {"type": "JSONStore", "paths": ["tasks.json"]}}
    (tmp_path / "store.json").write_text(json.dumps(spec))
    with pytest.raises(StoreError, match=r"JSONStore.*tasks\.json.*Restore this file"):
        [*read_store(tmp_path / "store.json")]


def test_documents_of_a_force_field(squeezed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (document,) = relax(PairPotentialRelaxMaker(), squeezed)
    (fixed,) = relax(PairPotentialRelaxMaker(relax_cell=False), squeezed)
    (single,) = relax(PairPotentialRelaxMaker(steps=1), squeezed)
    pair, *dropped = read_store(store_file(tmp_path, in_job_store([document, fixed, single])), 0)
    assert volumes([pair])[0] == pytest.approx((squeezed.volume, document.structure.volume))
    assert pair.columns["energy_per_atom"] == pytest.approx(document.output.energy / len(squeezed))
    assert [row.reason for row in dropped] == ["the cell was not free to relax", "no relaxation"]


def with_tags(**tags):
    def change(row):
        for key in ("incar", "parameters"):
            row["input"][key] |= tags

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda row: row.update(state="failed"), "not converged"),
        (lambda row: row.update(vasp_version="6.4.3-synthetic"), "made by a test double of the engine"),
        (lambda row: row.pop("calcs_reversed"), "no task document of a relaxation"),
        (lambda row: [row.pop(key) for key in ("orig_inputs", "input")], "no structure before, or none after"),
        (lambda row: [row.pop(key) for key in ("structure", "output")], "no structure before, or none after"),
        (with_tags(NSW=0), "no relaxation"),
        (with_tags(IBRION=0), "no relaxation"),
        (with_tags(ISIF=2), "the cell was not free to relax"),
        (with_tags(ISIF=8), "the shape of the cell was not free to relax"),
        (with_tags(ISIF=4), "the volume of the cell was not free to relax"),
        (lambda row: [row.pop("state"), row["calcs_reversed"][0].pop("has_vasp_completed")], "nothing says whether"),
    ],
)
def test_documents_that_make_no_pair(double, tmp_path, change, reason):
    first, second = map(plain, double)
    change(first)
    rows = [{**first, "uuid": "a"}, {**second, "uuid": "b"}]
    dropped, pair = read_store(store_file(tmp_path, rows))
    assert isinstance(dropped, Dropped)
    assert (dropped.name, dropped.reason.startswith(reason), pair.name) == ("a", True, "b")


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ("store: {type: SQLiteStore, path: tasks.sqlite, collection_name: tasks}", DataError, "criteria: no document"),
        ("store: {type: NoStore}", StoreError, r"store\.yaml, store 'NoStore': cannot be opened"),
        ("stroe: {type: NoStore}", DataError, "did you mean 'store'"),
        (": :", DataError, "cannot be read as YAML"),
    ],
)
def test_mistakes_in_the_file_of_a_store(tmp_path, content, error, words):
    (tmp_path / "store.yaml").write_text(content)
    with pytest.raises(error, match=words):
        [*read_store(tmp_path / "store.yaml")]


def test_the_command(run, double, tmp_path):
    genuine(double[0], tmp_path / "runs/a")
    genuine(double[1], tmp_path / "runs/b", lambda text: text[:100])
    code, out, err = run("pairs", "vasp", tmp_path / "runs", "-o", tmp_path / "own", "--intermediates", 1)
    assert (code, "dropped: vasprun.xml cannot be read 1" in out) == (0, True)
    assert "0 of 2 pairs have a formation energy" in err
    code, _, err = run("pairs", "vasp", tmp_path / "none", "-o", tmp_path / "other")
    assert (code, "none: does not exist" in err) == (2, True)


def test_the_command_with_a_store(double, tmp_path):
    """In a process of its own, which knows only the stores that the command imports."""
    file = store_file(tmp_path, in_job_store(double))
    command = [
        sys.executable,
        "-m",
        "cryslator_flows.cli.main",
        "pairs",
        "store",
        file,
        "-o",
        tmp_path,
        "--split",
        "none",
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, "pairs.jsonl.gz 2 2 1" in " ".join(result.stdout.split())) == (0, True), result.stderr
