import gzip
import json
from itertools import pairwise

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from monty.json import jsanitize
from pymatgen.core import Element, Lattice, Structure

from cryslator_flows.errors import StructureError
from cryslator_flows.pairs.align import best_alignment
from cryslator_flows.pairs.raw import Dropped
from cryslator_flows.pairs.sources import isostructural
from cryslator_flows.pairs.sources.isostructural import (
    NO_TEMPLATE,
    SAME_NAME,
    TRIES,
    find_substitutions,
    read_isostructural,
)
from cryslator_flows.pairs.sources.nearest import Entry, NearestTemplates
from cryslator_flows.pairs.sources.relaxed_crystals import OTHER_FUNCTIONAL
from cryslator_flows.system.sqlite_store import SQLiteStore
from cryslator_flows.training.records import PairRecord, read_records
from tests.flows.makers import PairPotentialRelaxMaker
from tests.support.fake_vasp.runs import relax

LENGTHS = {"Mg": 4.21, "Ca": 4.81, "Sr": 5.16, "Ba": 5.54, "Ni": 4.18, "Zn": 4.28}


def salt(cation, anion="O", length=None):
    """Rock salt, primitive cell."""
    half = (length or LENGTHS[cation]) / 2
    return Structure([[0, half, half], [half, 0, half], [half, half, 0]], [cation, anion], [[0, 0, 0], [0.5] * 3])


def caesium_chloride(cation, anion):
    return Structure(Lattice.cubic(4.1), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


def perovskite(first, second, length=3.9, order=None):
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    crystal = Structure(Lattice.cubic(length), [first, second, "O", "O", "O"], sites)
    return crystal if order is None else Structure.from_sites([crystal[i] for i in order])


def line(name, structure, **columns):
    """A line of `RelaxedRecord`."""
    return json.dumps({
        "id": name,
        "species": [site.specie.symbol for site in structure],
        "lattice_parameters": structure.lattice.parameters,
        "frac": structure.frac_coords.tolist(),
        **columns,
    })  # fmt: skip


def split_kinds(items):
    items = [*items]
    return [item for item in items if isinstance(item, PairRecord)], [
        item for item in items if isinstance(item, Dropped)
    ]


def dropped_rows(folder):
    with (folder / "dropped.jsonl").open() as lines:
        return [*map(json.loads, lines)]


@pytest.fixture
def paired(tmp_path):
    """Pairs of some crystals, named by their formulas, and what was dropped."""

    def call(*structures, max_per_target=4, seed=0, **columns):
        file = tmp_path / "crystals.jsonl"
        named = [item if isinstance(item, tuple) else (item.reduced_formula, item) for item in structures]
        file.write_text("\n".join(line(name, structure, **columns) for name, structure in named))
        return split_kinds(read_isostructural(file, tmp_path / "own/unfinished", max_per_target, seed))

    return call


def test_the_cell_of_the_template_with_the_elements_of_the_target(paired):
    pairs, dropped = paired(salt("Mg"), salt("Ca"), energy_per_atom=-5.0)
    assert dropped == []
    assert [(pair.template, pair.target) for pair in pairs] == [("CaO", "MgO"), ("MgO", "CaO")]
    pair = pairs[0]
    assert pair.structure("unrelaxed").volume == pytest.approx(salt("Ca").volume)
    assert pair.structure("unrelaxed").matches(Structure(salt("Ca").lattice, ["Mg", "O"], salt("Ca").frac_coords))
    assert pair.structure("relaxed").matches(salt("Mg"), scale=False)
    assert pair.model_extra == {
        "energy_per_atom": -5.0,
        "template": "CaO",
        "template_formula": "CaO",
        "substitution": {"Ca": "Mg", "O": "O"},
    }


def test_other_structures_and_the_same_formula_are_no_templates(paired):
    pairs, dropped = paired(
        salt("Mg"), ("more", salt("Mg", length=4.3)), caesium_chloride("Ca", "O"), perovskite("Ca", "Ti")
    )
    assert pairs == []
    assert [item.reason for item in dropped] == [NO_TEMPLATE] * 4


def test_only_what_structure_matcher_maps_is_paired(paired):
    """One space group, number of atoms and sizes of orbits, but axes of other proportions."""
    layered, dense = (
        Structure(Lattice.tetragonal(3.5, c), [cation, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        for c, cation in ((3.9, "Mg"), (7.5, "Ca"))
    )
    near = Structure(Lattice.tetragonal(3.6, 3.95), ["Sr", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    pairs, dropped = paired(layered, dense, near)
    assert {(pair.template, pair.target) for pair in pairs} == {("MgO", "SrO"), ("SrO", "MgO")}
    assert dropped == [Dropped("CaO", NO_TEMPLATE)]


def test_the_nearest_templates_are_taken_and_always_the_same_ones(paired):
    items = [salt(cation) for cation in LENGTHS]
    for count in (1, 2, 5):
        pairs, dropped = paired(*items, max_per_target=count)
        assert {item.reason for item in dropped} <= {"ln of the volume ratio over 0.6"}
        far = {item.name for item in dropped}
        for target in LENGTHS:
            numbers = {name: abs(Element(name).mendeleev_no - Element(target).mendeleev_no) for name in LENGTHS}
            chosen = [pair.template.removesuffix("O") for pair in pairs if pair.target == f"{target}O"]
            assert all(numbers[first] <= numbers[second] for first, second in pairwise(chosen))
            left_out = {name for name in LENGTHS if f"{name}O -> {target}O" not in far} - {*chosen, target}
            assert len(chosen) == count or not left_out
            assert not left_out or numbers[chosen[-1]] <= min(map(numbers.get, left_out))
    shuffled, first = (paired(*some, max_per_target=2)[0] for some in (items[::-1], items))
    assert {(pair.template, pair.target) for pair in shuffled} == {(pair.template, pair.target) for pair in first}


def test_a_seed_decides_between_equally_near_templates(paired):
    items = [salt("Mg"), *((f"c{number}", salt("Ca", length=4.5 + number / 20)) for number in range(10))]

    def chosen(seed):
        pairs, _ = paired(*items, max_per_target=3, seed=seed)
        return [pair.template for pair in pairs if pair.target == "MgO"]

    assert chosen(0) == chosen(0)
    assert len({tuple(chosen(seed)) for seed in range(5)}) > 1


def test_of_several_substitutions_the_one_of_least_deformation_decides(paired):
    """Cations that differ by nothing but the room that they have: electronegativity would swap them."""
    sites = [[0, 0, 0.02], [0, 0, 0.52], [0.5, 0.5, 0.25], [0.5, 0.5, 0.79]]
    template, target = (
        Structure(Lattice.tetragonal(3.3, 6.6), [*cations, "O", "O"], sites) for cations in (("Na", "Cu"), ("Cu", "K"))
    )
    options = find_substitutions({"Na": [1], "Cu": [1], "O": [2]}, {"Cu": [1], "K": [1], "O": [2]})
    assert options == [{"Na": "K", "Cu": "Cu", "O": "O"}, {"Na": "Cu", "Cu": "K", "O": "O"}]
    costs = []
    for option in options:
        unrelaxed = template.copy()
        unrelaxed.replace_species(option)
        costs.append(best_alignment(unrelaxed, target).cost)
    assert costs[1] == pytest.approx(0, abs=1e-9)
    assert costs[0] > 1e-4
    pairs, _ = paired(template, target)
    assert [pair.substitution for pair in pairs] == [
        {"Cu": "Na", "K": "Cu", "O": "O"}, {"Na": "Cu", "Cu": "K", "O": "O"}
    ]  # fmt: skip


def test_of_equal_deformations_the_least_change_of_electronegativity_decides(paired):
    pairs, _ = paired(salt("Mg"), salt("Ca"))
    assert [pair.substitution for pair in pairs] == [{"Ca": "Mg", "O": "O"}, {"Mg": "Ca", "O": "O"}]
    first, second = perovskite("Ca", "Ti"), perovskite("Sr", "Zr", 4.1, order=[4, 1, 2, 0, 3])
    pairs, _ = paired(("CaTiO3", first), ("SrZrO3", second))
    assert pairs[0].substitution == {"Sr": "Ca", "Zr": "Ti", "O": "O"}
    assert pairs[0].species.count("O") == 3
    assert pairs[0].structure("relaxed").matches(first, scale=False)
    assert pairs[0].structure("unrelaxed").volume == pytest.approx(4.1**3)


def test_elements_stay_on_orbits_of_their_sizes():
    assert find_substitutions({"Ca": [1, 1], "O": [2]}, {"Mg": [2], "S": [1, 1]}) == [{"Ca": "S", "O": "Mg"}]


def test_a_second_crystal_of_one_identifier_is_dropped(paired):
    pairs, dropped = paired(("mp-1", salt("Mg")), ("mp-2", salt("Ca")), ("mp-1", salt("Sr")))
    assert [(pair.target, pair.template) for pair in pairs] == [("mp-1", "mp-2"), ("mp-2", "mp-1")]
    assert {pair.structure("relaxed").reduced_formula for pair in pairs} == {"MgO", "CaO"}
    assert dropped == [Dropped("crystals.jsonl, line 3: mp-1", SAME_NAME)]


def test_broken_crystals_are_dropped(tmp_path):
    broken = salt("Ca")
    broken.append("O", [0.01, 0, 0])
    mixed = salt("Sr")
    mixed.replace(0, {"Sr": 0.5, "Ba": 0.5})
    rows = [json.dumps(item.as_dict()) for item in (broken, mixed, salt("Ca"), salt("Mg"))]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    pairs, dropped = split_kinds(read_isostructural(tmp_path / "a.jsonl", tmp_path / "unfinished"))
    assert len(pairs) == 2
    assert dropped == [
        Dropped("a.jsonl, line 1", "relaxed crystal: atoms nearly coincide"),
        Dropped("a.jsonl, line 2", "relaxed crystal: disordered"),
    ]


def test_a_broken_line_is_a_dropped_row_and_not_the_end(run, tmp_path):
    good = [line(f"{cation}O", salt(cation)) for cation in LENGTHS]
    wrong = json.loads(good[0])
    bad = {
        "line 3": (b'{"id": "half', "not JSON"),
        "line 4": (b"\xff\xfe\x00", "not JSON"),
        "line 5": (b"[1, 2]", "not readable as a crystal"),
        "line 6": (b"null", "not readable as a crystal"),
        "line 7": (json.dumps(wrong | {"frac": [[0, 0, 0]], "id": "line 7"}).encode(), "record is missing or wrong"),
        "line 8": (json.dumps(wrong | {"species": ["Xx", "O"]}).encode(), "species is missing or wrong"),
        "line 9": (json.dumps({"lattice_parameters": [1] * 6}).encode(), "species is missing or wrong"),
        "line 10": (
            json.dumps(wrong | {"lattice_parameters": [0] * 6, "id": "line 10"}).encode(),
            "record is missing or wrong",
        ),
        "line 11": (json.dumps(wrong | {"geometry": "other", "id": "line 11"}).encode(), OTHER_FUNCTIONAL),
    }  # fmt: skip
    lines = [*map(str.encode, good[:2]), *(text for text, _ in bad.values()), b"", *map(str.encode, good[2:])]
    (tmp_path / "crystals.jsonl").write_bytes(b"\n".join(lines))
    code, _, _ = run("pairs", "isostructural", tmp_path / "crystals.jsonl", "-o", tmp_path / "own", "--split", "none")
    assert code == 0
    assert {row.target for row in read_records(tmp_path / "own/pairs.jsonl.gz", PairRecord)} == {
        f"{cation}O" for cation in LENGTHS
    }
    found = {row["name"].removeprefix("crystals.jsonl, "): row["reason"] for row in dropped_rows(tmp_path / "own")}
    assert {name: reason for name, reason in found.items() if "->" not in name} == {
        name: reason for name, (_, reason) in bad.items()
    }


def test_a_file_that_ends_too_early(tmp_path):
    text = "\n".join(line(f"{cation}O", salt(cation)) for cation in LENGTHS)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text.encode())[:-20])
    _, dropped = split_kinds(read_isostructural(tmp_path / "a.jsonl.gz", tmp_path / "unfinished"))
    assert any("the rest of the file cannot be read" in item.reason for item in dropped)


def test_crystals_of_another_functional_are_neither_targets_nor_templates(tmp_path):
    rows = [line("MgO", salt("Mg")), line("CaO", salt("Ca")), line("SrO", salt("Sr"), geometry="other")]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    pairs, dropped = split_kinds(read_isostructural(tmp_path / "a.jsonl", tmp_path / "unfinished"))
    assert {name for pair in pairs for name in (pair.target, pair.template)} == {"MgO", "CaO"}
    assert dropped == [Dropped("SrO", OTHER_FUNCTIONAL)]


@pytest.mark.parametrize("number", [50, 100])
def test_comparisons_grow_with_the_number_of_crystals(tmp_path, monkeypatch, number):
    """One kind of crystals of which none is like another: all are tried TRIES times, not with each other."""
    symbols = [element.symbol for element in Element if element.mendeleev_no is not None][:number]
    pairs = [(a, b) for a in symbols[:20] for b in symbols[20:40]][:number]
    (tmp_path / "a.jsonl").write_text("\n".join(line(a + b, salt(a, b, 5.0)) for a, b in pairs))
    calls = []
    monkeypatch.setattr(isostructural, "least_deformation", lambda *some, **more: calls.append(some))
    _, dropped = split_kinds(read_isostructural(tmp_path / "a.jsonl", tmp_path / "unfinished", max_per_target=2))
    assert [item.reason for item in dropped] == [NO_TEMPLATE] * number
    assert len(calls) == 2 * TRIES * number


elements = st.tuples(st.integers(1, 9), st.integers(1, 9)).map(lambda pair: tuple(map(float, sorted(pair))))


@given(points=st.lists(elements, min_size=1, max_size=60), most=st.integers(1, 8), seed=st.integers(0, 3))
def test_the_index_finds_what_sorting_all_finds(points, most, seed):
    entries = [Entry(f"c{i}", str(point), point, (1.0, 1.0, 1.0), 0, i) for i, point in enumerate(points)]
    index = NearestTemplates(entries, seed)
    for target in entries[:5]:
        distances = sorted(
            sum(abs(a - b) for a, b in zip(entry.elements, target.elements, strict=True))
            for entry in entries
            if entry.formula != target.formula
        )
        found = index.near(target, most)
        assert len({entry.name for entry in found}) == len(found)
        assert all(entry.formula != target.formula for entry in found)
        assert [
            sum(abs(a - b) for a, b in zip(entry.elements, target.elements, strict=True)) for entry in found
        ] == distances[:most]


def test_many_crystals_of_one_formula_take_no_longer(monkeypatch):
    """A thousand polymorphs beside one target are not all looked at."""
    entries = [Entry(f"c{i}", "SiO2", (1.0, 2.0), (1.0, 1.0, 9.0), 0, i) for i in range(1000)]
    target = Entry("t", "GeO2", (1.5, 2.0), (1.0, 1.0, 1.0), 0, 1000)
    looked_at = []
    monkeypatch.setattr("cryslator_flows.pairs.sources.nearest._alike", lambda *axes: looked_at.append(axes))
    assert NearestTemplates([*entries, target], 0).near(target, 4) == []
    assert len(looked_at) == 32


def test_a_folder_of_files(tmp_path):
    (tmp_path / "more").mkdir()
    salt("Ca").to(str(tmp_path / "CaO.cif"))
    salt("Mg").to(str(tmp_path / "more/MgO.vasp"), fmt="poscar")
    (tmp_path / "notes.txt").write_text("nothing")
    pairs, dropped = split_kinds(read_isostructural(tmp_path, tmp_path / "own/unfinished"))
    assert {pair.target for pair in pairs} == {"CaO.cif", "more/MgO.vasp"}
    assert dropped == [Dropped("notes.txt", "not readable as a crystal")]


def test_lines_of_structures_and_of_relaxed_records(tmp_path):
    structures = [salt("Ca"), salt("Mg")]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(item.as_dict()) for item in structures))
    rows = [
        {
            "id": f"mp-{number}",
            "species": [site.specie.symbol for site in item],
            "lattice_parameters": item.lattice.parameters,
            "frac": item.frac_coords.tolist(),
            "formation_energy_per_atom": -3.0,
        }
        for number, item in enumerate(structures)
    ]
    rows[1]["split"] = "test"
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)))
    plain, _ = split_kinds(read_isostructural(tmp_path / "a.jsonl", tmp_path / "own/unfinished"))
    records, _ = split_kinds(read_isostructural(tmp_path / "b.jsonl", tmp_path / "own/unfinished"))
    assert [pair.target for pair in records] == ["mp-0", "mp-1"]
    assert [pair.structure("relaxed").volume for pair in plain] == pytest.approx(
        [pair.structure("relaxed").volume for pair in records]
    )
    assert [pair.model_extra.get("split") for pair in records] == [None, "test"]
    assert [pair.formation_energy_per_atom for pair in (records[0], plain[0])] == [-3.0, None]
    assert plain[0].model_extra.keys() == {"template", "template_formula", "substitution"}


def test_nothing_to_read(tmp_path):
    with pytest.raises(StructureError, match="no such file or folder"):
        next(read_isostructural(tmp_path / "none", tmp_path / "own/unfinished"))


def test_the_relaxations_of_a_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    documents = [relax(PairPotentialRelaxMaker(), salt(cation, length=3.0))[0] for cation in ("Mg", "Ca")]
    store = SQLiteStore(str(tmp_path / "tasks.sqlite"), "tasks")
    store.connect()
    rows = jsanitize(documents, strict=True, enum_values=True)
    store.update([{"uuid": str(number), "output": row} for number, row in enumerate(rows)], "uuid")
    store.close()
    spec = {"type": "SQLiteStore", "path": "tasks.sqlite", "collection_name": "tasks"}
    (tmp_path / "store.yaml").write_text(yaml.safe_dump({"store": spec}))
    pairs, dropped = split_kinds(read_isostructural(tmp_path / "store.yaml", tmp_path / "own/unfinished"))
    assert ([(pair.template, pair.target) for pair in pairs], dropped) == ([("1", "0"), ("0", "1")], [])
    for pair, document in zip(pairs, documents, strict=True):
        assert pair.structure("relaxed").volume == pytest.approx(document.structure.volume)
        assert pair.energy_per_atom == pytest.approx(document.output.energy / 2)


def test_no_training_pair_has_a_held_out_template(run, tmp_path):
    for cation in LENGTHS:
        salt(cation).to(str(tmp_path / f"{cation}O.cif"))
    code, out, err = run("pairs", "isostructural", tmp_path, "-o", tmp_path / "own", "--max-per-target", 5)
    # Such templates are not even tried, and others take their place.
    assert (code, "dropped: leakage" in out, "0 of" in err) == (0, False, True)
    parts = {
        part: [*read_records(tmp_path / f"own/pairs-{part}.jsonl.gz", PairRecord)] for part in ("train", "val", "test")
    }
    assert all(parts.values())
    held_out = {row.structure("relaxed").reduced_formula for part in ("val", "test") for row in parts[part]}
    assert not held_out & {row.template_formula for row in parts["train"]}
    read = json.loads((tmp_path / "own/pairs.json").read_text())
    n_train = len(LENGTHS) - len(held_out)
    assert read["read"] == n_train * (n_train - 1) + len(held_out) * 5
    assert read["kept"] + sum(read["dropped"].values()) == read["read"]


def test_a_split_of_the_source_decides_which_templates_are_tried(run, tmp_path):
    parts = dict(zip(LENGTHS, ["train", "train", "test", "train", "val", "train"], strict=True))
    rows = [line(f"{cation}O", salt(cation, length=4.5), split=part) for cation, part in parts.items()]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    options = ["--split", "given", "--max-per-target", 3]
    assert run("pairs", "isostructural", tmp_path / "a.jsonl", "-o", tmp_path / "own", *options)[0] == 0
    for part, number in (("train", 4 * 3), ("val", 3), ("test", 3)):
        found = [*read_records(tmp_path / f"own/pairs-{part}.jsonl.gz", PairRecord)]
        assert len(found) == number
        if part == "train":
            assert {parts[row.template.removesuffix("O")] for row in found} == {"train"}


def test_what_is_unfinished_of_another_job_is_not_used(paired, tmp_path):
    paired(salt("Mg"), salt("Ca"))
    pairs, _ = paired(salt("Sr"), salt("Ca"))
    assert {pair.target for pair in pairs} == {"SrO", "CaO"}
    assert len(paired(salt("Sr"), salt("Ca"), salt("Mg"), max_per_target=1)[0]) == 3
