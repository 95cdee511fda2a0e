import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monty.json import MontyDecoder, MontyEncoder

from cryslator_flows.crystals.candidate_rows import CandidateRow
from cryslator_flows.crystals.enumeration import Enumeration
from cryslator_flows.crystals.packing import PackedCandidates, TranslatedCandidates
from cryslator_flows.crystals.substitution import RolePools, Substitution
from cryslator_flows.crystals.templates import AflowTemplates
from cryslator_flows.documents.candidates import Template, Translation

SPACE = RolePools(kind="roles", cations=[["Mn", "Fe"], ["Ca", "Sr", "Ba"]])


@pytest.fixture(scope="module")
def rows():
    return list(Enumeration(AflowTemplates(elements=["O"], n_elements=3, max_atoms=5).load(), [SPACE]).rows())


def translation(candidate, number):
    """A translation that moves atoms and cell by an amount of its own."""
    structure = candidate.structure.copy()
    structure.translate_sites(range(len(structure)), [0.001 * number, 0.0, 1 / 3], to_unit_cell=False)
    structure.apply_strain(0.001 * number)
    return Translation(
        candidate_id=candidate.candidate_id, structure=structure, formation_energy_per_atom=-number / 7,
        formation_energy_uncertainty=0.1, formation_energy_uncertainty_90=0.2 + number, mean_displacement=number / 3,
        volume_change=0.01, max_principal_strain=0.02, atoms_too_close=number % 2 == 0,
        unknown_elements=["Og", "Xe"][: number % 3], domain_distance=number, out_of_domain=number % 3 == 0,
        domain_reason="wide interval" * (number % 3 == 0), model_name="m", model_version=f"v{number}",
    )  # fmt: skip


def translated(rows):
    packed = PackedCandidates.pack(rows)
    pairs = [(item, translation(item, number)) for number, item in enumerate(packed.candidates())]
    return TranslatedCandidates.add(packed, range(len(pairs)), [(item.reduced_formula, made) for item, made in pairs])


@pytest.mark.parametrize("rescale_volume", [False, True])
def test_candidates_come_out_as_they_are_enumerated(rescale_volume):
    templates = AflowTemplates(elements=["O"], n_elements=3, max_atoms=5)
    enumeration = Enumeration(templates.load(), [SPACE], rescale_volume=rescale_volume)
    packed = PackedCandidates.pack(Enumeration(templates.load(), [SPACE]).rows(), rescale_volume)
    assert list(packed.candidates()) == list(enumeration)
    assert packed.n_candidates == enumeration.counts.unique > 5


def test_probability_and_moments_are_kept(perovskite):
    perovskite.add_site_property("magmom", [0.0, 3.0, 0.0, 0.0, 0.0])
    substitution = Substitution({"Ca": "Ba", "Ti": "Mn", "O": "O"}, 0.25)
    packed = PackedCandidates.pack([CandidateRow(Template(template_id="t", structure=perovskite), substitution)])
    (candidate,) = packed.candidates()
    assert (candidate.probability, candidate.magnetic_moments) == (0.25, "template")
    assert candidate.structure.site_properties["magmom"] == [0.0, 3.0, 0.0, 0.0, 0.0]


def test_translations_come_out_also_through_json(rows):
    """All exactly, but for cells and positions, which are kept to a hundred-millionth of an angstrom."""
    document = translated(rows)
    again = MontyDecoder().decode(MontyEncoder().encode(document))
    for (candidate, made), plain in zip(again.rows(), PackedCandidates.pack(rows).candidates(), strict=True):
        assert candidate == plain
        expected = translation(plain, round(-7 * made.formation_energy_per_atom))
        assert made.model_dump(exclude={"structure"}) == expected.model_dump(exclude={"structure"})
        assert np.abs(made.structure.lattice.matrix - expected.structure.lattice.matrix).max() < 1e-8
        assert np.abs(made.structure.cart_coords - expected.structure.cart_coords).max() < 1e-8
        assert made.structure.species == expected.structure.species


def test_what_could_not_be_translated_is_left_out(rows):
    packed = PackedCandidates.pack(rows)
    third = list(packed.candidates())[2]
    document = TranslatedCandidates.add(packed, [2], [(third.reduced_formula, translation(third, 2))])
    ((candidate, made),) = document.rows()
    assert candidate == third
    assert made.candidate_id == third.candidate_id
    assert list(TranslatedCandidates.add(packed, [], []).rows()) == []


@given(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_taking_and_joining(rows, data):
    """Like indexing and adding lists, with the templates that are needed and no others."""
    document = translated(rows)
    everything = list(document.rows())
    indices = st.lists(st.integers(0, len(rows) - 1), max_size=6)
    first, second = data.draw(indices), data.draw(indices)
    joined = TranslatedCandidates.join([document.take(first), document.take(second)])
    expected = [everything[index] for index in [*first, *second]]
    assert list(joined.rows()) == expected
    assert joined.n_candidates == len(expected)
    assert set(joined.template_texts()) == {candidate.template_id for candidate, _ in expected}


def test_a_candidate_takes_little_space(rows):
    """Enumerated, its elements alone; translated, numbers, and of cell and positions what symmetry leaves free."""
    many = [row for row in rows for _ in range(100)]
    assert len(PackedCandidates.pack(many).columns) / len(many) < 20
    assert len(translated(many).columns) / len(many) < 40


def test_templates_are_kept_without_what_follows_from_the_rest(perovskite):
    perovskite.add_site_property("magmom", [0.0, 3.0, 0.0, 0.0, 0.0])
    template = Template(template_id="t", structure=perovskite)
    packed = PackedCandidates.pack([CandidateRow(template, Substitution({"Ca": "Ba", "Ti": "Mn", "O": "O"}))])
    (text,) = packed.template_texts().values()
    assert MontyDecoder().decode(text) == template
    assert len(text) < 0.75 * len(json.dumps(template, cls=MontyEncoder))


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_chunks_hold_every_candidate_once_and_chemical_systems_whole(size):
    templates = AflowTemplates(elements=["O"], n_elements=3, max_atoms=5)
    enumeration = Enumeration(templates.load(), [SPACE])
    expected = {candidate.candidate_id: candidate for candidate in Enumeration(templates.load(), [SPACE])}
    chunks = [list(chunk.candidates()) for chunk in enumeration.chunks(size)]
    again = [list(chunk.candidates()) for chunk in Enumeration(templates.load(), [SPACE]).chunks(size)]
    assert chunks == again
    found = [candidate for chunk in chunks for candidate in chunk]
    assert len(found) == len(expected)
    assert {candidate.candidate_id: candidate for candidate in found} == expected
    packed = Enumeration(templates.load(), [SPACE]).chunks(size)
    whole = [
        {candidate.chemsys for candidate in chunk} for chunk, document in zip(chunks, packed, strict=True)
        if document.whole_systems
    ]  # fmt: skip
    assert whole or size == 1
    for number, systems in enumerate(whole):
        others = {system for other in [*whole[:number], *whole[number + 1 :]] for system in other}
        assert not systems & others


def test_systems_within_systems_are_not_whole(perovskite, rutile):
    templates = [Template(template_id="a", structure=perovskite), Template(template_id="b", structure=rutile)]
    spaces = [SPACE, RolePools(kind="roles", cations=[["Mn", "Ti"]])]
    assert not any(chunk.whole_systems for chunk in Enumeration(templates, spaces).chunks(100))
    assert all(chunk.whole_systems for chunk in Enumeration(templates[:1], spaces).chunks(100))
