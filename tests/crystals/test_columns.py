from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Structure

from cryslator_flows.crystals.columns import (
    STEP,
    decode_columns,
    encode_columns,
    from_moves,
    n_moves,
    squeeze,
    to_moves,
    unsqueeze,
)
from cryslator_flows.crystals.symmetry import SYMPREC, symmetrize_like
from cryslator_flows.errors import DataError
from tests.crystals.test_symmetry import TEMPLATES, disturbed, symmetry

# Few numbers, so that they repeat with both signs, and the largest that there can be.
numbers = st.sampled_from([0, 1, -1, 7, -7, 2**31, -(2**31), 2**62, -(2**62)])


@st.composite
def columns(draw):
    n_atoms = np.array(draw(st.lists(st.integers(0, 3), max_size=4)), dtype=np.int32)
    moves = [draw(numbers) for _ in range(n_moves(n_atoms).sum())]
    texts = draw(st.lists(st.text("Ab é", max_size=3), min_size=len(n_atoms), max_size=len(n_atoms)))
    return {
        "n_atoms": n_atoms,
        "moves": np.array(moves, dtype=np.int64),
        "formula": np.array(texts, dtype=np.str_),
        "energy": np.linspace(-1, 0, len(n_atoms)),
        "good": n_atoms > 1,
    }


@given(columns())
def test_columns_come_out_exactly(arrays):
    found = decode_columns(encode_columns(arrays))
    assert found.keys() == arrays.keys()
    for name, column in arrays.items():
        assert found[name].dtype.kind == column.dtype.kind
        assert np.array_equal(found[name], column)


@given(st.sampled_from(TEMPLATES), st.integers(0, 10**6))
@settings(max_examples=60)
def test_space_group_and_positions_are_kept(template, seed):
    """A thousand times finer than the tolerance of DFT codes, and nothing is lost by doing it twice."""
    structure = symmetrize_like(disturbed(template, seed), template)
    moves = to_moves(template, structure.lattice.matrix, structure.frac_coords)
    matrix, frac = from_moves(template, moves)
    assert np.linalg.norm((frac - structure.frac_coords) @ matrix, axis=1).max() < SYMPREC / 1000
    assert np.abs(matrix - structure.lattice.matrix).max() < SYMPREC / 1000
    assert symmetry(Structure(matrix, template.species, frac)) == symmetry(template)
    assert np.array_equal(to_moves(template, matrix, frac), moves)


@given(st.sampled_from(TEMPLATES))
@settings(max_examples=20)
def test_what_did_not_move_is_where_it_was(template):
    moves = to_moves(template, template.lattice.matrix, template.frac_coords)
    assert not moves.any()
    matrix, frac = from_moves(template, moves)
    assert np.array_equal(matrix, template.lattice.matrix)
    assert np.array_equal(frac, template.frac_coords)


def test_moves_may_lead_into_other_cells_and_double_the_cell():
    template = TEMPLATES[0]
    frac = template.frac_coords + np.arange(3) - 40
    matrix, found = from_moves(template, to_moves(template, 2 * template.lattice.matrix, frac))
    assert matrix == pytest.approx(2 * template.lattice.matrix)
    assert np.abs(found - frac).max() <= STEP / 2


@given(columns(), st.data())
def test_damaged_text_is_one_clear_error(arrays, data):
    """Where the damage shows at all: a checksum of the store finds any."""
    for text, read in ((encode_columns(arrays), decode_columns), (squeeze("some text " * 9), unsqueeze)):
        place = data.draw(st.integers(0, len(text) - 1))
        damaged = text[:place] + data.draw(st.sampled_from("AZaz09+/=")) + text[place + 1 :]
        with suppress(DataError):
            read(damaged)
    with pytest.raises(DataError, match="packed candidates: damaged"):
        unsqueeze("AAAA" + squeeze("some text")[4:])
