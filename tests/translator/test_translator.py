import json
import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from cryslator_flows import Translation, Translator
from cryslator_flows.crystals.templates import AflowTemplates
from cryslator_flows.errors import ModelError, StructureError
from cryslator_flows.translator.default_model import DEFAULT_MODEL
from cryslator_flows.translator.model_folder import CALIBRATION, CONFIG, WEIGHTS, find_model, list_models
from cryslator_flows.translator.translator import WORTH_PROCESSES, kept_translator, translate_elsewhere


def end_process(*_):
    """What running out of memory does to a process."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def translator():
    return Translator.from_pretrained()


def test_the_three_public_lines(translator, perovskite):
    translation = translator.translate(perovskite)
    assert isinstance(translation, Translation)
    assert translator.name == translation.model_name == DEFAULT_MODEL
    assert len(translation.structure) == 5
    assert 0 < translation.formation_energy_uncertainty < translation.formation_energy_uncertainty_90
    assert translation.volume_change == pytest.approx(translation.structure.volume / perovskite.volume - 1)
    assert translation.unknown_elements == []
    assert not translation.out_of_domain
    assert 0 < translation.domain_distance < 1


def test_magnetic_moments_come_along(translator, perovskite):
    perovskite.add_site_property("magmom", [0, 3, 0, 0, 0])
    assert translator.translate(perovskite).structure.site_properties["magmom"] == [0, 3, 0, 0, 0]


def test_atoms_of_ase_give_atoms(translator, perovskite):
    perovskite.translate_sites([0, 3], [2, -1, 0], to_unit_cell=False)
    atoms = AseAtomsAdaptor.get_atoms(perovskite, msonable=False)
    atoms.set_constraint(FixAtoms([1]))
    atoms.set_tags([1, 2, 3, 4, 5])
    atoms.calc = LennardJones()
    before = atoms.copy()
    found, reference = translator.translate(atoms), translator.translate(perovskite)
    assert atoms == before
    assert type(found.structure) is Atoms
    assert found.structure.calc is None
    assert found.structure.get_tags().tolist() == [1, 2, 3, 4, 5]
    assert len(found.structure.constraints) == 1
    assert np.allclose(found.structure.positions, reference.structure.cart_coords)
    assert np.allclose(found.structure.cell, reference.structure.lattice.matrix)
    assert found.formation_energy_per_atom == pytest.approx(reference.formation_energy_per_atom)
    with pytest.raises(StructureError, match="structure: not periodic in three directions"):
        translator.translate(Atoms("Mg"))


def test_a_table_of_many(translator, perovskite, rutile):
    many = translator.translate_many([perovskite, AseAtomsAdaptor.get_atoms(rutile, msonable=False)])
    table = many.to_dataframe()
    assert table["formula"].tolist() == ["CaTiO3", "TiO2"]
    assert table["n_atoms"].tolist() == [5, 6]
    assert table["formation_energy_per_atom"].tolist() == [item.formation_energy_per_atom for item in many]
    assert [type(item) for item in table["structure"]] == [Structure, Atoms]
    assert list(translator.translate_many([]).to_dataframe().columns) == list(table.columns)


def test_the_representation_names_model_and_device(translator):
    words = repr(translator)
    assert words.startswith(f"<Translator {DEFAULT_MODEL}, version {translator.version}: ")
    assert words.endswith(f" elements, on {translator.model.device}>")


def test_charges_come_along(translator, perovskite):
    perovskite.add_oxidation_state_by_element({"Ca": 2, "Ti": 4, "O": -2}).add_site_property("charge", [0.5] * 5)
    perovskite.set_charge(1)
    after = translator.translate(perovskite).structure
    assert (after.charge, after.species, after.site_properties) == (1, perovskite.species, {"charge": [0.5] * 5})


def test_frozen_atoms_do_not_come_along(translator, perovskite):
    perovskite.add_site_property("selective_dynamics", [[False] * 3] * 5)
    assert translator.translate(perovskite).structure.site_properties == {}


def test_a_structure_that_breaks_its_batch_is_one_error(translator, perovskite, rutile):
    rutile.add_site_property("magmom", ["up"] * 6)
    before, broken, after = translator.translate_stream([perovskite, rutile, perovskite])
    assert isinstance(broken, StructureError)
    assert before == after == translator.translate(perovskite)


def test_images_of_atoms_come_out_as_they_were_given(translator, perovskite):
    expected = translator.translate(perovskite).structure
    cells = np.array([[90, 90, 90], [0, 0, 0], [-90, 0, 90], [0, 0, 0], [1, 2, 3]])
    given = Structure(perovskite.lattice, perovskite.species, perovskite.frac_coords + cells)
    translated = translator.translate(given).structure
    assert np.allclose(translated.frac_coords - expected.frac_coords, cells, atol=1e-6)


def test_a_stretched_crystal_is_brought_back(translator, perovskite):
    """The released model knows roughly how large CaTiO3 is and how stable."""
    stretched = perovskite.copy()
    stretched.scale_lattice(perovskite.volume * 1.2)
    translation = translator.translate(stretched)
    assert abs(translation.structure.volume / 58.5 - 1) < 0.06
    assert translation.formation_energy_per_atom == pytest.approx(-3.4, abs=0.3)


def test_one_and_many_agree_whatever_the_batch(translator):
    structures = [template.structure for template in AflowTemplates(elements=["O"], max_atoms=20).load()]
    many = translator.translate_many(structures)
    for structure, together in zip(structures[::5], many[::5], strict=True):
        alone = translator.translate(structure)
        assert alone.formation_energy_per_atom == pytest.approx(together.formation_energy_per_atom, abs=1e-4)
        assert np.allclose(alone.structure.lattice.matrix, together.structure.lattice.matrix, atol=1e-4)
        assert [site.specie for site in alone.structure] == [site.specie for site in structure]


def test_symmetry_is_kept(translator):
    """Every prototype keeps at least the symmetry operations it came with, at VASP's own default tolerance."""
    for template in AflowTemplates(elements=["O"], max_atoms=20).load():
        # The library's coordinates are rounded; refined ones are symmetric to the last digit.
        structure = SpacegroupAnalyzer(template.structure, symprec=1e-3).get_primitive_standard_structure()
        before = SpacegroupAnalyzer(structure, symprec=1e-5)
        after = SpacegroupAnalyzer(translator.translate(structure).structure, symprec=1e-5)
        assert len(after.get_symmetry_operations()) >= len(before.get_symmetry_operations()), template.template_id


def test_bad_ones_do_not_stop_the_stream(translator, perovskite):
    nan = Structure(Lattice.cubic(4), ["Fe"], [[np.nan, 0, 0]])
    results = list(translator.translate_stream([nan, perovskite, nan, perovskite]))
    assert [isinstance(result, StructureError) for result in results] == [True, False, True, False]
    with pytest.raises(StructureError, match=r"structures\[1\]"):
        translator.translate_many([perovskite, nan])
    assert translator.translate_many([]) == []


def test_a_batch_of_broken_rows_ends_too(translator):
    read = []

    def rows():
        for number in range(5000):
            read.append(number)
            yield str(number), StructureError("empty file", "empty")

    next(iter(translator.translate_labelled(rows())))
    assert len(read) < 5000


def test_what_is_no_structure_is_refused(translator, perovskite):
    for wrong in (None, "perovskite.cif"):
        with pytest.raises(TypeError, match="neither a pymatgen Structure nor ASE Atoms"):
            translator.translate(wrong)
    with pytest.raises(TypeError, match=r"structures\[1\]: a NoneType"):
        translator.translate_many([perovskite, None])


def test_other_processes_stay_on_the_cpu(tiny_model, perovskite, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    kept_translator.cache_clear()
    (result,) = translate_elsewhere(tiny_model, tiny_model.version(), [("row", perovskite)])
    kept_translator.cache_clear()
    assert isinstance(result, Translation)


@pytest.mark.slow
def test_what_a_killed_process_leaves_is_translated_here(translator, perovskite, monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")
    monkeypatch.setattr(translator, "_n_translated", WORTH_PROCESSES)
    monkeypatch.setattr(translator, "_alone", False)
    monkeypatch.setattr("cryslator_flows.translator.translator.translate_elsewhere", end_process)
    results = list(translator.translate_stream([perovskite] * 3))
    assert [result.formation_energy_per_atom for result in results] == pytest.approx(
        [translator.translate(perovskite).formation_energy_per_atom] * 3
    )


@pytest.mark.slow
def test_many_are_translated_in_other_processes_with_the_same_results(translator, perovskite, monkeypatch):
    structures = [template.structure for template in AflowTemplates(elements=["O"], max_atoms=14).load()]
    rows = [(f"row {index}", structure) for index, structure in enumerate(structures)]
    rows.insert(1, ("flat", Structure(Lattice([[1, 0, 0], [0, 1, 0], [1, 1, 0]]), ["Fe"], [[0, 0, 0]])))
    rows.insert(3, ("unread", StructureError("unread: no atoms", "no atoms")))
    here = dict(translator.translate_labelled(iter(rows)))
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")
    monkeypatch.setattr(translator, "_n_translated", WORTH_PROCESSES)
    monkeypatch.setattr(translator, "_alone", False)
    monkeypatch.setattr(translator.model, "predict", None)  # this process translates nothing any more
    there = dict(translator.translate_labelled(iter(rows)))
    assert list(there) == list(here) == [name for name, _ in rows]
    assert (there["unread"].cause, there["flat"].cause) == ("no atoms", "flat cell")
    assert str(there["flat"]) == str(here["flat"])
    for name in set(there) - {"unread", "flat"}:
        assert there[name] == here[name]


def threads_of_a_new_thread():
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def test_threads_are_as_before_while_a_stream_rests(translator, perovskite):
    before = torch.get_num_threads(), threads_of_a_new_thread()
    stream = translator.translate_stream([perovskite] * 3)
    next(stream)
    assert (torch.get_num_threads(), threads_of_a_new_thread()) == before
    stream.close()


def test_precision_of_torch_does_not_matter(translator, perovskite):
    energy = translator.translate(perovskite).formation_energy_per_atom
    torch.set_default_dtype(torch.float64)
    try:
        other = Translator.from_pretrained()
    finally:
        torch.set_default_dtype(torch.float32)
    assert other.translate(perovskite).formation_energy_per_atom == pytest.approx(energy, abs=1e-5)


def test_an_unknown_device_is_named(translator):
    with pytest.raises(ModelError, match="device 'abacus'"):
        Translator.from_pretrained(device="abacus")
    assert Translator.from_pretrained(device="cpu").model.device == "cpu"


def translate_many_in_a_daemon(structures):
    translator = Translator.from_pretrained()
    translator._n_translated = WORTH_PROCESSES
    return [translation.formation_energy_per_atom for translation in translator.translate_many(structures)]


@pytest.mark.slow
def test_a_worker_of_a_pool_translates_alone(translator, perovskite):
    """It may not start processes of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (energy,) = pool.apply(translate_many_in_a_daemon, ([perovskite],))
    assert energy == pytest.approx(translator.translate(perovskite).formation_energy_per_atom, abs=1e-5)


def test_unknown_elements_are_named(translator):
    odd = Structure(Lattice.cubic(4.2), ["Po", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    translation = translator.translate(odd)
    assert translation.unknown_elements == ["Po"]
    assert translation.out_of_domain


def test_a_crystal_unlike_the_training_data_is_flagged():
    translator = Translator.from_pretrained("cryslator-2023")
    metal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])
    translation = translator.translate(metal)
    assert translation.unknown_elements == []
    assert translation.out_of_domain
    assert translation.domain_distance > 1


@pytest.mark.slow
def test_a_relaxed_crystal_stays_as_it_is(translator, perovskite):
    """Translated twice, a structure hardly changes any more."""
    once = translator.translate(perovskite)
    twice = translator.translate(once.structure)
    assert abs(twice.volume_change) < 0.02
    assert twice.mean_displacement < 0.02


def test_unknown_model_names_the_known_ones():
    with pytest.raises(ModelError, match="cryslator-universal"):
        Translator.from_pretrained("cryslator-univers")


def test_folder_of_ones_own(tiny_model, monkeypatch, perovskite):
    assert Translator.from_pretrained(tiny_model.path).name == "tiny"
    monkeypatch.setattr("cryslator_flows.settings.SETTINGS.model_dirs", [tiny_model.path.parent])
    assert {"tiny", "cryslator-universal"} <= set(list_models())
    assert find_model("tiny").path == tiny_model.path
    translation = Translator.from_pretrained("tiny").translate(perovskite)
    assert translation.model_version == tiny_model.version()


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        (WEIGHTS, lambda path: path.write_bytes(path.read_bytes()[:1000])),
        (WEIGHTS, lambda path: path.write_bytes(b"")),
        (WEIGHTS, lambda path: path.unlink()),
        (CALIBRATION, lambda path: path.write_bytes(path.read_bytes()[:500])),
        (CALIBRATION, lambda path: path.unlink()),
        (CALIBRATION, lambda path: path.write_bytes(path.with_name(WEIGHTS).read_bytes())),
        (WEIGHTS, lambda path: path.write_bytes(path.with_name(CALIBRATION).read_bytes())),
        (CONFIG, lambda path: path.write_text("{")),
        (CONFIG, lambda path: path.write_text(path.read_text().replace('"width": 16', '"width": 32'))),
        (CONFIG, lambda path: path.write_text(path.read_text().replace('"cryslator"', '"other"'))),
        (CONFIG, lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), "extra": 1}))),
    ],
)
def test_damaged_model_is_named(tiny_model, file, damage):
    damage(tiny_model.path / file)
    with pytest.raises(ModelError) as caught:
        Translator.from_pretrained(tiny_model.path)
    message = str(caught.value)
    assert str(tiny_model.path) in message
    assert ";" in message
    assert "\n" not in message


@pytest.mark.parametrize("version", [1, 99, None])
def test_model_of_another_version_says_what_to_do(tiny_model, version):
    config = tiny_model.path / CONFIG
    config.write_text(json.dumps({**json.loads(config.read_text()), "format_version": version}))
    with pytest.raises(ModelError, match=r"config.json, format_version: .* retrain it with `cryslator train"):
        Translator.from_pretrained(tiny_model.path)
