import gzip
import json

import pytest

from cryslator_flows.crystals.files import read_structure, read_structures
from cryslator_flows.errors import StructureError


@pytest.mark.parametrize("name", ["a.cif", "POSCAR", "a.json", "a.xsf"])
def test_formats_of_pymatgen(tmp_path, perovskite, name):
    path = tmp_path / name
    perovskite.to(str(path))
    assert read_structure(path).composition == perovskite.composition


def test_formats_of_ase(tmp_path, perovskite):
    path = tmp_path / "crystal.extxyz"
    perovskite.to_ase_atoms().write(path)
    assert read_structure(path).composition == perovskite.composition


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [("a.cif", "", "empty"), ("b.cif", "hello", "not readable"), ("notes.txt", "hello", "not readable")],
)
def test_unreadable_file(tmp_path, name, content, word):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(StructureError, match=word) as caught:
        read_structure(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_molecule_is_no_crystal(tmp_path):
    path = tmp_path / "water.xyz"
    path.write_text("3\n\nO 0 0 0\nH 0 0 1\nH 0 1 0\n")
    with pytest.raises(StructureError, match="not periodic"):
        read_structure(path)


def test_missing(tmp_path):
    with pytest.raises(StructureError, match="no such file"):
        list(read_structures(tmp_path / "nothing"))
    with pytest.raises(StructureError, match="folder without files"):
        list(read_structures(tmp_path))


@pytest.mark.parametrize("packed", [False, True])
def test_json_lines_keep_their_order_past_bad_ones(tmp_path, perovskite, rutile, packed):
    good = [perovskite.as_dict(), {"structure": rutile.as_dict()}]
    wrong = json.loads(json.dumps(perovskite.as_dict()))
    wrong["sites"][0]["species"][0]["element"] = "Qq"
    lines = [json.dumps(good[0]), "{not json", json.dumps({"a": 1}), json.dumps(wrong), json.dumps(good[1])]
    path = tmp_path / ("in.jsonl.gz" if packed else "in.jsonl")
    with gzip.open(path, "wt") if packed else path.open("w") as file:
        file.write("\n".join(lines))
    rows = list(read_structures(path))
    assert [row.structure is not None for row in rows] == [True, False, False, False, True]
    assert rows[4].structure == rutile
    for number in (2, 3, 4):
        assert f"line {number}" in rows[number - 1].error
    assert "Qq" in rows[3].error


def test_truncated_gzip_keeps_what_came_before(tmp_path, perovskite):
    path = tmp_path / "in.jsonl.gz"
    line = json.dumps(perovskite.as_dict()) + "\n"
    path.write_bytes(gzip.compress(line.encode()) + gzip.compress(line.encode())[:-20])
    rows = list(read_structures(path))
    assert rows[0].structure == perovskite
    assert "cannot be read on" in rows[-1].error


def test_folder_is_walked_in_order(tmp_path, perovskite, rutile):
    (tmp_path / "deep").mkdir()
    rutile.to(str(tmp_path / "deep" / "z.cif"))
    perovskite.to(str(tmp_path / "a.cif"))
    (tmp_path / "b.cif").write_text("")
    (tmp_path / ".hidden").write_text("")
    rows = list(read_structures(tmp_path))
    assert [row.source.removeprefix(str(tmp_path)) for row in rows] == ["/a.cif", "/b.cif", "/deep/z.cif"]
    assert [row.error is None for row in rows] == [True, False, True]
