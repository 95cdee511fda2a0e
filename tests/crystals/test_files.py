import gzip
import json
import os
from pathlib import Path

import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms
from ase.db import connect
from ase.io import write
from pymatgen.core import Structure
from pymatgen.io.vasp import Poscar

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
    rows = [found for _, found in read_structures(path)]
    assert [isinstance(found, Structure) for found in rows] == [True, False, False, False, True]
    assert rows[4] == rutile
    for number in (2, 3, 4):
        assert f"line {number}" in str(rows[number - 1])
    assert "Qq" in str(rows[3])


def test_truncated_gzip_keeps_what_came_before(tmp_path, perovskite):
    path = tmp_path / "in.jsonl.gz"
    line = json.dumps(perovskite.as_dict()) + "\n"
    path.write_bytes(gzip.compress(line.encode()) + gzip.compress(line.encode())[:-20])
    rows = [found for _, found in read_structures(path)]
    assert rows[0] == perovskite
    assert "after line 1: the rest cannot be read" in str(rows[-1])


def test_folder_is_walked_in_order(tmp_path, perovskite, rutile):
    (tmp_path / "deep").mkdir()
    rutile.to(str(tmp_path / "deep" / "z.cif"))
    perovskite.to(str(tmp_path / "a.cif"))
    (tmp_path / "b.cif").write_text("")
    (tmp_path / ".hidden").write_text("")
    rows = list(read_structures(tmp_path))
    assert [name.removeprefix(str(tmp_path)) for name, _ in rows] == ["/a.cif", "/b.cif", "/deep/z.cif"]
    assert [isinstance(found, Structure) for _, found in rows] == [True, False, True]


def test_identifiers_of_the_source_are_kept(tmp_path, perovskite, rutile):
    rows = [{"material_id": "mp-1", "structure": perovskite.as_dict()}, {"id": 7, **rutile.as_dict()}, {"id": "x"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [*rows, perovskite.as_dict()])))
    (tmp_path / "b.json").write_text(json.dumps(rows[:2]))
    frames = [perovskite.to_ase_atoms(), rutile.to_ase_atoms()]
    frames[0].info["material_id"] = "gen 3"
    write(tmp_path / "c.extxyz", frames)
    found = [
        (name.removeprefix(f"{tmp_path}/"), isinstance(found, Structure)) for name, found in read_structures(tmp_path)
    ]
    assert found == [
        ("a.jsonl, mp-1", True), ("a.jsonl, 7", True), ("a.jsonl, line 3", False), ("a.jsonl, line 4", True),
        ("b.json, mp-1", True), ("b.json, 7", True), ("c.extxyz, gen 3", True), ("c.extxyz, structure 2", True),
    ]  # fmt: skip


def test_folders_of_campaigns_hold_no_structures_of_the_folder_above(tmp_path, perovskite):
    run = tmp_path / "structures" / "runs" / "mine"
    (run / "relaxed").mkdir(parents=True)
    (run / "campaign.sqlite").write_text("")
    for path in (tmp_path / "structures" / "a.cif", run / "relaxed" / "b.cif"):
        perovskite.to(str(path))
    assert [Path(name).name for name, _ in read_structures(tmp_path / "structures")] == ["a.cif"]
    assert [Path(name).name for name, _ in read_structures(run / "relaxed")] == ["b.cif"]


def test_several_structures_of_a_file_all_come(tmp_path, perovskite, rutile):
    (tmp_path / "two.cif").write_text(perovskite.to(fmt="cif") + rutile.to(fmt="cif").replace("data_TiO2", "data_same"))
    (tmp_path / "two.json").write_text(json.dumps([perovskite.as_dict(), rutile.as_dict()]))
    write(tmp_path / "two.extxyz", [perovskite.to_ase_atoms(), rutile.to_ase_atoms()])
    rows = list(read_structures(tmp_path))
    assert [found.reduced_formula for _, found in rows] == ["CaTiO3", "TiO2"] * 3
    assert [name.removeprefix(f"{tmp_path}/") for name, _ in rows] == [
        "two.cif, CaTiO3", "two.cif, same", "two.extxyz, structure 1", "two.extxyz, structure 2",
        "two.json, structure 1", "two.json, structure 2",
    ]  # fmt: skip
    with pytest.raises(StructureError, match="2 structures in one file"):
        read_structure(tmp_path / "two.cif")


def test_databases_trajectories_and_animations_of_ase(tmp_path, perovskite, rutile):
    molecule = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.7]])
    images = [perovskite.to_ase_atoms(), molecule, rutile.to_ase_atoms()]
    for name in ("a.db", "a.json"):
        with connect(tmp_path / name) as database:
            for image in images:
                database.write(image)
    write(tmp_path / "a.traj", images)
    for path in sorted(tmp_path.iterdir()):
        first, second, third = (found for _, found in read_structures(path))
        assert (first.reduced_formula, second.cause, third.reduced_formula) == ("CaTiO3", "not periodic", "TiO2")
    write(tmp_path / "a.xsf", [images[0], perovskite.scale_lattice(80).to_ase_atoms()])
    assert [found.volume for _, found in read_structures(tmp_path / "a.xsf")] == pytest.approx([3.9**3, 80])


def test_frames_before_a_broken_one_are_read(tmp_path, perovskite):
    write(tmp_path / "a.traj", [perovskite.to_ase_atoms()] * 3)
    content = (tmp_path / "a.traj").read_bytes()
    (tmp_path / "a.traj").write_bytes(content[:-100])
    (_, first), (_, second), (name, last) = read_structures(tmp_path / "a.traj")
    assert first == second
    assert (last.cause, name) == ("not readable as a crystal", f"{tmp_path}/a.traj, structure 3")
    assert "this one and all after it cannot be read" in str(last)


def test_many_blocks_may_be_long_together(tmp_path, perovskite):
    block = perovskite.to(fmt="cif") + "#" + "x" * 2**20 + "\n"
    (tmp_path / "a.cif").write_text(block * 9)
    assert [found.reduced_formula for _, found in read_structures(tmp_path / "a.cif")] == ["CaTiO3"] * 9
    (tmp_path / "a.cif").write_text(block + block.replace("x", "x" * 9))
    (_, first), (_, second) = read_structures(tmp_path / "a.cif")
    assert (first.reduced_formula, second.cause) == ("CaTiO3", "too large")


def test_hidden_folders_are_left_out(tmp_path, perovskite):
    (tmp_path / ".0123.partial").mkdir()
    for path in (tmp_path / "a.cif", tmp_path / ".0123.partial" / "b.cif"):
        perovskite.to(str(path))
    (tmp_path / "translated.csv").write_text("folder,source")
    assert [name for name, _ in read_structures(tmp_path)] == [str(tmp_path / "a.cif")]


def test_ase_reads_only_what_pymatgen_does_not_know(tmp_path, perovskite):
    """ASE reads this file without its occupancies, as SrTiO3."""
    text = perovskite.to(fmt="cif")
    row = next(line for line in text.splitlines() if line.split()[:1] == ["Ca"])
    sites = "\n".join(
        row.replace("Ca", name)[: row.rindex("1")] + share for name, share in (("Sr", "0.8"), ("Ba", "0.4"))
    )
    (tmp_path / "a.cif").write_text(text.replace(row, sites))
    with pytest.raises(StructureError, match=r"Occupancy 1\.2"):
        read_structure(tmp_path / "a.cif")


def test_nothing_of_a_calculation_comes_along(tmp_path, perovskite):
    frozen = perovskite.copy(site_properties={"selective_dynamics": [[False] * 3] * 5, "magmom": [0, 3, 0, 0, 0]})
    Poscar(frozen, velocities=[[1.0] * 3] * 5).write_file(tmp_path / "POSCAR")
    atoms = perovskite.to_ase_atoms()
    atoms.set_constraint(FixAtoms(range(5)))
    atoms.calc = LennardJones()
    atoms.get_potential_energy()
    write(tmp_path / "a.traj", atoms)
    (tmp_path / "a.json").write_text(frozen.to(fmt="json"))
    for name, found in read_structures(tmp_path):
        assert set(found.site_properties) == ({"magmom"} if name.endswith("json") else set())
        assert not found.properties
        json.dumps(found.as_dict())


def test_atoms_are_inside_the_cell(tmp_path, perovskite):
    perovskite.translate_sites([0, 3], [90, -90, 90], to_unit_cell=False)
    perovskite.to(str(tmp_path / "POSCAR"), fmt="poscar")
    found = read_structure(tmp_path / "POSCAR")
    assert (found.frac_coords >= 0).all()
    assert (found.frac_coords <= 1).all()
    assert found.matches(perovskite)


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [("CRYSTAL", "SLAB", "not periodic"), ("\n5 1\n", "\n10000000 1\n", "over 500 atoms")],
)
def test_what_pymatgen_takes_for_granted_of_xsf(tmp_path, perovskite, old, new, cause):
    text = "\n".join(" ".join(line.split()) for line in perovskite.to(fmt="xsf").splitlines())
    assert old in text
    (tmp_path / "a.xsf").write_text(text.replace(old, new))
    with pytest.raises(StructureError) as caught:
        read_structure(tmp_path / "a.xsf")
    assert caught.value.cause == cause


def test_marks_and_line_ends_of_windows(tmp_path, perovskite):
    for name, fmt in (("a.cif", "cif"), ("POSCAR", "poscar"), ("a.json", "json")):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + perovskite.to(fmt=fmt).replace("\n", "\r\n").encode())
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(perovskite.as_dict()).encode() + b"\r\n")
    assert [found.reduced_formula for _, found in read_structures(tmp_path)] == ["CaTiO3"] * 4


def test_a_folder_with_hostile_files_gives_all_good_ones(tmp_path, perovskite):
    for number in range(20):
        perovskite.to(str(tmp_path / f"good{number}.cif"))
    far = perovskite.to(fmt="poscar").splitlines()
    (tmp_path / "POSCAR.far").write_text("\n".join([*far[:8], *("1e9 0 0" for _ in range(5))]))
    (tmp_path / "POSCAR.many").write_text("\n".join([*far[:6], "1 1 1000000000", *far[7:]]))
    (tmp_path / "bomb.cif.gz").write_bytes(gzip.compress(b"data_a\n_atom_site_label\n" + bytes(10 * 2**20)))
    (tmp_path / "bomb.jsonl.gz").write_bytes(gzip.compress(b"1" * 10 * 2**20))
    (tmp_path / "big.extxyz").write_bytes(b"1\n")
    os.truncate(tmp_path / "big.extxyz", 300 * 2**20)
    (tmp_path / "damaged.cif.gz").write_bytes(gzip.compress(b"data_x" * 1000)[:-20])
    (tmp_path / "brackets.json").write_text("[" * 100_000)
    (tmp_path / "vasprun.xml").write_text("<modeling>\n<atominfo>")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "dangling.cif").symlink_to("nowhere.cif")
    os.mkfifo(tmp_path / "pipe.cif")
    (tmp_path / "unfinished.jsonl.partial").write_text("{")
    (tmp_path / ".hidden").write_text("{")
    assert [found.cause for _, found in read_structures(tmp_path / "dangling.cif")] == ["no such file"]
    rows = dict(read_structures(tmp_path))
    errors = {Path(name).name: found.cause for name, found in rows.items() if isinstance(found, StructureError)}
    assert len(rows) - len(errors) == 20
    assert errors == {
        "POSCAR.far": "far outside the cell",
        "POSCAR.many": "over 500 atoms",
        "big.extxyz": "too large",
        "bomb.cif.gz": "too large",
        "bomb.jsonl.gz": "too large",
        "brackets.json": "not readable as a crystal",
        "damaged.cif.gz": "not readable as a crystal",
        "dangling.cif": "no such file",
        "pipe.cif": "no file",
        "vasprun.xml": "not readable as a crystal",
        "zero": "no file",
    }
    for name, found in rows.items():
        assert isinstance(found, Structure) or (str(found).startswith(name) and "\n" not in str(found))
