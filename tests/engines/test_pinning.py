"""Both starts of a pair get identical inputs but for the structure."""

import pytest
from atomate2.vasp.flows.core import DoubleRelaxMaker
from atomate2.vasp.flows.mp import MPGGADoubleRelaxMaker, MPMetaGGADoubleRelaxMaker
from atomate2.vasp.jobs.base import BaseVaspMaker
from atomate2.vasp.jobs.core import RelaxMaker
from jobflow.core.maker import recursive_call
from pymatgen.io.vasp import Kpoints

from cryslator_flows.engines.kpoints import mesh
from cryslator_flows.engines.pinning import pin_kpoints
from tests.flows.makers import PairPotentialRelaxMaker

MAKERS = [RelaxMaker, DoubleRelaxMaker, MPGGADoubleRelaxMaker, MPMetaGGADoubleRelaxMaker]


def inputs(maker, structure):
    """INCAR, KPOINTS and POTCAR symbols of every VASP job."""
    found = []

    def read(vasp_maker):
        files = vasp_maker.input_set_generator.get_input_set(structure=structure, potcar_spec=True)
        found.append((dict(files.incar), files.kpoints and files.kpoints.as_dict(), files.potcar))
        return vasp_maker

    recursive_call(maker, read, class_filter=BaseVaspMaker)
    return found


@pytest.fixture
def pair(perovskite):
    """Unrelaxed and a translated structure so different that automatic meshes differ."""
    perovskite.replace_species({"Ti": "Mn"})
    perovskite.add_site_property("magmom", [0.0, 3.0, 0.0, 0.0, 0.0])
    translated = perovskite.copy()
    translated.scale_lattice(perovskite.volume * 1.4)
    return perovskite, translated


@pytest.mark.parametrize("maker_class", MAKERS)
def test_identical_inputs(maker_class, pair):
    unrelaxed, translated = pair
    pinned = pin_kpoints(maker_class(), unrelaxed)
    assert len(inputs(pinned, unrelaxed)) == (1 if maker_class is RelaxMaker else 2)
    assert inputs(pinned, unrelaxed) == inputs(pinned, translated)
    for incar, kpoints, _ in inputs(pinned, translated):
        assert "KSPACING" not in incar
        assert kpoints is not None
        assert list(incar["MAGMOM"]) == [0.0, 3.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("maker_class", MAKERS[:3])
def test_meshes_would_differ_without(maker_class, pair):
    unrelaxed, translated = pair
    assert inputs(maker_class(), unrelaxed) != inputs(maker_class(), translated)


@pytest.mark.parametrize("maker_class", MAKERS[:3])
def test_mesh_is_the_one_of_the_unrelaxed_start(maker_class, pair):
    unrelaxed, _ = pair
    before = [kpoints for _, kpoints, _ in inputs(maker_class(), unrelaxed)]
    assert [kpoints for _, kpoints, _ in inputs(pin_kpoints(maker_class(), unrelaxed), unrelaxed)] == before


def test_mesh_of_kspacing(pair):
    unrelaxed, _ = pair
    (first, _) = inputs(pin_kpoints(MPMetaGGADoubleRelaxMaker(), unrelaxed), unrelaxed)
    spacing = inputs(MPMetaGGADoubleRelaxMaker(), unrelaxed)[0][0]["KSPACING"]
    assert first[1] == Kpoints.gamma_automatic(mesh(unrelaxed, spacing)).as_dict()


def test_mesh_by_hand(perovskite):
    """2 pi / 3.9 is 1.611 per angstrom."""
    assert mesh(perovskite, 0.5) == (4, 4, 4)
    assert mesh(perovskite, 1.611 / 2 + 1e-3) == (2, 2, 2)
    assert mesh(perovskite, 9.0) == (1, 1, 1)
    perovskite.make_supercell([1, 2, 4])
    assert mesh(perovskite, 0.5) == (4, 2, 1)


def test_makers_without_kpoints_stay_as_they_are(perovskite):
    maker = PairPotentialRelaxMaker()
    assert pin_kpoints(maker, perovskite) is maker
