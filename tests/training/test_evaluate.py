import gzip
import json

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from cryslator_flows.crystals.compound_classes import compound_class
from cryslator_flows.errors import DataError
from cryslator_flows.training.evaluate import (
    INPUTS,
    evaluate,
    make_inputs,
    score_structures,
    score_uncertainty,
)
from cryslator_flows.training.prepare import pair_row, to_pairs
from cryslator_flows.training.records import PairRecord, RelaxedRecord, read_lines, read_records
from cryslator_flows.training.structure_match import compare, displacement
from cryslator_flows.translator.loaded import LoadedModel
from cryslator_flows.translator.model_folder import FORMATION_ENERGY


def geometry(structure):
    return {"lattice": structure.lattice.matrix.tolist(), "frac": structure.frac_coords.tolist()}


def pair(unrelaxed, relaxed, target="a", energy=-2.0):
    return {
        "target": target,
        "species": [site.specie.symbol for site in relaxed],
        "unrelaxed": geometry(unrelaxed),
        "relaxed": geometry(relaxed),
        "formation_energy_per_atom": energy,
    }


def test_displacement_by_hand():
    lattice = Lattice.orthorhombic(4, 5, 6)
    relaxed = Structure(lattice, ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    # A shift of everything, an image and 0.2 A of one atom against the other: each moves 0.1 A about the mean.
    predicted = Structure(lattice, ["Mg", "O"], [[0.3, 0.1, 0.95], [-0.2 + 0.2 / 4, 0.6, 1.45]])
    assert displacement(predicted, relaxed) == pytest.approx(0.1)


def test_scores_by_hand(perovskite):
    larger = perovskite.copy()
    larger.scale_lattice(perovskite.volume * 1.25)
    shaken = perovskite.copy()
    shaken.translate_sites([2], [0.02, 0, 0])
    assert compare(larger, larger, perovskite) == pytest.approx([0.25, 0, True, False, True, 0])
    assert compare(perovskite, perovskite, perovskite) == pytest.approx([0, 0, True, True, True, 0])
    # One of five atoms moves by 0.02 along one axis, the drift of 0.004 apart.
    assert compare(perovskite, shaken, perovskite)[-2:] == [0, pytest.approx((0.016 + 4 * 0.004) / 15)]


def test_coverage_of_structures_counts_what_symmetry_leaves_free():
    errors = np.array([[0.01, 0.0, 0.0], [0.03, 0.02, 0.0], [0.01, 0.05, 0.2]])
    widths = np.array([[0.02, 0.0, 0.0], [0.02, 0.03, 0.0], [0.02, 0.03, 0.3]])
    found = score_structures(errors, widths)
    assert (found.volume, found.shape, found.displacement) == pytest.approx((2 / 3, 1 / 2, 1))
    assert found.mean_widths == pytest.approx((0.02, 0.02, 0.1))
    assert score_structures(errors[:1], widths[:1]).shape is None


def test_first_pair_of_each_target_is_scored_beside_the_baselines(tiny_model, perovskite):
    larger = perovskite.copy()
    larger.scale_lattice(perovskite.volume * 1.1)
    rows = [pair(larger, perovskite, "a"), pair(perovskite, perovskite, "a"), pair(larger, perovskite, "b", None)]
    calls = []
    (result,) = evaluate(
        [LoadedModel(tiny_model)],
        [PairRecord.model_validate(row) for row in rows],
        progress=lambda *call: calls.append(call),
    )
    assert result.n_targets == 2
    assert result.n_energies == 1
    assert result.models == {"tiny": tiny_model.version()}
    assert [score.method for score in result.scores] == ["input copied", "volume only", "tiny"]
    assert result.score("input copied").structure.volume_error == pytest.approx(0.1, rel=1e-4)
    assert result.score("input copied").energy_mae is None
    # 5 atoms of 11 A^3 each, the volumes of the tiny model.
    volume_only = result.score("volume only").structure.volume_error
    assert volume_only == pytest.approx(abs(55 / perovskite.volume - 1), rel=1e-4)
    assert calls[-1] == ("tiny, unrelaxed", 2, 2)


def test_all_inputs_and_the_manganese_oxides_apart(tiny_model, perovskite):
    larger = perovskite.copy()
    larger.scale_lattice(perovskite.volume * 1.3)
    rows = [pair(larger, perovskite, "a")]
    rows.append(pair(*(structure.copy().replace_species({"Ti": "Mn"}) for structure in (larger, perovskite)), "b"))
    everything, xmno = evaluate([LoadedModel(tiny_model)], [PairRecord.model_validate(row) for row in rows], INPUTS)
    assert (everything.chemistry, xmno.chemistry) == ("all", "X-Mn-O")
    assert (everything.n_targets, xmno.n_targets) == (2, 1)
    copied = [everything.score("input copied", kind).structure.volume_error for kind in INPUTS]
    assert copied[0] == pytest.approx(0.3, rel=1e-4)
    assert 0 < copied[1] < 0.5
    assert copied[2] == pytest.approx(0, abs=1e-6)
    assert everything.score("input copied", "relaxed").structure.strict_match == 1


def test_intermediates_are_the_same_every_time(perovskite):
    larger = perovskite.copy()
    larger.scale_lattice(perovskite.volume * 1.3)
    pairs = to_pairs([pair_row(PairRecord.model_validate(pair(larger, perovskite)), FORMATION_ENERGY)])
    one, two = (make_inputs(pairs, "intermediate") for _ in range(2))
    assert (one.lattices == two.lattices).all()
    assert (one.frac == two.frac).all()


def test_uncertainty_scores_by_hand():
    errors = np.array([0.1, 0.2, 0.3, 0.4])
    widths = np.array([[0.15, 0.3], [0.15, 0.4], [0.35, 0.5], [0.1, 0.2]])
    score = score_uncertainty(errors, widths, np.array(["", "", "", "wide interval"]))
    assert (score.coverage_68, score.coverage_90) == (0.5, 0.75)
    assert score.mean_width_90 == pytest.approx(0.35)
    assert score.risk == pytest.approx({"25%": 0.4, "50%": 0.25, "75%": 0.7 / 3, "100%": 0.25})
    assert score.mae_in_domain == pytest.approx(0.2)
    assert score.mae_out_of_domain == pytest.approx(0.4)
    assert (score.out_of_domain, score.reasons) == (0.25, {"wide interval": 0.25})
    assert (score.coverage_90_in_domain, score.coverage_90_out_of_domain) == (1.0, 0.0)


def test_records_name_file_line_and_field(tmp_path, perovskite):
    good = pair(perovskite, perovskite)
    for wrong, word in (
        ({**good, "species": ["Qq"] * 5}, "species"),
        ({key: value for key, value in good.items() if key != "relaxed"}, "relaxed"),
        ({**good, "species": ["O"] * 4}, "4 species"),
    ):
        path = tmp_path / "pairs.jsonl.gz"
        with gzip.open(path, "wt") as file:
            file.write(json.dumps(good) + "\n" + json.dumps(wrong) + "\n")
        rows = read_records(path, PairRecord)
        assert next(rows).structure("unrelaxed") == perovskite
        with pytest.raises(DataError, match="line 2") as caught:
            next(rows)
        assert word in str(caught.value)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("formation_energy_per_atom", float("nan"), "finite"),
        ("formation_energy_per_atom", 1e8, "less than or equal to 100"),
        ("relaxed", {"lattice": [[0, 0, 0]] * 3, "frac": [[0, 0, 0]] * 5}, "a cell of no volume"),
        ("relaxed", {"lattice": [[4, 0, 0], [0, 4, 0], [4, 4, 0]], "frac": [[0, 0, 0]] * 5}, "a cell of no volume"),
        ("unrelaxed", {"lattice": [[1e9, 0, 0], [0, 1e9, 0], [0, 0, 1e9]], "frac": [[0, 0, 0]] * 5}, "at most 1000 A"),
        ("unrelaxed", {"lattice": [[float("nan")] * 3] * 3, "frac": [[0, 0, 0]] * 5}, "finite"),
        ("unrelaxed", {"lattice": np.eye(3).tolist(), "frac": [[1e9, 0, 0]] * 5}, "fractional coordinate"),
    ],
)
def test_numbers_of_no_crystal_are_refused(tmp_path, perovskite, field, value, words):
    (tmp_path / "p.jsonl").write_text(json.dumps({**pair(perovskite, perovskite), field: value}))
    with pytest.raises(DataError, match=rf"p.jsonl, line 1, {field}") as caught:
        list(read_records(tmp_path / "p.jsonl", PairRecord))
    assert words in str(caught.value)


def test_relaxed_crystals_are_checked_as_well(tmp_path):
    for changes, words in (
        ({"lattice_parameters": [4, 4, 4, 90, 90, 180]}, "volume"),
        ({"frac": []}, "0 rows for 1 species"),
        ({"formation_energy_per_atom": float("inf")}, "formation_energy_per_atom"),
    ):
        row = {"species": ["Fe"], "lattice_parameters": [4, 4, 4, 90, 90, 90], "frac": [[0, 0, 0]]} | changes
        (tmp_path / "r.jsonl").write_text(json.dumps(row))
        with pytest.raises(DataError, match="line 1") as caught:
            list(read_records(tmp_path / "r.jsonl", RelaxedRecord))
        assert words in str(caught.value)


@pytest.mark.parametrize("name", ["evaluate", "map"])
def test_a_file_without_pairs_is_named(run, tmp_path, name):
    (tmp_path / "empty.jsonl").write_text("\n")
    code, _, err = run(name, tmp_path / "empty.jsonl")
    assert (code, "empty.jsonl: no pairs in it" in err) == (2, True)


def test_a_map_of_one_pair_is_refused(run, tiny_model, tmp_path, perovskite):
    (tmp_path / "one.jsonl").write_text(json.dumps(pair(perovskite, perovskite)))
    code, _, err = run("map", tmp_path / "one.jsonl", "--model", tiny_model.path, "-o", tmp_path)
    assert (code, "give pairs of at least two targets" in err) == (2, True)


def test_other_processes_compare_to_the_same_scores(tiny_model, perovskite, monkeypatch):
    rows = []
    for number in range(5):
        larger = perovskite.copy()
        larger.scale_lattice(perovskite.volume * (1.1 + 0.1 * number))
        rows.append(PairRecord.model_validate(pair(larger, perovskite, f"t{number}")))
    model, calls = LoadedModel(tiny_model), []
    here = evaluate([model], rows)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")
    monkeypatch.setattr("cryslator_flows.training.evaluate.WORTH_PROCESSES", 1)
    monkeypatch.setattr("cryslator_flows.training.evaluate.AT_ONCE", 2)
    monkeypatch.setattr("cryslator_flows.training.structure_match.compare", None)  # this process compares nothing
    there = evaluate([model], rows, progress=lambda *call: calls.append(call))
    assert there == here
    assert calls[:3] == [("input copied, unrelaxed", done, 5) for done in (2, 4, 5)]


def test_lines_that_are_no_json_are_named(tmp_path):
    for content in ("[" * 100_000, "1" * 10_000, '{"a": ' + "x" * 100):
        (tmp_path / "p.jsonl").write_text("{}\n" + content)
        with pytest.raises(DataError, match=r"p.jsonl, line 2: not JSON"):
            list(read_lines(tmp_path / "p.jsonl"))


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("cryslator_flows.training.records.LONGEST_LINE", 1000)
    with gzip.open(tmp_path / "p.jsonl.gz", "wt") as file:
        file.write("{}\n" + "0" * 5000)
    with pytest.raises(DataError, match="line 2: over 1,000 characters"):
        list(read_lines(tmp_path / "p.jsonl.gz"))


def test_a_byte_that_changed_inside_a_gzip_is_one_error(tmp_path):
    path = tmp_path / "p.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(b"{%d}\n" % number for number in range(1000))))
    content = path.read_bytes()
    for place in range(12, len(content), 40):
        path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        with pytest.raises(DataError, match=r"p.jsonl.gz"):
            list(read_lines(path))


@pytest.mark.parametrize("content", [b"{", b"\x1f\x8b\x08broken"])
def test_unreadable_pairs(tmp_path, content):
    path = tmp_path / ("pairs.jsonl.gz" if content.startswith(b"\x1f") else "pairs.jsonl")
    path.write_bytes(content)
    with pytest.raises(DataError, match="pairs"):
        list(read_records(path, PairRecord))
    with pytest.raises(DataError, match="cannot be read"):
        list(read_records(tmp_path / "missing.jsonl", PairRecord))


@pytest.mark.parametrize(
    ("species", "expected"),
    [
        (["Ca", "Ti", "O"], "oxides"),
        (["Bi", "O", "Cl"], "oxides"),
        (["Cs", "Pb", "I"], "halides"),
        (["Cu", "In", "S"], "chalcogenides"),
        (["Hf", "Ni", "Sb"], "pnictides"),
        (["Ti", "C"], "others"),
        (["Ni", "Mn", "Al"], "intermetallics"),
    ],
)
def test_class_of_a_compound(species, expected):
    assert compound_class(species) == expected
