"""Formats whose readers take things for granted, and files with one bad row."""

import bz2
import json

import pytest
from pymatgen.core import Lattice, Structure

from cryslator_flows.crystals.files import read_file, read_structures
from cryslator_flows.errors import StructureError

CELL = "CRYSTAL\nPRIMVEC\n4 0 0\n0 4 0\n0 0 4\nPRIMCOORD\n"
CSSR = "4.0 4.0 4.0\n90.0 90.0 90.0 SPGR = {} P 1    OPT = 1\n{}\n0 salt\n1 Na 0.0 0.0 0.0\n2 Cl 0.5 0.5 0.5\n"
RES = "TITL salt\nCELL 1.0 4 4 4 90 90 90\nLATT -1\nSFAC Na Cl\nNa 1 0 0 0 1.0\nCl 2 0.5 0.5 0.5 {}\nEND\n"
FRAME = '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 pbc="T T T"\nNa 0 0 0\nCl 2 2 2\n'
SALT = Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def causes(path):
    return [found.cause if isinstance(found, StructureError) else found.formula for _, found in read_structures(path)]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.xsf", CELL + "2 1\n11 0 0 0\n17 2 2 2\n", "Na1 Cl1"),
        ("a.xsf", CELL + "2 1\n11 0 0 0\n", "other atoms than the stated number"),
        ("a.cssr", CSSR.format(1, "2 0"), "Na1 Cl1"),
        ("a.cssr", CSSR.format(1, "3 0"), "other atoms than the stated number"),
        ("a.cssr", CSSR.format(225, "2 0"), "unknown space group"),
        ("a.cssr", CSSR.format(1, "2 1"), "Cartesian positions"),
        ("a.res", RES.format("1.0"), "Na1 Cl1"),
        ("a.res", RES.format("0.5"), "disordered"),
        ("a.res", RES.format("1.0").replace("LATT -1", "LATT -4"), "unknown space group"),
        ("a.res", RES.format("1.0").replace("SFAC", "SYMM -X, -Y, Z\nSFAC"), "unknown space group"),
    ],
)
def test_what_a_reader_leaves_out(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    assert causes(tmp_path) == [expected]


@pytest.mark.parametrize("name", ["a.xyz", "a.extxyz"])
def test_one_bad_frame_among_good_ones(tmp_path, name):
    bad = FRAME.replace(' 0 0 0 4"', '"'), FRAME.replace("Cl", "Qq"), FRAME.replace("T T T", "T T F")
    text = "".join(FRAME + frame for frame in bad) + "\n" + FRAME
    (tmp_path / name).write_text(text)
    broken = "not readable as a crystal"
    assert causes(tmp_path) == ["Na1 Cl1", broken, "Na1 Cl1", broken, "Na1 Cl1", "not periodic", "Na1 Cl1"]
    (tmp_path / name).write_text(FRAME + FRAME.rpartition("Cl")[0])
    (_, _), (where, error) = read_structures(tmp_path)
    assert str(error).startswith(f"{where}: line 5: ")


def test_one_bad_row_among_good_ones(tmp_path):
    good = SALT.as_dict()
    sites = [{"xyz": [0, 0, 0]}, good["sites"][1]]
    rows = [good, {**good, "lattice": {"matrix": [[4, 0, 0]]}}, {**good, "lattice": 4}, {**good, "sites": sites}, good]
    (tmp_path / "a.jsonl.bz2").write_bytes(bz2.compress("\n".join(map(json.dumps, rows)).encode()))
    (tmp_path / "b.ndjson").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "c.json").write_text(json.dumps(rows))
    found = [str(found) if isinstance(found, StructureError) else "" for _, found in read_structures(tmp_path)]
    assert len(found) == 15
    for first, matrix, lattice, site, last in zip(*[iter(found)] * 5, strict=True):
        assert first == last == ""
        assert "lattice: cannot be read" in matrix
        assert "lattice: cannot be read" in lattice
        assert "site 0: no 'species'" in site


def test_json_lines_of_another_name_say_so(tmp_path):
    (tmp_path / "a.json").write_text(f"{json.dumps(SALT.as_dict())}\n" * 2)
    ((_, error),) = read_structures(tmp_path)
    assert ".jsonl" in str(error)


def test_a_file_without_structures_is_no_silence(tmp_path):
    """ASE takes a README for molecular dynamics of CASTEP, without a step."""
    (tmp_path / "README.md").write_text("hello\n")
    assert causes(tmp_path) == ["not readable as a crystal"]


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    (tmp_path / "a.cif").symlink_to("nowhere")
    ((_, error),) = read_structures(str(tmp_path / "a.cif"))
    assert "a link that leads nowhere" in str(error)


def test_the_unicode_of_windows(tmp_path):
    (tmp_path / "a.cif").write_bytes(SALT.to(fmt="cif").replace("\n", "\r\n").encode("utf-16"))
    assert causes(tmp_path) == ["Na1 Cl1"]


def test_zeros_that_ase_has_for_no_moments_are_none(tmp_path):
    """Iron would start without a moment, and never get one."""
    frame = FRAME.replace("Na", "Fe").replace("pos:R:3", "pos:R:3:initial_magmoms:R:1")
    for name, first in (("none.xyz", "0.0"), ("some.xyz", "3.0")):
        rows = frame.replace("Fe 0 0 0", f"Fe 0 0 0 {first}").replace("2 2 2", "2 2 2 0.0")
        (tmp_path / name).write_text(rows)
    (_, none), (_, some) = read_structures(tmp_path)
    assert none.site_properties == {}
    assert some.site_properties == {"magmom": [3.0, 0.0]}
    assert [name for name, _ in read_file(str(tmp_path / "none.xyz"))] == [str(tmp_path / "none.xyz")]
