"""`cryslator pairs` on published kinds of data, from files in their layouts to files of pairs."""

import json

import pytest

from cryslator_flows.training.records import PairRecord, read_records
from tests.pairs.miniature import make_pairs, write_deeprelax, write_mpf, write_xmno


@pytest.fixture(scope="module")
def made():
    return make_pairs(20)


@pytest.mark.parametrize(
    ("kind", "write", "split", "kept", "dropped"),
    [
        ("xmno", write_xmno, "given", 20, {}),
        ("deeprelax", write_deeprelax, "given", 18, {"no relaxed structure": 2}),
        ("mpf", write_mpf, "formula", 20, {}),
    ],
)
def test_from_files_to_pairs(tmp_path, run, made, kind, write, split, kept, dropped):
    write(tmp_path / "source", made)
    code, out, _ = run("pairs", kind, tmp_path / "source", "-o", tmp_path / "out", "--split", split)
    assert code == 0, out
    summary = json.loads((tmp_path / "out/pairs.json").read_text())
    assert (summary["kind"], summary["kept"], summary["dropped"]) == (kind, kept, dropped)
    files = sorted((tmp_path / "out").glob("pairs-*.jsonl.gz"))
    records = {record.target: record for path in files for record in read_records(path, PairRecord)}
    known = {name: pair for name, *pair in made} | {f"mp-{number}": pair for number, (_, *pair) in enumerate(made)}
    assert len(records) == kept
    for target, record in records.items():
        unrelaxed, relaxed, energy = known[target]
        assert record.structure("unrelaxed").volume == pytest.approx(unrelaxed.volume, rel=1e-5)
        assert record.structure("relaxed").volume == pytest.approx(relaxed.volume, rel=1e-5)
        assert record.structure("relaxed").composition == relaxed.composition
        assert record.formation_energy_per_atom == (pytest.approx(energy) if kind == "xmno" else None)
        assert getattr(record, "energy_per_atom", None) == (pytest.approx(energy) if kind == "mpf" else None)


def test_intermediates(tmp_path, run, made):
    write_mpf(tmp_path / "mpf", made[:8])
    code, *_ = run("pairs", "mpf", tmp_path / "mpf", "-o", tmp_path / "out", "--intermediates", 1, "--split", "none")
    assert code == 0
    records = list(read_records(tmp_path / "out/pairs.jsonl.gz", PairRecord))
    assert [record.target for record in records] == [f"mp-{number}" for number in range(8) for _ in range(2)]


def test_a_malicious_pickle_leaves_files_as_they_are(tmp_path, run, made):
    write_mpf(tmp_path / "mpf", made[:8])
    assert run("pairs", "mpf", tmp_path / "mpf", "-o", tmp_path / "out")[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    (tmp_path / "mpf/block_1.p").write_bytes(b"cposix\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    code, _, errors = run("pairs", "mpf", tmp_path / "mpf", "-o", tmp_path / "out")
    assert code == 2
    assert "block_1.p: refused as a pickle (it wants posix.system)" in errors
    assert not (tmp_path / "ran").exists()
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
