import json
from itertools import pairwise

import pytest
import yaml
from monty.json import jsanitize
from pymatgen.core import Element, Lattice, Structure

from cryslator_flows.campaign.store import SQLiteStore
from cryslator_flows.pairs.align import align
from cryslator_flows.pairs.isostructural import (
    NO_TEMPLATE,
    RelaxedCrystal,
    isostructural_pairs,
    read_isostructural,
)
from cryslator_flows.pairs.raw import Dropped, RawPair
from cryslator_flows.translator.records import PairRecord, read_records
from tests.fake_vasp.runs import relax
from tests.flows.makers import PairPotentialRelaxMaker

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


def crystals(*structures, **columns):
    return [RelaxedCrystal(structure.reduced_formula, structure, columns) for structure in structures]


def split_kinds(items):
    items = [*items]
    return [item for item in items if isinstance(item, RawPair)], [item for item in items if isinstance(item, Dropped)]


def test_the_cell_of_the_template_with_the_elements_of_the_target():
    pairs, dropped = split_kinds(isostructural_pairs(crystals(salt("Mg"), salt("Ca"), energy_per_atom=-5.0)))
    assert dropped == []
    assert [(pair.name, pair.target) for pair in pairs] == [("CaO -> MgO", "MgO"), ("MgO -> CaO", "CaO")]
    pair = pairs[0]
    assert pair.unrelaxed == Structure(salt("Ca").lattice, ["Mg", "O"], salt("Ca").frac_coords)
    assert pair.relaxed == salt("Mg")
    assert pair.columns == {
        "energy_per_atom": -5.0,
        "template": "CaO",
        "template_formula": "CaO",
        "substitution": {"Ca": "Mg", "O": "O"},
    }


def test_other_structures_and_the_same_formula_are_no_templates():
    items = crystals(salt("Mg"), salt("Mg", length=4.3), caesium_chloride("Ca", "O"), perovskite("Ca", "Ti"))
    pairs, dropped = split_kinds(isostructural_pairs(items))
    assert pairs == []
    assert [item.reason for item in dropped] == [NO_TEMPLATE] * 4


def test_only_what_structure_matcher_maps_is_paired():
    """One space group, number of atoms and sizes of orbits, but axes of other proportions."""
    layered, dense = (
        Structure(Lattice.tetragonal(3.5, c), [cation, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        for c, cation in ((3.9, "Mg"), (7.5, "Ca"))
    )
    near = Structure(Lattice.tetragonal(3.6, 3.95), ["Sr", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    pairs, dropped = split_kinds(isostructural_pairs(crystals(layered, dense, near)))
    assert {(pair.columns["template"], pair.target) for pair in pairs} == {("MgO", "SrO"), ("SrO", "MgO")}
    assert dropped == [Dropped("CaO", NO_TEMPLATE)]


def test_the_nearest_templates_are_taken_and_always_the_same_ones():
    items = crystals(*(salt(cation) for cation in LENGTHS))
    for count in (1, 2, 5):
        pairs, _ = split_kinds(isostructural_pairs(items, count))
        assert len(pairs) == count * len(LENGTHS)
        for target in LENGTHS:
            numbers = {name: abs(Element(name).mendeleev_no - Element(target).mendeleev_no) for name in LENGTHS}
            chosen = [pair.columns["template"].removesuffix("O") for pair in pairs if pair.target == f"{target}O"]
            assert all(numbers[first] <= numbers[second] for first, second in pairwise(chosen))
            left_out = set(LENGTHS) - {*chosen, target}
            assert not left_out or numbers[chosen[-1]] <= min(map(numbers.get, left_out))
    shuffled, _ = split_kinds(isostructural_pairs(items[::-1], 2))
    first, _ = split_kinds(isostructural_pairs(items, 2))
    assert {pair.name for pair in shuffled} == {pair.name for pair in first}


def test_a_seed_decides_between_equally_near_templates():
    items = crystals(salt("Mg"))
    items += [RelaxedCrystal(f"c{number}", salt("Ca", length=4.5 + number / 20), {}) for number in range(10)]

    def chosen(seed):
        pairs, _ = split_kinds(isostructural_pairs(items, 3, seed))
        return [pair.columns["template"] for pair in pairs if pair.target == "MgO"]

    assert chosen(0) == chosen(0)
    assert len({tuple(chosen(seed)) for seed in range(5)}) > 1


def test_the_substitution_is_that_of_least_change_of_electronegativity():
    items = crystals(perovskite("Ca", "Ti"), perovskite("Sr", "Zr", 4.1, order=[4, 1, 2, 0, 3]))
    pairs, _ = split_kinds(isostructural_pairs(items))
    assert pairs[0].columns["substitution"] == {"Sr": "Ca", "Zr": "Ti", "O": "O"}
    record = align(pairs[0])
    assert record.species.count("O") == 3
    assert record.structure("relaxed").matches(items[0].structure, scale=False)
    assert record.structure("unrelaxed").volume == pytest.approx(4.1**3)


def test_broken_crystals_are_dropped():
    broken = salt("Ca")
    broken.append("O", [0.01, 0, 0])
    mixed = salt("Sr")
    mixed.replace(0, {"Sr": 0.5, "Ba": 0.5})
    items = [RelaxedCrystal("broken", broken), RelaxedCrystal("mixed", mixed), *crystals(salt("Ca"), salt("Mg"))]
    pairs, dropped = split_kinds(isostructural_pairs(items))
    assert len(pairs) == 2
    assert dropped == [
        Dropped("broken", "relaxed crystal: atoms nearly coincide"),
        Dropped("mixed", "relaxed crystal: disordered"),
    ]


def test_a_folder_of_files(tmp_path):
    (tmp_path / "more").mkdir()
    salt("Ca").to(str(tmp_path / "CaO.cif"))
    salt("Mg").to(str(tmp_path / "more/MgO.vasp"), fmt="poscar")
    (tmp_path / "notes.txt").write_text("nothing")
    pairs, dropped = split_kinds(read_isostructural(tmp_path))
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
    plain, _ = split_kinds(read_isostructural(tmp_path / "a.jsonl"))
    records, _ = split_kinds(read_isostructural(tmp_path / "b.jsonl"))
    assert [pair.target for pair in records] == ["mp-0", "mp-1"]
    assert [align(pair).structure("relaxed").volume for pair in plain] == pytest.approx(
        [align(pair).structure("relaxed").volume for pair in records]
    )
    assert [pair.columns.get("split") for pair in records] == [None, "test"]
    assert records[0].columns["formation_energy_per_atom"] == -3.0
    assert plain[0].columns.keys() == {"template", "template_formula", "substitution"}


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
    pairs, dropped = split_kinds(read_isostructural(tmp_path / "store.yaml"))
    assert ([pair.name for pair in pairs], dropped) == (["1 -> 0", "0 -> 1"], [])
    for pair, document in zip(pairs, documents, strict=True):
        assert pair.relaxed.volume == pytest.approx(document.structure.volume)
        assert pair.columns["energy_per_atom"] == pytest.approx(document.output.energy / 2)


def test_no_training_pair_has_a_held_out_template(run, tmp_path):
    for cation in LENGTHS:
        salt(cation).to(str(tmp_path / f"{cation}O.cif"))
    code, out, err = run("pairs", "isostructural", tmp_path, "-o", tmp_path / "own", "--max-per-target", 5)
    assert (code, "dropped: leakage" in out, "0 of" in err) == (0, True, True)
    parts = {
        part: [*read_records(tmp_path / f"own/pairs-{part}.jsonl.gz", PairRecord)] for part in ("train", "val", "test")
    }
    assert all(parts.values())
    held_out = {row.structure("relaxed").reduced_formula for part in ("val", "test") for row in parts[part]}
    assert not held_out & {row.template_formula for row in parts["train"]}
    read = json.loads((tmp_path / "own/pairs.json").read_text())
    assert read["read"] == 30
    assert read["kept"] + sum(read["dropped"].values()) == 30
