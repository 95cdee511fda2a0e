"""MPF.2021.2.8: pickles in its layout, and pickles that want more than structures and numbers."""

import copy
import os
import pickle
import shutil
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Species, Structure

from cryslator_flows.errors import DataError
from cryslator_flows.pairs.published.mpf import read_mpf
from cryslator_flows.pairs.published.unpickle import read_pickle
from cryslator_flows.pairs.raw import Dropped
from tests.pairs.miniature import make_pairs, relaxation, write_mpf


@pytest.fixture(scope="module")
def made():
    return make_pairs(6)


def same(structure, other):
    return (
        structure.species == other.species
        and np.allclose(structure.lattice.matrix, other.lattice.matrix)
        and np.allclose(structure.frac_coords, other.frac_coords)
    )


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_first_and_last_frame(tmp_path, made, protocol):
    """Frames come in the order of their identifiers: the second relaxation is calculation 0."""
    write_mpf(tmp_path / "mpf", made, protocol)
    pairs = list(read_mpf(tmp_path / "mpf"))
    assert [pair.target for pair in pairs] == [f"mp-{number}" for number in range(6)]
    for pair, (_, unrelaxed, relaxed, energy) in zip(pairs, made, strict=True):
        assert same(pair.unrelaxed, unrelaxed)
        assert same(pair.relaxed, relaxed)
        assert pair.columns == {"energy_per_atom": pytest.approx(energy)}


@given(order=st.permutations(range(3)))
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_order_of_frames_in_the_file_does_not_matter(tmp_path, made, order):
    entry = relaxation("mp-1", *made[0][1:])
    shuffled = {key: [values[index] for index in order] for key, values in entry.items()}
    (tmp_path / "block_0.p").write_bytes(pickle.dumps({"mp-1": shuffled}))
    (pair,) = read_mpf(tmp_path / "block_0.p")
    assert same(pair.unrelaxed, made[0][1])
    assert same(pair.relaxed, made[0][2])
    assert pair.columns == {"energy_per_atom": pytest.approx(made[0][3])}


def test_block_folder_and_archive(tmp_path, made):
    write_mpf(tmp_path / "mpf", made)
    archive = shutil.make_archive(str(tmp_path / "19470599"), "zip", tmp_path / "mpf")
    assert [pair.name for pair in read_mpf(tmp_path / archive)] == [f"mp-{number}" for number in range(6)]
    assert [pair.name for pair in read_mpf(tmp_path / "mpf/block_1.p")] == ["mp-3", "mp-4", "mp-5"]


def test_intermediates(tmp_path, made):
    write_mpf(tmp_path / "mpf", made[:2])
    first, second, *_ = read_mpf(tmp_path / "mpf", intermediates=1)
    assert (first.target, second.target) == ("mp-0", "mp-0")
    assert second.columns == first.columns
    assert second.unrelaxed.volume == pytest.approx((first.unrelaxed.volume + first.relaxed.volume) / 2, rel=0.01)
    # There are no more than there are.
    assert len(list(read_mpf(tmp_path / "mpf", intermediates=9))) == 4


def test_structures_of_an_old_pymatgen(tmp_path, made):
    """Without attributes that came later, with modules of NumPy 1: today's pymatgen would not show them."""
    entry = copy.deepcopy(relaxation("mp-1", *made[0][1:]))
    for structure in entry["structure"]:
        del structure.__dict__["_properties"]
        del structure.lattice.__dict__["_pbc"]
        for site in structure:
            del site.__dict__["_label"]
    content = pickle.dumps({"mp-1": entry}, protocol=2).replace(b"cnumpy._core.", b"cnumpy.core.")
    (tmp_path / "block_0.p").write_bytes(content)
    (pair,) = read_mpf(tmp_path / "block_0.p")
    assert same(pair.relaxed, made[0][2])
    assert pair.relaxed.lattice.pbc == (True, True, True)


def test_oxidation_states_are_left_out(tmp_path):
    salt = Structure(Lattice.cubic(3), [Species("Na", 1), Species("Cl", -1)], [[0] * 3, [0.5] * 3])
    (tmp_path / "salt.p").write_bytes(pickle.dumps(salt))
    assert read_pickle(tmp_path / "salt.p").build().formula == "Na1 Cl1"


def test_damaged_entries_are_dropped(tmp_path, made):
    entries = [relaxation(f"mp-{number}", *pair[1:]) for number, pair in enumerate(made)]
    entries[0]["energy"].pop()
    del entries[1]["structure"]
    entries[2]["structure"][1] = "no structure"
    entries[3]["energy"][0] = float("nan")
    entries[4] = {key: values[:1] for key, values in entries[4].items()}
    (tmp_path / "block_0.p").write_bytes(pickle.dumps({f"mp-{number}": row for number, row in enumerate(entries)}))
    *dropped, last = read_mpf(tmp_path / "block_0.p")
    damaged = "frames are damaged or incomplete"
    assert dropped == [
        *(Dropped(f"mp-{number}", damaged) for number in range(4)),
        Dropped("mp-4", "fewer than two frames"),
    ]
    assert last.target == "mp-5"


class Malicious:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_commands_are_refused_and_not_run(tmp_path, made, protocol):
    marker = tmp_path / "ran"
    content = {"mp-1": Malicious(os.system, f"touch {marker}"), "mp-2": relaxation("mp-2", *made[0][1:])}
    path = tmp_path / "block_0.p"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(
        DataError, match=r"block_0\.p: refused .*(posix|nt)\.system.* download the file from its source"
    ):
        list(read_mpf(path))
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists()


@pytest.mark.parametrize(
    ("thing", "wanted"),
    [
        (Malicious(eval, "1"), "builtins.eval"),
        (Malicious(getattr, "", "join"), "builtins.getattr"),
        (Malicious(np.load, "file.npy"), "numpy.load"),
        (Malicious(Structure.from_file, "a.cif"), "builtins.getattr"),
        (Fraction(1, 2), "fractions.Fraction"),
        (np.array([{}]), "an array of the type 'O8'"),
    ],
)
def test_anything_unknown_is_named(tmp_path, thing, wanted):
    (tmp_path / "block_0.p").write_bytes(pickle.dumps({"mp-1": thing}))
    with pytest.raises(DataError, match=wanted):
        list(read_mpf(tmp_path / "block_0.p"))


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x04", pickle.dumps({"a": 1})[:-2]])
def test_no_pickles(tmp_path, content):
    (tmp_path / "block_0.p").write_bytes(content)
    with pytest.raises(DataError, match=r"block_0\.p"):
        list(read_mpf(tmp_path / "block_0.p"))


def test_clear_errors(tmp_path):
    with pytest.raises(DataError, match=r"no block_0\.p or block_1\.p in it"):
        list(read_mpf(tmp_path))
    (tmp_path / "block_0.p").write_bytes(pickle.dumps([1]))
    with pytest.raises(DataError, match="holds a list, not a dictionary by identifier"):
        list(read_mpf(tmp_path))
