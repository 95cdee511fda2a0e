from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from cryslator_flows.translator import graph
from cryslator_flows.translator.graph import envelope, find_edges
from cryslator_flows.translator.surroundings import distinct_bonds
from cryslator_flows.translator.translator import to_crystals


@st.composite
def structures(draw):
    """Triclinic cells from flat to needle-like, atoms anywhere, outside the cell as well."""
    lengths = draw(st.tuples(*[st.floats(2.0, 12.0)] * 3))
    angles = draw(st.tuples(*[st.floats(60.0, 110.0)] * 3))
    frac = draw(st.lists(st.tuples(*[st.floats(-2, 2)] * 3), min_size=1, max_size=5))
    return Structure(Lattice.from_parameters(*lengths, *angles), ["O"] * len(frac), frac)


@pytest.mark.parametrize("search", [graph.compiled_search(), None], ids=["compiled", "torch alone"])
@given(st.lists(structures(), min_size=1, max_size=3))
@settings(max_examples=60)
def test_edges_are_those_of_ase(search, batch):
    crystals = to_crystals(batch)
    with patch.object(graph, "compiled_search", lambda: search):
        edges = find_edges(crystals, cutoff=5.0, neighbors=10**6)
    lengths = edges.vectors(crystals).norm(dim=-1).numpy()
    assert np.all(np.diff(edges.receivers.numpy()) >= 0)
    start = 0
    for structure in batch:
        centers, distances = neighbor_list("id", AseAtomsAdaptor.get_atoms(structure), 5.0)
        for atom in range(len(structure)):
            ours = np.sort(lengths[edges.receivers.numpy() == start + atom])
            theirs = np.sort(distances[centers == atom])
            near = 5.0 - 1e-5  # a neighbour at the very cutoff may fall on either side
            assert np.allclose(ours[ours < near], theirs[theirs < near], atol=1e-6)
        start += len(structure)


@given(st.lists(structures(), min_size=1, max_size=3), st.integers(0, 10**6))
@settings(max_examples=30)
def test_bonds_stand_for_all_edges_of_their_length_and_elements(batch, seed):
    crystals = to_crystals(batch)
    crystals = replace(
        crystals, numbers=torch.from_numpy(np.random.default_rng(seed).integers(1, 4, len(crystals.numbers)))
    )
    edges = find_edges(crystals, cutoff=5.0, neighbors=10**6)
    length = edges.vectors(crystals).norm(dim=-1)
    bonds, shown = distinct_bonds(length, edges, crystals, 5.0)
    ends = torch.stack([crystals.numbers[edges.senders], crystals.numbers[edges.receivers]]).sort(dim=0)[0]
    owner = crystals.owner[edges.receivers]
    for values, near in ((length, 1e-8), (ends[0], 0), (ends[1], 0), (owner, 0)):
        assert torch.allclose(values[shown][bonds], values, atol=near, rtol=0)
    assert len(shown) <= 0.6 * len(length)  # each bond is an edge in both directions


def test_shells_are_whole(perovskite):
    """Titanium has 6 O, then 8 Ca, then 6 Ti and farther O: a reach within a shell ends before it."""
    crystals = to_crystals([perovskite])
    for neighbors, expected in ((7, 6), (8, 6), (14, 6), (15, 14)):
        edges = find_edges(crystals, 6.0, neighbors)
        lengths = edges.vectors(crystals).norm(dim=-1)
        mine = (edges.receivers == 1) & (envelope(lengths, edges.reach[edges.receivers]) > 1e-6)
        assert int(mine.sum()) == expected


def test_envelope_ends_smoothly():
    x = torch.linspace(0.01, 1.2, 200, dtype=torch.double, requires_grad=True)
    value = envelope(x, torch.ones_like(x))
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert value[0].item() == pytest.approx(1, abs=1e-6)
    assert torch.all(value[x >= 1] == 0)
    assert torch.all(slope <= 1e-9)
    assert slope[x < 1][-1].abs() < 0.01


def test_lone_atom_has_no_edges():
    lone = Structure(Lattice.cubic(30), ["O"], [[0, 0, 0]])
    edges = find_edges(to_crystals([lone]), 6.0, 20)
    assert len(edges.senders) == 0


@pytest.mark.parametrize("value", [torch.nan, 1e30])
def test_crystal_that_makes_no_sense_has_no_edges_and_spoils_no_other(perovskite, value):
    crystals = to_crystals([perovskite, perovskite])
    crystals.frac[7] = value
    edges = find_edges(crystals, 6.0, 20)
    assert torch.equal(edges.senders, find_edges(to_crystals([perovskite]), 6.0, 20).senders)
