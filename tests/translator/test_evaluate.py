import gzip
import json

import pytest
from pymatgen.core import Lattice, Structure

from cryslator_flows.errors import DataError
from cryslator_flows.translator.evaluate import displacement, evaluate, score_structures
from cryslator_flows.translator.records import PairRecord, read_records
from cryslator_flows.translator.translator import Translator


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
    score = score_structures([(larger, larger, perovskite), (perovskite, perovskite, perovskite)])
    assert score.volume_error == pytest.approx(0.125)
    assert score.loose_match == 1.0
    assert score.strict_match == 0.5
    assert score.symmetry_kept == 1.0
    assert score_structures([(perovskite, shaken, perovskite)]).symmetry_kept == 0.0


def test_first_pair_of_each_target_is_scored_beside_the_baselines(tiny_model, perovskite):
    larger = perovskite.copy()
    larger.scale_lattice(perovskite.volume * 1.1)
    rows = [pair(larger, perovskite, "a"), pair(perovskite, perovskite, "a"), pair(larger, perovskite, "b", None)]
    result = evaluate(Translator.from_pretrained(tiny_model.path), [PairRecord.model_validate(row) for row in rows])
    assert result.n_targets == 2
    assert result.n_energies == 1
    assert list(result.structures) == ["input copied", "volume only", "tiny"]
    assert result.structures["input copied"].volume_error == pytest.approx(0.1)
    # 5 atoms of 11 A^3 each, the volumes of the tiny model.
    assert result.structures["volume only"].volume_error == pytest.approx(abs(55 / perovskite.volume - 1), rel=1e-4)


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


@pytest.mark.parametrize("content", [b"{", b"\x1f\x8b\x08broken"])
def test_unreadable_pairs(tmp_path, content):
    path = tmp_path / ("pairs.jsonl.gz" if content.startswith(b"\x1f") else "pairs.jsonl")
    path.write_bytes(content)
    with pytest.raises(DataError, match="pairs"):
        list(read_records(path, PairRecord))
    with pytest.raises(DataError, match="cannot be read"):
        list(read_records(tmp_path / "missing.jsonl", PairRecord))
