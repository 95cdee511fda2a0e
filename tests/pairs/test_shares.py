import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from cryslator_flows.errors import DataError, StoreError
from cryslator_flows.pairs.kinds import SplitRule
from cryslator_flows.pairs.make import LEAKAGE, NO_PART, PairFolder
from cryslator_flows.pairs.raw import Dropped, RawPair
from cryslator_flows.training.records import PairRecord, read_records
from cryslator_flows.training.splits import PARTS, share_out

SYMBOLS = ["Li", "Na", "K", "Rb", "Cs", "Be", "Mg", "Ca", "Sr", "Ba", "Fe", "Co", "Ni", "Cu", "Zn"]


def salt(cation, anion="O", volume=1.0):
    structure = Structure(Lattice.cubic(4.2), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])
    structure.scale_lattice(structure.volume * volume)
    return structure


def raw(cation, anion="O", name="n", **columns):
    return RawPair(name, f"{cation}{anion}", salt(cation, anion, 1.1), salt(cation, anion), columns)


def targets(folder, part):
    return [row.target for row in read_records(folder / f"pairs-{part}.jsonl.gz", PairRecord)]


def left_out(folder):
    with (folder / "dropped.jsonl").open() as lines:
        return [tuple(json.loads(line).values()) for line in lines]


salts = st.lists(st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(["O", "S", "Se", "Te"])), unique=True)


@given(kinds=salts, more=salts, seed=st.integers(0, 10))
def test_a_formula_is_in_one_part_and_stays_there(kinds, more, seed):
    formulas = ["".join(kind) for kind in kinds]
    parts = share_out(formulas * 2, seed)
    assert parts.keys() == set(formulas)
    grown = share_out({*formulas, *("".join(kind) for kind in more)}, seed)
    # One may have been moved where val or test would have been empty.
    assert sum(grown[formula] != part for formula, part in parts.items()) <= 2
    assert {*parts.values()} == (set(PARTS) if len(kinds) >= 3 else {"train"} if kinds else set())


def test_shares():
    anions = ["O", "S", "Se", "Te", "F", "Cl", "Br", "I", "N", "P", "As", "H"]
    formulas = [cation + anion for cation in SYMBOLS for anion in anions]
    parts, total = [*share_out(formulas).values()], len(formulas)
    assert [parts.count(part) / total for part in PARTS] == pytest.approx(
        [0.8, 0.1, 0.1],
        abs=3 * (0.8 * 0.2 / total) ** 0.5,
    )
    assert share_out(formulas, seed=1) != share_out(formulas)


def test_no_training_pair_tells_of_a_held_out_formula(tmp_path):
    items = [
        raw("Li", split="train"),
        raw("Na", split="train", template_formula="Fe2O2"),
        raw("K", split="train", template_formula="CoO", template="CoO.cif"),
        raw("Rb", split="train", template="NiO"),
        raw("Fe", split="train"),
        raw("Cs", split="train", template_formula=None),
        raw("Be", split="train", template_formula="no formula"),
        raw("Fe", split="val", template_formula="LiO"),
        raw("Ni", split="test"),
    ]
    PairFolder(tmp_path, SplitRule.GIVEN).fill(items, "mine", "there")
    assert [targets(tmp_path, part) for part in PARTS] == [["LiO", "KO", "FeO", "CsO", "BeO"], ["FeO"], ["NiO"]]
    assert left_out(tmp_path) == [(name, LEAKAGE) for name in ("NaO", "RbO")]


def test_the_split_of_the_source(tmp_path):
    items = [raw("Li", split="train"), raw("Na", split="test"), raw("K", split="unknown"), raw("Rb")]
    PairFolder(tmp_path, SplitRule.GIVEN).fill(items, "mine", "there")
    assert [targets(tmp_path, part) for part in PARTS] == [["LiO"], [], ["NaO"]]
    assert left_out(tmp_path) == [("KO", NO_PART), ("RbO", NO_PART)]
    with pytest.raises(DataError, match="has no split"):
        PairFolder(tmp_path, SplitRule.GIVEN).fill(items[2:], "mine", "there")
    assert targets(tmp_path, "train") == ["LiO"]


def test_pairs_that_do_not_fit_into_memory_wait_on_the_disk(tmp_path, monkeypatch):
    items = [*(raw(cation, anion) for cation in SYMBOLS for anion in ("O", "S")), Dropped("a.cif", "broken")]
    for folder, size in (("memory", 2**20), ("disk", 100)):
        monkeypatch.setattr("cryslator_flows.pairs.write.IN_MEMORY", size)
        PairFolder(tmp_path / folder).fill(items, "mine", "there")
    first, second = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("memory", "disk")
    )
    assert len(first) == 5
    assert first == second


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


def test_a_pair_with_a_wrong_value_is_dropped_and_the_others_are_kept(tmp_path):
    far = raw("Rb")
    for structure in (far.unrelaxed, far.relaxed):
        structure.translate_sites([0, 1], [2000, 0, 0], to_unit_cell=False)
    items = [
        raw("Li", energy_per_atom=-4.0),
        raw("Na", formation_energy_per_atom=9999.0),
        raw("K", formation_energy_per_atom=float("nan")),
        far,
        raw("Cs", energy_per_atom=9999.0),
        raw("Be", energy_per_atom=float("nan")),
        raw("Mg", energy_per_atom="-4 eV"),
    ]
    energies = dict.fromkeys([*SYMBOLS, "O"], -1.0)
    summary = PairFolder(tmp_path, SplitRule.NONE, element_energies=energies).fill(items, "mine", "there")
    (kept,) = read_records(tmp_path / "pairs.jsonl.gz", PairRecord)
    assert (kept.target, kept.formation_energy_per_atom) == ("LiO", -3.0)
    assert summary.dropped == {
        "formation_energy_per_atom is missing or wrong": 3,
        "energy_per_atom is missing or wrong": 2,
        "unrelaxed.frac is missing or wrong": 1,
    }
    without = PairFolder(tmp_path / "without", SplitRule.NONE).fill(items[-2:], "mine", "there")
    assert (without.kept, without.dropped) == (0, {"energy_per_atom is missing or wrong": 2})


def test_leakage_is_counted(tmp_path):
    where = share_out(salt(cation).reduced_formula for cation in SYMBOLS)
    held_out = next(formula for formula, part in where.items() if part == "test")
    items = [raw(cation, template_formula=held_out) for cation in SYMBOLS]
    summary = PairFolder(tmp_path).fill(items, "vasp", "there")
    n_train = [*where.values()].count("train")
    assert (summary.dropped, summary.kept) == ({LEAKAGE: n_train}, len(where) - n_train)


def test_one_file_and_the_split_of_the_source(tmp_path):
    items = [raw("Li", split="train"), raw("Na", split="val"), raw("K", split="test")]
    summary = PairFolder(tmp_path, SplitRule.NONE).fill(items, "mine", "there")
    with gzip.open(tmp_path / "pairs.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    assert [row["target"] for row in rows] == ["LiO", "NaO", "KO"]
    assert "split" not in rows[0]
    assert summary.files["pairs.jsonl.gz"].pairs == 3
    summary = PairFolder(tmp_path, SplitRule.GIVEN).fill(items, "mine", "there")
    assert [part.pairs for part in summary.files.values()] == [1, 1, 1]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        PairFolder(tmp_path / "file").fill([raw("Li")], "vasp", "there")
