import pytest
from atomate2.vasp.sets.core import RelaxSetGenerator
from pymatgen.io.ase import AseAtomsAdaptor

from cryslator_flows.crystals.enumeration import Enumeration
from cryslator_flows.crystals.substitution import ExplicitMaps, substitute
from cryslator_flows.documents.candidates import Template


@pytest.fixture
def afm(rutile):
    """Rutile with antiferromagnetic order on its cations."""
    rutile.replace_species({"Ti": "Mn"})
    rutile.add_site_property("magmom", [3.0, -3.0, 0.1, 0.0, 0.0, None])
    return rutile


def moments(structure):
    return structure.site_properties.get("magmom")


def test_order_of_the_template_is_carried(afm):
    assert moments(substitute(afm, {"Mn": "Cr", "O": "O"})) == [3.0, -3.0, 0.1, 0.0, 0.0, 0.0]
    assert moments(substitute(afm, {"Mn": "Mn", "O": "S"})) == [3.0, -3.0, 0.0, 0.0, 0.0, 0.0]


def test_element_without_moment_gets_none(afm):
    assert moments(substitute(afm, {"Mn": "Sn", "O": "O"})) == [0.0, 0.0, 0.1, 0.0, 0.0, 0.0]


def test_magnetic_element_on_a_site_without_moment_is_left_to_the_input_set(rutile):
    rutile.add_site_property("magmom", [0.0] * 6)
    assert moments(substitute(rutile, {"Ti": "Mn", "O": "O"})) is None
    assert moments(substitute(rutile, {"Ti": "Zr", "O": "O"})) == [0.0] * 6


def test_vectors_are_carried(rutile):
    vectors = [[0, 0, 3.0], [0, 0, -3.0], *[[0, 0, 0]] * 4]
    rutile.replace_species({"Ti": "Fe"})
    rutile.add_site_property("magmom", vectors)
    assert moments(substitute(rutile, {"Fe": "Mn", "O": "O"})) == vectors


def test_sites_without_a_moment_beside_vectors(rutile):
    """ASE and VASP's input sets take the substituted structure."""
    rutile.replace_species({"Ti": "Fe"})
    rutile.add_site_property("magmom", [[3.0, 0, 0], [0, 0, 3.0], *[[0, 0, 0]] * 3, None])
    canted = [[3.0, 0, 0], [0, 0, 3.0]]
    for cation, anion, kept in (("Fe", "S", canted), ("Mn", "O", canted), ("Zn", "S", [[0, 0, 0]] * 2)):
        made = substitute(rutile, {"Fe": cation, "O": anion})
        expected = [*kept, *[[0, 0, 0]] * 4]
        assert AseAtomsAdaptor.get_atoms(made).get_initial_magnetic_moments().tolist() == expected
        generator = RelaxSetGenerator(user_incar_settings={"LSORBIT": True})
        assert generator.get_input_set(made, potcar_spec=True).incar["MAGMOM"] == moments(made) == expected


def test_candidates_say_where_their_moments_come_from(afm):
    spaces = [ExplicitMaps(kind="maps", maps=[{"Mn": "V"}])]
    plain = afm.copy()
    plain.remove_site_property("magmom")
    for structure, origin in ((afm, "template"), (plain, "input set")):
        (candidate,) = Enumeration([Template(template_id="t", structure=structure)], spaces)
        assert candidate.magnetic_moments == origin
