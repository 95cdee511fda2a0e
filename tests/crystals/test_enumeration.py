from collections import Counter
from itertools import combinations, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, Element, Lattice, Species, Structure
from pymatgen.core.structure_matcher import StructureMatcher

from cryslator_flows.crystals.candidate_rows import candidate_id, substituted_formula
from cryslator_flows.crystals.enumeration import Enumeration
from cryslator_flows.crystals.substitution import (
    AsGiven,
    ExplicitMaps,
    PredictedSubstitutions,
    RolePools,
    SpeciesPools,
    is_charge_balanced,
    substitute,
)
from cryslator_flows.crystals.templates import AflowTemplates, FileTemplates
from cryslator_flows.documents.candidates import Template
from cryslator_flows.errors import StructureError

SYMBOLS = ["Li", "Na", "Cs", "Ca", "Fe", "Mn", "Ti", "P", "Si", "N", "C", "S", "O", "F", "Cl", "H", "He", "Ne"]


def template(structure, name="t"):
    return Template(template_id=name, structure=structure)


def formulas(space, structure, **kwargs):
    return [candidate.reduced_formula for candidate in Enumeration([template(structure)], [space], **kwargs)]


def test_explicit_maps_keep_what_is_not_named(perovskite):
    space = ExplicitMaps(kind="maps", maps=[{"Ca": "Sr"}, {"Ca": "Ti", "Ti": "Ca"}, {"Fe": "Co"}])
    assert formulas(space, perovskite) == ["SrTiO3", "CaTiO3"]


def test_swap_moves_the_elements(perovskite):
    swapped = substitute(perovskite, {"Ca": "Ti", "Ti": "Ca", "O": "O"})
    assert [site.specie.symbol for site in swapped] == ["Ti", "Ca", "O", "O", "O"]
    assert np.array_equal(swapped.frac_coords, perovskite.frac_coords)


def test_substitute_wants_every_element(perovskite):
    with pytest.raises(StructureError, match="'O'"):
        substitute(perovskite, {"Ca": "Sr", "Ti": "Ti"})


def test_substitute_keeps_magnetic_moments(perovskite):
    perovskite.add_site_property("magmom", [0, 3, 0, 0, 0])
    assert substitute(perovskite, {"Ca": "Ba", "Ti": "Mn", "O": "O"}).site_properties["magmom"] == [0, 3, 0, 0, 0]


def test_species_pools(perovskite):
    space = SpeciesPools(kind="species", pools={"Ca": ["Sr", "Ba"], "Ti": ["Ti", "Zr"]})
    assert sorted(formulas(space, perovskite)) == ["BaTiO3", "BaZrO3", "SrTiO3", "SrZrO3"]
    assert formulas(SpeciesPools(kind="species", pools={"Fe": ["Co"]}), perovskite) == []


def test_role_pools_assign_both_ways_and_keep_the_anion(perovskite):
    space = RolePools(kind="roles", cations=[["Mn"], ["Ca", "Mn", "O"]])
    mappings = [candidate.substitution for candidate in Enumeration([template(perovskite)], [space])]
    assert {tuple(sorted(mapping.items())) for mapping in mappings} == {
        (("Ca", "Ca"), ("O", "O"), ("Ti", "Mn")),
        (("Ca", "Mn"), ("O", "O"), ("Ti", "Ca")),
    }


@given(
    st.lists(
        st.lists(st.sampled_from(["Ca", "Fe", "Mn", "Na", "O", "Ti"]), min_size=1, max_size=4), min_size=2, max_size=2
    )
)
def test_role_pools_as_by_trying_all_assignments(pools):
    """Each choice once, in the order in which it comes first."""
    structure = Structure(Lattice.cubic(4), ["Ca", "Ti", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]])
    choices = [choice for order in permutations(pools) for choice in product(*order)]
    expected = dict.fromkeys(choice for choice in choices if len({*choice, "O"}) == 3)
    found = RolePools(kind="roles", cations=pools).substitutions(structure)
    assert [substitution.mapping for substitution in found] == [
        {"Ca": first, "Ti": second, "O": "O"} for first, second in expected
    ]


def test_role_pools_for_the_anion(perovskite):
    space = RolePools(kind="roles", cations=[["Na"], ["Mg"]], anions=["F", "Cl", "F"])
    assert sorted(formulas(space, perovskite)) == ["NaMgCl3", "NaMgCl3", "NaMgF3", "NaMgF3"]


def test_role_pools_need_as_many_cations(rutile):
    assert formulas(RolePools(kind="roles", cations=[["Mn"], ["Ca"]]), rutile) == []


def test_charge_balance(perovskite):
    assert is_charge_balanced({"Ca": 1, "Mn": 1, "O": 3})
    assert not is_charge_balanced({"Na": 1, "Mg": 1, "O": 3})
    space = ExplicitMaps(kind="maps", maps=[{"Ca": "Na", "Ti": "Mg"}, {"Ca": "Sr"}])
    enumeration = Enumeration([template(perovskite)], [space])
    assert [candidate.reduced_formula for candidate in enumeration] == ["SrTiO3"]
    assert enumeration.counts.not_charge_balanced == 1


@given(
    st.dictionaries(
        st.sampled_from(["Na", "Mg", "Fe", "Mn", "Pb", "Ce", "V", "P", "S", "O", "F", "Au", "He"]),
        st.integers(1, 5), min_size=1, max_size=4,
    )
)  # fmt: skip
@settings(max_examples=150)
def test_charge_balance_is_that_of_pymatgen(amounts):
    formula = substituted_formula(amounts, {symbol: symbol for symbol in amounts})
    assert is_charge_balanced(formula.amounts) == bool(Composition(formula.text).oxi_state_guesses())


@given(st.dictionaries(st.sampled_from(SYMBOLS), st.integers(1, 24), min_size=1, max_size=5), st.data())
@settings(max_examples=300)
def test_substituted_formula_is_that_of_pymatgen(amounts, data):
    """Polyanions, peroxides, elements without electronegativity, two elements that become one."""
    mapping = {old: data.draw(st.sampled_from(SYMBOLS)) for old in amounts}
    substituted = Counter()
    for old, amount in amounts.items():
        substituted[mapping[old]] += amount
    formula = substituted_formula(amounts, mapping)
    assert formula.text == Composition(substituted).reduced_formula
    assert formula.amounts == Composition(formula.text).get_el_amt_dict()


def test_one_stoichiometry_with_and_without_polyanion():
    amounts = {"Ca": 2, "Mg": 2, "Si": 4, "O": 12}
    written = {new: substituted_formula(amounts, {old: old for old in amounts} | {"Si": new}).text for new in SYMBOLS}
    assert written["Si"] == "CaMg(SiO3)2"
    assert written["Ti"] == "CaMgTi2O6"
    for new, formula in written.items():
        assert formula == Composition(f"Ca2Mg2{new}4O12").reduced_formula


@pytest.mark.slow
def test_predicted_substitutions_are_ranked(perovskite):
    space = PredictedSubstitutions(kind="predicted", threshold=0.005, elements=["Sr", "Ba", "Ti", "Zr", "O"])
    candidates = list(Enumeration([template(perovskite)], [space]))
    assert candidates[0].reduced_formula == "SrTiO3"
    probabilities = [candidate.probability for candidate in candidates]
    assert probabilities == sorted(probabilities, reverse=True)


def test_rescaled_volume_follows_the_new_ion(perovskite):
    space = ExplicitMaps(kind="maps", maps=[{"Ca": "Ba", "Ti": "Zr"}])
    (plain,) = Enumeration([template(perovskite)], [space])
    (scaled,) = Enumeration([template(perovskite)], [space], rescale_volume=True)
    assert scaled.structure.volume > 1.05 * plain.structure.volume == pytest.approx(1.05 * perovskite.volume)
    assert scaled.candidate_id != plain.candidate_id


def test_equivalent_templates_give_each_candidate_once(perovskite):
    """Another origin, axis order, cell and volume are the same template."""
    disguised = (perovskite * (1, 1, 2)).copy()
    disguised.translate_sites(range(len(disguised)), [0.13, 0.2, 0.37])
    disguised.scale_lattice(disguised.volume * 1.3)
    templates = [template(perovskite, "a"), template(disguised, "b")]
    space = RolePools(kind="roles", cations=[["Mn"], ["Ca", "Sr", "Ba"]])
    enumeration = Enumeration(templates, [space])
    assert {candidate.template_id for candidate in enumeration} == {"a"}
    assert enumeration.counts.unique == enumeration.counts.duplicates == 6


def test_templates_of_other_primitive_cells_are_not_compared(perovskite, monkeypatch):
    """Supercells reduce to the first template; those with an atom moved are as large as they look."""
    larger = [perovskite * (1, 1, number) for number in range(2, 6)]
    moved = [structure.copy().translate_sites([0], [0.3, 0.2, 0.0]) for structure in larger]
    templates = [template(item, str(number)) for number, item in enumerate([perovskite, *larger, *moved])]
    asked, fit = [], StructureMatcher.fit

    def counted(matcher, first, second, **options):
        asked.append((len(first), len(second)))
        return fit(matcher, first, second, **options)

    monkeypatch.setattr(StructureMatcher, "fit", counted)
    enumeration = Enumeration(templates, [RolePools(kind="roles", cations=[["Mn"], ["Ca", "Sr", "Ba"]])])
    assert Counter(item.template_id for item in enumeration) == dict.fromkeys("05678", 6)
    assert {sizes for sizes in asked if sizes != (5, 5)} == {(10, 10), (15, 15), (20, 20), (25, 25)}
    assert asked.count((5, 5)) == 1 + 2 * len(larger)


def test_templates_of_one_name_are_all_kept(perovskite, rutile):
    templates = [template(perovskite, "a"), template(rutile, "a"), template(rutile, "b"), template(perovskite, "a")]
    found = Enumeration(templates, [ExplicitMaps(kind="maps", maps=[{"Ti": "Zr"}])])
    assert [(item.template_id, item.reduced_formula) for item in found] == [("a", "CaZrO3"), ("a (2)", "ZrO2")]
    assert found.counts.templates == 4


@pytest.mark.parametrize(
    ("species", "old", "new", "moments"),
    [
        ([Species("Fe", 2), Species("Fe", 3)], "Fe", "Mn", None),
        ([Species("Fe", 3, spin=5), Species("Fe", 3, spin=-5)], "Fe", "Mn", [5, -5, 0, 0, 0, 0]),
        (["H", "D"], "H", "Na", None),
    ],
)
def test_species_of_one_element_are_substituted_as_one(rutile, species, old, new, moments):
    rutile[0], rutile[1] = species
    for space in (
        ExplicitMaps(kind="maps", maps=[{old: new}]),
        SpeciesPools(kind="species", pools={old: [new]}),
        RolePools(kind="roles", cations=[[new]]),
    ):
        (found,) = Enumeration([template(rutile)], [space], charge_balanced=False)
        assert found.reduced_formula == f"{new}O2"
        assert found.structure.site_properties.get("magmom") == moments


def test_charges_and_moments_left_behind_are_counted(perovskite, rutile):
    charged = perovskite.copy().add_oxidation_state_by_element({"Ca": 2, "Ti": 4, "O": -2}).set_charge(1)
    magnetic = rutile.copy(site_properties={"magmom": [0.0] * 6, "charge": [0.1] * 6})
    spaces = [ExplicitMaps(kind="maps", maps=[{"Ti": "Zr"}, {"Ti": "Mn"}])]
    enumeration = Enumeration([template(charged), template(magnetic)], spaces, charge_balanced=False)
    assert len([item for item in enumeration if item.magnetic_moments == "template"]) == 1
    counts = enumeration.counts
    assert (counts.not_carried, counts.moments_left) == (
        {"oxidation states": 1, "total charge": 1, "site charges": 1},
        1,
    )
    assert len(counts.remarks()) == 4
    assert "candidates have no total charge, which templates have: 1" in counts.remarks()


def test_predictions_do_not_depend_on_spins_and_oxidation_states(rutile):
    space = PredictedSubstitutions(kind="predicted", max_per_template=5)
    plain = list(space.substitutions(rutile))
    rutile[0] = Species("Ti", 4)
    rutile[2], rutile[3] = Species("O", -2, spin=1), Species("O", -2, spin=-1)
    assert list(space.substitutions(rutile)) == plain != []


def test_an_isotope_in_a_campaign_file_is_refused():
    with pytest.raises(ValueError, match="'D' is an isotope; write 'H'"):
        ExplicitMaps(kind="maps", maps=[{"D": "F"}])


def test_magnetic_orders_have_identifiers_of_their_own(perovskite):
    up, down = (perovskite.copy(site_properties={"magmom": [0, moment, 0, 0, 0]}) for moment in (3.0, -3.0))
    assert len({candidate_id(item, {"Ca": "Sr"}, False) for item in (perovskite, up, down)}) == 3


def test_nothing_of_a_calculation_comes_along(perovskite):
    perovskite.add_site_property("selective_dynamics", [[False] * 3] * 5)
    assert substitute(perovskite, {"Ca": "Sr", "Ti": "Ti", "O": "O"}).site_properties == {}


@pytest.mark.slow
def test_duplicates_as_by_comparing_all_pairs():
    """The shortcut over relations between templates finds what StructureMatcher finds on every pair."""
    templates = list(AflowTemplates(elements=["O"], n_elements=3, max_atoms=14).load())
    space = RolePools(kind="roles", cations=[["Mn"], ["Ca", "La"]])
    kept = list(Enumeration(templates, [space], charge_balanced=False))
    matcher = StructureMatcher()
    for first, second in combinations(kept, 2):
        assert not matcher.fit(first.structure, second.structure)
    by_brute_force = []
    for item in templates:
        for substitution in space.substitutions(item.structure):
            structure = substitute(item.structure, substitution.mapping)
            if not any(matcher.fit(structure, other) for other in by_brute_force):
                by_brute_force.append(structure)
    assert [candidate.structure for candidate in kept] == by_brute_force


def test_chunks_as_by_the_plain_way():
    """pymatgen's formulas and charges, every pair of candidates compared, then sorted by system and formula."""
    templates = list(AflowTemplates(elements=["O"], n_elements=3, max_atoms=7).load())
    space = RolePools(kind="roles", cations=[["Na", "Ca", "Mn"], ["Li", "Mn", "Na", "Ti"]])
    enumeration = Enumeration(templates, [space])
    chunks = [list(packed.candidates()) for packed in enumeration.chunks(12)]

    matcher, plain, unbalanced = StructureMatcher(), [], 0
    for item in templates:
        *cations, _ = sorted(item.structure.composition.elements)
        choices = [choice for order in permutations(space.cations) for choice in product(*order)]
        for choice in dict.fromkeys(choice for choice in choices if len(set(choice)) == 2):
            structure = item.structure.copy()
            structure.replace_species(dict(zip(cations, map(Element, choice), strict=True)))
            if not structure.composition.reduced_composition.oxi_state_guesses():
                unbalanced += 1
            elif not any(matcher.fit(structure, other) for other in plain):
                plain.append(structure)
    plain.sort(key=lambda structure: (structure.chemical_system, structure.reduced_formula))
    assert [candidate.structure for chunk in chunks for candidate in chunk] == plain
    assert enumeration.counts.not_charge_balanced == unbalanced > 0
    assert enumeration.counts.duplicates == enumeration.counts.enumerated - unbalanced - len(plain) > 0
    systems = [{candidate.chemsys for candidate in chunk} for chunk in chunks]
    assert len(chunks) > 1
    assert not any(first & second for first, second in combinations(systems, 2))


def test_unusable_templates_are_counted_and_stop_nothing(tmp_path, perovskite):
    perovskite.to(str(tmp_path / "good.cif"))
    (tmp_path / "bad.cif").write_text("nonsense")
    disordered = perovskite.copy()
    disordered.replace(0, {"Ca": 0.51, "Sr": 0.49})
    disordered.to(str(tmp_path / "disordered.cif"))
    enumeration = Enumeration(
        FileTemplates(source="files", path=tmp_path).load(), [ExplicitMaps(kind="maps", maps=[{"Ca": "Ba"}])]
    )
    assert [candidate.reduced_formula for candidate in enumeration] == ["BaTiO3"]
    assert enumeration.counts.templates == 2
    bad, mixed = enumeration.counts.rejected_templates
    assert "bad.cif: not readable" in bad
    assert "disordered.cif: a share of 0.49 of Sr needs a cell of 500 atoms at least" in mixed


def test_structures_as_given(perovskite, rutile):
    """Identifiers are kept, also of equivalent structures, and magnetic moments too."""
    rutile.add_site_property("magmom", [3, -3, 0, 0, 0, 0])
    given = [template(perovskite, "a"), template(rutile, "b"), template(perovskite * (2, 1, 1), "c")]
    enumeration = Enumeration(given, [AsGiven(kind="as-given")])
    found = list(enumeration)
    assert [(item.template_id, item.structure) for item in found] == [("a", perovskite), ("b", rutile)]
    assert found[1].structure.site_properties == rutile.site_properties
    assert enumeration.counts.as_given_duplicates == ["c: equivalent to a"]
    mixed = Enumeration(given[:1], [ExplicitMaps(kind="maps", maps=[{"Ca": "Ca"}]), AsGiven(kind="as-given")])
    assert len(list(mixed)) == mixed.counts.duplicates == 1


def test_stream_is_lazy(perovskite):
    """A candidate comes before the next template is looked at."""

    def templates():
        yield template(perovskite)
        raise AssertionError("read too far")

    space = ExplicitMaps(kind="maps", maps=[{"Ca": "Sr"}])
    assert next(iter(Enumeration(templates(), [space]))).reduced_formula == "SrTiO3"


def test_candidate_id_is_stable():
    structure = Structure(Lattice.cubic(4), ["Ca", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    known = candidate_id(structure, {"Ca": "Sr", "O": "O"}, rescale_volume=False)
    assert known == "a9e8683a1614d59f"
    assert candidate_id(structure, {"O": "O", "Ca": "Sr"}, rescale_volume=False) == known
    assert candidate_id(structure, {"Ca": "Ba", "O": "O"}, rescale_volume=False) != known
    assert candidate_id(structure, {"Ca": "Sr", "O": "O"}, rescale_volume=True) != known
    structure.translate_sites([0], [0.01, 0, 0])
    assert candidate_id(structure, {"Ca": "Sr", "O": "O"}, rescale_volume=False) != known
