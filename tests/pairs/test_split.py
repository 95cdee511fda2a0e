import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from cryslator_flows.errors import DataError, StoreError
from cryslator_flows.pairs.kinds import Split
from cryslator_flows.pairs.make import PairFolder
from cryslator_flows.pairs.raw import Dropped, RawPair
from cryslator_flows.pairs.split import LEAKAGE, PARTS, drop_leakage, split_as_given, split_records
from cryslator_flows.translator.records import PairRecord, read_records

SYMBOLS = ["Li", "Na", "K", "Rb", "Cs", "Be", "Mg", "Ca", "Sr", "Ba", "Fe", "Co", "Ni", "Cu", "Zn"]


def salt(cation, anion="O", volume=1.0):
    structure = Structure(Lattice.cubic(4.2), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])
    structure.scale_lattice(structure.volume * volume)
    return structure


def raw(cation, anion="O", name="n", **columns):
    return RawPair(name, f"{cation}{anion}", salt(cation, anion, 1.1), salt(cation, anion), columns)


def record(cation, anion="O", **columns):
    geometry = {"lattice": [[4, 0, 0], [0, 4, 0], [0, 0, 4]], "frac": [[0, 0, 0], [0.5, 0.5, 0.5]]}
    pair = {"target": f"{cation}{anion}", "species": [cation, anion], "unrelaxed": geometry, "relaxed": geometry}
    return PairRecord.model_validate(pair | columns)


salts = st.lists(st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(["O", "S", "Se", "Te"])), unique=True)


@given(kinds=salts, more=salts, seed=st.integers(0, 10))
def test_a_formula_is_in_one_part_and_stays_there(kinds, more, seed):
    parts = split_records([record(*kind) for kind in kinds * 2], seed)
    formulas = {part: {row.reduced_formula for row in rows} for part, rows in parts.items()}
    assert sum(map(len, parts.values())) == 2 * len(kinds)
    assert sum(map(len, formulas.values())) == len(kinds)
    grown = split_records([record(*kind) for kind in {*kinds, *more}], seed)
    where = {row.reduced_formula: part for part, rows in grown.items() for row in rows}
    # One may have been moved where val or test would have been empty.
    assert sum(where[formula] != part for part, names in formulas.items() for formula in names) <= 2
    if len(kinds) >= 3:
        assert all(parts.values())
    else:
        assert not parts["val"]
        assert not parts["test"]


def test_shares():
    anions = ["O", "S", "Se", "Te", "F", "Cl", "Br", "I", "N", "P", "As", "H"]
    parts = split_records([record(cation, anion) for cation in SYMBOLS for anion in anions])
    total = len(SYMBOLS) * len(anions)
    assert [len(parts[part]) / total for part in PARTS] == pytest.approx(
        [0.8, 0.1, 0.1],
        abs=3 * (0.8 * 0.2 / total) ** 0.5,
    )
    other = split_records([record(cation, anion) for cation in SYMBOLS for anion in anions], seed=1)
    assert other != parts


def test_no_training_pair_tells_of_a_held_out_formula():
    parts = {
        "train": [
            record("Li"),
            record("Na", template_formula="Fe2O2"),
            record("K", template_formula="CoO", template="CoO.cif"),
            record("Rb", template="NiO"),
            record("Fe"),
            record("Cs", template_formula=None),
            record("Be", template_formula="no formula"),
        ],
        "val": [record("Fe", template_formula="LiO")],
        "test": [record("Ni")],
    }
    kept, dropped = drop_leakage(parts)
    assert [row.target for row in kept["train"]] == ["LiO", "KO", "CsO", "BeO"]
    assert kept["val"] == parts["val"]
    assert dropped == [Dropped(name, LEAKAGE) for name in ("NaO", "RbO", "FeO")]


def test_the_split_of_the_source():
    rows = [record("Li", split="train"), record("Na", split="test"), record("K", split="unknown"), record("Rb")]
    parts, dropped = split_as_given(rows)
    assert {part: [row.target for row in rows] for part, rows in parts.items()} == {
        "train": ["LiO"], "val": [], "test": ["NaO"]
    }  # fmt: skip
    assert [item.name for item in dropped] == ["KO", "RbO"]
    with pytest.raises(DataError, match="brings no split"):
        split_as_given(rows[2:])


def test_files(tmp_path):
    items = [*(raw(cation, energy_per_atom=-4.0) for cation in SYMBOLS), Dropped("a.cif", "broken")]
    calls = []
    energies = dict.fromkeys(SYMBOLS[1:], -1.0) | {"O": -5.0}
    pair_folder = PairFolder(tmp_path / "own", element_energies=energies)
    summary = pair_folder.fill(items, "vasp", "there", lambda: calls.append(1))
    assert (summary.read, summary.kept, summary.dropped, len(calls)) == (16, 15, {"broken": 1}, 16)
    assert json.loads((tmp_path / "own/pairs.json").read_text()) == summary.model_dump()
    assert json.loads((tmp_path / "own/dropped.jsonl").read_text()) == {"name": "a.cif", "reason": "broken"}
    assert list(summary.files) == [f"pairs-{part}.jsonl.gz" for part in PARTS]
    assert sum(part.formation_energies for part in summary.files.values()) == 14
    assert sum(part.energies for part in summary.files.values()) == 15
    rows = [row for name in summary.files for row in read_records(tmp_path / "own" / name, PairRecord)]
    assert sorted(row.target for row in rows) == sorted(f"{cation}O" for cation in SYMBOLS)
    energies_found = {row.target: row.formation_energy_per_atom for row in rows}
    assert energies_found == pytest.approx(dict.fromkeys(energies_found, -1.0) | {"LiO": None})
    before = {name: (tmp_path / "own" / name).read_bytes() for name in summary.files}
    pair_folder.fill(items, "vasp", "there")
    assert {name: (tmp_path / "own" / name).read_bytes() for name in summary.files} == before
    assert not [*tmp_path.rglob("*.partial")]
    assert pair_folder.fill([Dropped("a.cif", "broken")], "vasp", "there").files == {}
    assert {name: (tmp_path / "own" / name).read_bytes() for name in summary.files} == before


def test_leakage_is_counted(tmp_path):
    items = [raw(cation, template_formula="MgO") for cation in SYMBOLS]
    where = split_records([record(cation) for cation in SYMBOLS])
    held_out = where["test"][0].target
    items = [raw(cation, template_formula=held_out) for cation in SYMBOLS]
    summary = PairFolder(tmp_path).fill(items, "vasp", "there")
    assert summary.dropped == {LEAKAGE: len(where["train"])}
    assert summary.kept == len(where["val"]) + len(where["test"])


def test_one_file_and_the_split_of_the_source(tmp_path):
    items = [raw("Li", split="train"), raw("Na", split="val"), raw("K", split="test")]
    summary = PairFolder(tmp_path, Split.NONE).fill(items, "mine", "there")
    with gzip.open(tmp_path / "pairs.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    assert [row["target"] for row in rows] == ["LiO", "NaO", "KO"]
    assert "split" not in rows[0]
    assert summary.files["pairs.jsonl.gz"].pairs == 3
    summary = PairFolder(tmp_path, Split.GIVEN).fill(items, "mine", "there")
    assert [part.pairs for part in summary.files.values()] == [1, 1, 1]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        PairFolder(tmp_path / "file").fill([raw("Li")], "vasp", "there")
