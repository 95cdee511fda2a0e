"""Orderings of disordered crystals: counted, distinct, exact in composition, capped and ranked."""

import os
from collections import Counter
from fractions import Fraction
from importlib.util import find_spec
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.core.structure_matcher import StructureMatcher

from cryslator_flows.crystals.check import check_structure
from cryslator_flows.crystals.enumeration import Enumeration
from cryslator_flows.crystals.orderings import OrderingSettings, as_fraction, find_orderings, whole_amounts
from cryslator_flows.crystals.substitution import AsGiven, ExplicitMaps, PartialSubstitution
from cryslator_flows.crystals.templates import FileTemplates
from cryslator_flows.documents.candidates import Template
from cryslator_flows.errors import StructureError

needs_icet = pytest.mark.skipif(
    find_spec("icet") is None and "CI" not in os.environ, reason="icet is not installed: make orderings"
)
ALLOY = {"Cu": 0.5, "Au": 0.5}


def fcc(species):
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(4), [species], [[0, 0, 0]])


def perovskite(a, b, x, length=3.9):
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Structure(Lattice.cubic(length), [a, b, x, x, x], sites)


def layered(m):
    sites = [[0, 0, 0.5], [0, 0, 0], [0, 0, 0.2395]]
    return Structure.from_spacegroup("R-3m", Lattice.hexagonal(2.82, 14.05), ["Li", m, "O"], sites)


def found(structure, **options):
    return find_orderings(structure, OrderingSettings(**options))


def counted(structure, space, **options):
    enumeration = Enumeration(
        [Template(template_id="t", structure=structure)], [space], orderings=OrderingSettings(**options)
    )
    return list(enumeration), enumeration.counts


@pytest.mark.parametrize(
    ("share", "fraction"),
    [
        (0.5, "1/2"),
        (0.33, "1/3"),
        (0.6667, "2/3"),
        (0.17, "1/6"),
        (0.3, "3/10"),
        (0.12, "3/25"),
        (1, "1"),
        (0.45, "9/20"),
    ],
)
def test_shares_are_exact_fractions(share, fraction):
    assert as_fraction(share) == Fraction(fraction)


def test_rounded_shares_fill_the_site():
    crystal = Structure(Lattice.cubic(3), [{"Fe": 0.33, "Co": 0.33, "Ni": 0.34}], [[0, 0, 0]])
    assert whole_amounts(crystal) == {"Fe": 1, "Co": 1, "Ni": 1}
    crystal = Structure(Lattice.cubic(3), [{"Fe": 0.25, "Co": 0.5}, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert whole_amounts(crystal) == {"Fe": 1, "Co": 2, "O": 4}


@needs_icet
def test_as_many_orderings_of_fcc_as_are_known():
    """All binary structures of four atoms on fcc: 19 by Hart and Forcade (2008), 12 of them up to exchange."""
    numbers = [found(fcc({"Cu": share, "Au": 1 - share}), max_atoms=4).n_found for share in (0.25, 0.5, 0.75)]
    halves = found(fcc(ALLOY), max_atoms=2).n_found
    assert halves == 2
    assert [numbers[0], numbers[1] - halves, numbers[2]] == [7, 5, 7]


@needs_icet
@pytest.mark.parametrize(
    ("structure", "cell"),
    [
        (perovskite({"Ca": 0.5, "Sr": 0.5}, "Ti", "O"), (2, 1, 1)),
        (perovskite("Na", "W", {"O": 2 / 3, "F": 1 / 3}), (1, 1, 1)),
        (perovskite({"Na": 0.5}, "W", "O"), (2, 1, 1)),
    ],
    ids=["one site", "three sites", "vacancies"],
)
def test_orderings_in_one_cell_as_by_brute_force(structure, cell):
    """Every way to fill the sites of a supercell, compared pair by pair."""
    supercell = structure * cell
    mixed = [index for index, site in enumerate(supercell) if not site.is_ordered]
    shares = structure[mixed[0] // (len(supercell) // len(structure))].species
    first = next(iter(shares))
    second = next(iter(set(shares) - {first}), None)
    matcher, distinct = StructureMatcher(scale=False), []
    for chosen in combinations(mixed, round(shares[first] * len(mixed))):
        made = supercell.copy()
        for index in mixed:
            if index in chosen or second:
                made.replace(index, first if index in chosen else second)
        if second is None:
            made.remove_sites([index for index in mixed if index not in chosen])
        if not any(matcher.fit(made, other) for other in distinct):
            distinct.append(made)
    ours = found(structure, max_atoms=len(distinct[0])).structures
    for made in distinct:
        assert sum(matcher.fit(made, other) for other in ours) == 1


@needs_icet
@given(
    st.sampled_from(
        [((1, 1, 0), (0, 1, 0), (0, 0, 1)), ((2, 0, 0), (0, 1, 0), (0, 0, 1)), ((0, 1, 0), (0, 0, 1), (1, 1, 1))]
    ),
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.floats(0.1, 3),
    st.sampled_from([perovskite({"Ca": 0.5, "Sr": 0.5}, "Ti", "O"), layered({"Mn": 0.5, "Ni": 0.5})]),
)
@settings(max_examples=8)
def test_the_number_does_not_depend_on_cell_origin_and_rotation(cell, shift, angle, structure):
    plain = found(structure, max_atoms=16)
    turned = structure.make_supercell(cell, in_place=False)
    turned.translate_sites(range(len(turned)), shift)
    axis = np.array([[0, -1, 0.3], [1, 0, -0.5], [-0.3, 0.5, 0]]) * angle
    rotation = np.linalg.inv(np.eye(3) - axis) @ (np.eye(3) + axis)
    turned = Structure(turned.lattice.matrix @ rotation.T, turned.species_and_occu, turned.frac_coords)
    others = found(turned, max_atoms=16)
    assert others.n_found == plain.n_found > 2
    matcher = StructureMatcher(scale=False)
    for other in others.structures:
        assert sum(matcher.fit(other, item) for item in plain.structures if len(item) == len(other)) == 1


@needs_icet
@given(
    st.sampled_from([0.25, 0.33, 0.5, 0.67]),
    st.sampled_from([0.5, 1.0]),
    st.sampled_from(["Ti", {"Ti": 0.5, "Zr": 0.5}, {"Sr": 0.5, "Zr": 0.5}]),
)
@settings(max_examples=10)
def test_compositions_are_exact_and_orderings_distinct(share, filled, other):
    """Also with vacancies, and with an element on two sublattices."""
    structure = perovskite({"Ca": filled * share, "Sr": filled * (1 - share)}, other, "O")
    try:
        ours = found(structure, max_atoms=20, max_orderings=300).structures
    except StructureError as error:
        ours, cause = [], error.cause
    else:
        cause = "there are some" if ours else "none"
    assert cause in ("no cell fits", "too many orderings", "there are some")
    amounts = whole_amounts(structure)
    groups = {}
    for item in ours:
        check_structure(item)
        assert len(item) <= 20
        n = Counter(specie.symbol for specie in item.species)
        assert {n[symbol] * amounts["O"] for symbol in n} <= {amounts[symbol] * n["O"] for symbol in n}
        assert all(n[symbol] * amounts["O"] == amounts[symbol] * n["O"] for symbol in amounts)
        groups.setdefault(len(item), []).append(item)
    matcher = StructureMatcher(scale=False)
    for group in groups.values():
        pairs = list(combinations(group, 2))
        step = max(1, len(pairs) // 30)
        assert not any(matcher.fit(first, second) for first, second in pairs[::step])


@needs_icet
def test_lowest_ewald_energies_are_kept():
    """The elpasolite, whose charges alternate in all directions, is the best ordering of Cs2AgBiBr6."""
    structure = perovskite("Cs", {"Ag": 0.5, "Bi": 0.5}, "Br", 5.6)
    every, best = found(structure), found(structure, keep=1)
    assert every.n_found == best.n_found == len(every.structures) == 9
    (first,) = best.structures
    assert first.get_space_group_info()[0] == "Fm-3m"
    candidates, counts = counted(structure, ExplicitMaps(kind="maps", maps=[{"Br": "Cl"}, {"Br": "I"}]), keep=2)
    assert [item.reduced_formula for item in candidates] == ["Cs2AgBiCl6", "Cs2AgBiI6"] * 2
    assert (counts.enumerated, counts.higher_ewald, counts.unique) == (11, 7, 4)
    assert counts.equivalent_or_higher() == "0 equivalent, 7 of higher Ewald energy"


@needs_icet
def test_partial_substitution():
    """Each candidate is an ordered crystal under the name of its template, and its identifier is stable."""
    space = PartialSubstitution(kind="partial", shares={"Co": {"Mn": 0.5, "Ni": 0.5}})
    candidates, counts = counted(layered("Co"), space, max_atoms=16)
    assert {item.reduced_formula for item in candidates} == {"Li2MnNiO4"}
    assert [item.template_id for item in candidates] == [
        f"t, Co->Mn0.5Ni0.5, ordering {number}" for number in range(1, 13)
    ]
    assert (counts.templates, counts.enumerated, counts.unique) == (1, 12, 12)
    again, _ = counted(layered("Co") * (2, 1, 1), space, max_atoms=16)
    assert {item.candidate_id for item in again} == {item.candidate_id for item in candidates}
    assert counted(layered("Co"), PartialSubstitution(kind="partial", shares={"Fe": {"Ni": 0.5}}))[0] == []
    unbalanced, counts = counted(layered("Co"), PartialSubstitution(kind="partial", shares={"O": {"Li": 0.5}}))
    assert (unbalanced, counts.enumerated, counts.not_charge_balanced) == ([], 1, 1)


@needs_icet
def test_orderings_that_become_equal_are_dropped():
    """Silver and bismuth both become potassium: no ordering is left, and the two exchanged give each the other."""
    structure = perovskite("Cs", {"Ag": 0.5, "Bi": 0.5}, "Br", 5.6)
    same = ExplicitMaps(kind="maps", maps=[{"Ag": "K", "Bi": "K"}])
    enumeration = Enumeration([Template(template_id="t", structure=structure)], [same], charge_balanced=False)
    assert [item.reduced_formula for item in enumeration] == ["CsKBr3"]
    assert enumeration.counts.duplicates == 8
    exchanged = ExplicitMaps(kind="maps", maps=[{"Ag": "Ag"}, {"Ag": "Bi", "Bi": "Ag"}])
    assert len(counted(structure, exchanged)[0]) == 9


@pytest.mark.parametrize(
    ("species", "options", "words"),
    [
        (
            {"Ca": 0.123, "Sr": 0.877},
            {},
            "0.123 of Ca needs a cell of 5000 atoms at least, .*max_atoms: 20.*fits, 0.25",
        ),
        ({"Ca": 0.33, "Sr": 0.67}, {"max_atoms": 12}, "0.333333 of Ca needs a cell of 15 atoms .*nearest .* fits, 0.5"),
        ({"Ca": 0.5, "Sr": 0.5}, {"max_atoms": 4}, "needs a cell of 10 atoms at least"),
        ({"Ca": 0.5, "Sr": 0.5}, {"max_atoms": 200}, r"at least \d.*e\+\d+ orderings, over 1000; set enumeration.ord"),
        ("Ca", {"max_atoms": 4}, "it needs a cell of 5 atoms at least"),
    ],
)
def test_impossible_orderings_are_refused_before_they_are_made(species, options, words):
    with pytest.raises(StructureError, match=words):
        found(perovskite(species, "Ti", "O"), **options)


@needs_icet
def test_what_cannot_be_ranked_or_is_too_much_is_rejected_and_the_rest_goes_on(tmp_path):
    fcc(ALLOY).to(str(tmp_path / "alloy.cif"))
    perovskite("Cs", {"Ag": 0.5, "Bi": 0.5}, "Br", 5.6).to(str(tmp_path / "halide.cif"))
    templates = FileTemplates(source="files", path=tmp_path).load()
    options = {"charge_balanced": False, "orderings": OrderingSettings(max_atoms=10, keep=2)}
    enumeration = Enumeration(templates, [AsGiven(kind="as-given")], **options)
    name = f"{tmp_path.name}/halide.cif"
    assert [item.template_id for item in enumeration] == [f"{name}, ordering 1", f"{name}, ordering 2"]
    (rejected,) = enumeration.counts.rejected_templates
    assert "alloy.cif: no oxidation states balance" in rejected
    assert "leave out enumeration.orderings.keep" in rejected
    with pytest.raises(StructureError, match="over 100 orderings"):
        found(fcc(ALLOY), max_atoms=8, max_orderings=100)


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"Co": {"Ni": 0.7, "Mn": 0.5}}, "add up to 1.2"),
        ({"Co": {"Co": 0.5}}, "replaces itself"),
        ({"Co": {}}, "no new element"),
        ({"Co": {"Ni": 0}}, "greater than 0"),
        ({"Co": {"Ni": 1.5}}, "less than or equal to 1"),
        ({"Co": {"Nj": 0.5}}, "not an element symbol"),
    ],
)
def test_wrong_shares(shares, words):
    with pytest.raises(ValueError, match=words):
        PartialSubstitution(kind="partial", shares=shares)
