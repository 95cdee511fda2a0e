"""The layout of DeepRelax, as its README describes it."""

import shutil

import pytest

from cryslator_flows.errors import DataError
from cryslator_flows.pairs.published.deeprelax import read_deeprelax
from cryslator_flows.pairs.raw import Dropped
from tests.pairs.miniature import make_pairs, write_cif, write_deeprelax, write_rows


@pytest.fixture(scope="module")
def made():
    return make_pairs(10)


@pytest.fixture
def custom(tmp_path, made):
    write_deeprelax(tmp_path / "custom", made)
    return tmp_path / "custom"


def test_pairs_in_the_order_of_the_tables(custom, made):
    *pairs, last = read_deeprelax(custom)
    assert [pair.name for pair in pairs] == [name for name, *_ in made[:9]]
    assert [pair.columns for pair in pairs] == [{"split": "train"}] * 8 + [{"split": "val"}]
    for pair, (_, unrelaxed, relaxed, _) in zip(pairs, made, strict=False):
        assert pair.unrelaxed.volume == pytest.approx(unrelaxed.volume, rel=1e-5)
        assert pair.relaxed.volume == pytest.approx(relaxed.volume, rel=1e-5)
    # As DeepRelax allows for its test set.
    assert last == Dropped(made[9][0], "no relaxed structure")


def test_nested_and_packed(custom, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "custom")
    names = [item.name for item in read_deeprelax(custom)]
    assert [item.name for item in read_deeprelax(tmp_path)] == names
    assert [item.name for item in read_deeprelax(tmp_path / archive)] == names


def test_energies_that_a_table_holds(custom, made):
    rows = [(name, energy, "?") for name, *_, energy in made[:8]]
    write_rows(custom / "train.csv", [("atoms_id", "formation_energy_per_atom", "energy_per_atom"), *rows])
    columns = [pair.columns for pair in list(read_deeprelax(custom))[:8]]
    assert columns == [
        {"split": "train", "formation_energy_per_atom": pytest.approx(energy)} for *_, energy in made[:8]
    ]


def test_the_form_for_the_materials_project(tmp_path, made):
    (tmp_path / "CIF").mkdir()
    write_rows(tmp_path / "train.csv", [("mp_id",), ("mp-1",)])
    write_cif(made[0][1], tmp_path / "CIF/mp-1_U.cif")
    write_cif(made[0][2], tmp_path / "CIF/mp-1_R.cif")
    (pair,) = read_deeprelax(tmp_path)
    assert pair.name == "mp-1"
    assert pair.relaxed.volume == pytest.approx(made[0][2].volume, rel=1e-5)


def test_what_is_broken_is_dropped_with_its_reason(custom, made):
    names = [name for name, *_ in made]
    cifs = custom / "CIF"
    (cifs / f"{names[0]}_unrelaxed.cif").unlink()
    (cifs / f"{names[1]}_relaxed.cif").write_text("no crystal")
    write_rows(custom / "val.csv", [("atoms_id",), (names[8],), (names[2],), ("nowhere",)])
    write_cif(made[9][1], cifs / "stray_unrelaxed.cif")
    found = [(item.name, item.reason) for item in read_deeprelax(custom) if isinstance(item, Dropped)]
    assert sorted(found) == sorted(
        [
            (names[0], "no unrelaxed structure"),
            (names[1], "the CIF file of the relaxed structure is not readable as a crystal"),
            (names[2], "tables put it into several splits"),
            (names[2], "tables put it into several splits"),
            ("nowhere", "no unrelaxed structure"),
            (names[9], "no relaxed structure"),
            ("stray", "in none of the tables"),
        ]
    )


def test_clear_errors(custom, tmp_path):
    with pytest.raises(DataError, match=r"none of train\.csv, val\.csv, test\.csv in it"):
        list(read_deeprelax(custom / "CIF"))
    shutil.copytree(custom, tmp_path / "other")
    with pytest.raises(DataError, match=r"several folders with tables in it \(custom and other\); give one of them"):
        list(read_deeprelax(tmp_path))
    write_rows(custom / "val.csv", [("identifier",), ("a",)])
    with pytest.raises(DataError, match=r"val\.csv: no column atoms_id but identifier; rename the column"):
        list(read_deeprelax(custom))
