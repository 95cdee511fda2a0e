"""Output of `cryslator translate` in every format, read again."""

import csv
import gzip
import json

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.core.structure_matcher import StructureMatcher
from pymatgen.io.vasp import Poscar

from cryslator_flows.crystals.files import read_structures
from cryslator_flows.translator.translator import Translator


@pytest.fixture
def given(tmp_path, perovskite, rutile):
    """An antiferromagnet of mixed elements, an isolated atom and a charged crystal with isotopes, in one file."""
    rutile.add_site_property("magmom", [3.0, -3.0, 0.0, 0.0, 0.0, 0.0])
    rutile = Structure.from_sites([rutile[index] for index in (2, 0, 3, 4, 1, 5)])
    perovskite.replace(0, "D")
    perovskite.set_charge(1)
    rows = [rutile, Structure(Lattice.cubic(30), ["Fe"], [[0, 0, 0]]), perovskite]
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(json.dumps(row.as_dict()) for row in rows))
    return path


@pytest.mark.parametrize("name", ["o.jsonl", "o.jsonl.gz", "o.cif", "o.cif.gz", "o.extxyz", "o.xyz.gz", "out", "o/"])
def test_every_format_is_read_again(run, tmp_path, given, tiny_model, name):
    expected = list(Translator(tiny_model).translate_stream(item for _, item in read_structures(given)))
    code, out, err = run("translate", given, f"{tmp_path}/{name}", "--model", tiny_model.path)
    assert code == 1
    assert "2 translated, 1 failed" in out
    assert "line 2, site 0 (Fe): isolated" in err
    found = [item for _, item in read_structures(tmp_path / name) if isinstance(item, Structure)]
    assert [item.reduced_formula for item in found] == ["TiO2", expected[2].structure.reduced_formula]
    for one, other in zip(found, (expected[0].structure, expected[2].structure), strict=True):
        assert one.lattice.abc == pytest.approx(other.lattice.abc, abs=1e-6)
        assert max(StructureMatcher(primitive_cell=False, scale=False).get_rms_dist(one, other)) < 1e-6
    if name not in ("out", "o/"):
        moments = {tuple(site.frac_coords.round(3)): site.properties["magmom"] for site in found[0]}
        assert [moments[(0, 0, 0)], moments[(0.5, 0.5, 0.5)], *sorted(moments.values())] == [3, -3, -3, 0, 0, 0, 0, 3]
    assert {path.name for path in tmp_path.iterdir()} - {"models"} == {"in.jsonl", name.rstrip("/")}


def test_a_folder_for_each_calculation(run, tmp_path, given, tiny_model):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert run("translate", given, tmp_path / "link", "--model", tiny_model.path)[0] == 1
    assert (tmp_path / "link").is_symlink()
    with (tmp_path / "real/translated.csv").open() as file:
        first, failed, last = csv.DictReader(file)
    assert (first["folder"], failed["folder"], last["folder"].split("-")[0]) == ("1-TiO2", "", "3")
    assert first["magmom"] == "3.0 -3.0 0.0 0.0 0.0 0.0"
    assert "isolated" in failed["error"]
    poscar = Poscar.from_file(tmp_path / "real/1-TiO2/POSCAR", check_for_potcar=False)
    assert poscar.site_symbols == ["Ti", "O"]
    assert poscar.comment.endswith(f"{float(first['formation_energy_per_atom']):.4f} eV/atom")
    code, _, err = run("translate", given, tmp_path / "link", "--model", tiny_model.path)
    assert (code, "link: exists; replace it with --overwrite, or give another name" in err) == (2, True)
    (tmp_path / "real/1-TiO2/OUTCAR").write_text("precious")
    code, _, err = run("translate", given, tmp_path / "link", "--model", tiny_model.path, "--overwrite")
    assert (code, "is a folder with files; give a new folder" in err) == (2, True)
    (tmp_path / "real/1-TiO2/OUTCAR").unlink()
    inside = tmp_path / "real/1-TiO2/POSCAR"
    code, _, err = run("translate", inside, tmp_path / "link", "--model", tiny_model.path, "--overwrite")
    assert (code, "is read by this command" in err) == (2, True)
    poscar.structure.to(str(tmp_path / "one.cif"))
    assert run("translate", tmp_path / "one.cif", tmp_path / "link", "--model", tiny_model.path, "--overwrite")[0] == 0
    assert (tmp_path / "link").is_symlink()
    assert {path.name for path in (tmp_path / "real").iterdir()} == {"1-TiO2", "translated.csv"}
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "one.cif", "real", "link", "models"}


@pytest.mark.parametrize("name", ["o.jsonl", "o.cif.gz", "o.extxyz", "out"])
def test_an_output_is_replaced_on_request_alone(run, tmp_path, perovskite, tiny_model, name):
    perovskite.to(str(tmp_path / "a.cif"))
    command = "translate", tmp_path / "a.cif", tmp_path / name, "--model", tiny_model.path
    if name != "out":
        (tmp_path / name).touch()
    assert run(*command)[0] == 0
    before = [path.stat().st_ino for path in (tmp_path / name, *(tmp_path / name).rglob("*"))]
    code, _, err = run(*command)
    assert (code, f"{name}: exists; replace it with --overwrite" in err) == (2, True)
    assert [path.stat().st_ino for path in (tmp_path / name, *(tmp_path / name).rglob("*"))] == before
    assert run(*command, "--overwrite")[0] == 0
    assert [path.stat().st_ino for path in (tmp_path / name, *(tmp_path / name).rglob("*"))] != before


def test_fields_travel_with_the_frames(run, tmp_path, given, tiny_model):
    from ase.io import read

    run("translate", given, tmp_path / "o.extxyz", "--model", tiny_model.path)
    run("translate", given, tmp_path / "o.jsonl", "--model", tiny_model.path)
    (row, _, _) = (json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines())
    info = read(tmp_path / "o.extxyz", index=0).info
    assert info["source"] == row["source"]
    assert info["formation_energy_per_atom"] == row["formation_energy_per_atom"]
    assert info["atoms_too_close"] == row["atoms_too_close"]


def test_standard_output_has_the_lines_alone(run, given, tiny_model):
    code, out, err = run("translate", given, "-", "--model", tiny_model.path)
    assert code == 1
    assert ["error" in json.loads(line) for line in out.replace("} {", "}\n{").splitlines()] == [False, True, False]
    assert "2 translated, 1 failed: standard output" in err


def test_what_cannot_be_written_is_refused_at_once(run, tmp_path, given, tiny_model):
    for name, words in (
        ("o.txt", "ends in '.txt'; end the name in one of .jsonl"),
        ("o.tar.gz", "ends in '.tar'"),
        ("no/o.cif", "no folder"),
        ("no/folder", "no folder"),
    ):
        code, _, err = run("translate", given, tmp_path / name, "--model", tiny_model.path)
        assert (code, words in err, "translate" in err) == (2, True, False)


@pytest.mark.parametrize("name", ["o.cif", "out"])
def test_nothing_replaces_what_was_there_if_nothing_is_translated(run, tmp_path, tiny_model, name):
    (tmp_path / "bad.cif").write_text("nonsense")
    (tmp_path / "o.cif").write_text("precious")
    command = "translate", tmp_path / "bad.cif", tmp_path / name, "--model", tiny_model.path, "--overwrite"
    assert run(*command)[0] == 2
    assert (tmp_path / "o.cif").read_text() == "precious"
    assert not any(path.name.endswith(".partial") for path in tmp_path.iterdir())


def test_close_atoms_are_counted(run, tmp_path, perovskite, tiny_model, monkeypatch):
    monkeypatch.setattr("cryslator_flows.translator.translator.TOO_CLOSE", 2.5)
    perovskite.to(str(tmp_path / "a.cif"))
    code, out, _ = run("translate", tmp_path / "a.cif", tmp_path / "o.jsonl.gz", "--model", tiny_model.path)
    assert code == 0
    assert out.endswith("atoms too close 1")
    with gzip.open(tmp_path / "o.jsonl.gz") as file:
        assert json.loads(file.read())["atoms_too_close"]
