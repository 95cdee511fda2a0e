import os
from importlib.util import find_spec

import numpy as np
import pytest
from jobflow import run_locally
from pymatgen.core import Lattice, Structure

from cryslator_flows.analysis.property_errors import dos_distance
from cryslator_flows.engines.gpaw_properties import GpawStaticMaker
from cryslator_flows.flows.property_comparison import PropertyComparisonFlowMaker
from tests.analysis.test_property_errors import electrons

pytestmark = pytest.mark.skipif(
    find_spec("gpaw") is None and "CI" not in os.environ, reason="GPAW is not installed: make gpaw"
)
SETTINGS = {"mode": {"name": "pw", "ecut": 400}, "xc": "PBE", "kpts": {"size": [2, 2, 2], "gamma": True}}


def magnesia(length):
    sites = [[0, 0, 0], [0.5, 0.5, 0.5]]
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(length), ["Mg", "O"], sites).get_primitive_structure()


def calculate(structure, folder, **kwargs):
    job = GpawStaticMaker(calculator_kwargs={**SETTINGS, **kwargs}).make(structure)
    responses = run_locally(job, create_folders=True, root_dir=folder, log=False, ensure_success=True)
    return responses[job.uuid][1].output


def test_insulator_and_its_supercell(tmp_path):
    """MgO: a gap, six electrons of oxygen's p states, and the same density of states from a doubled cell."""
    found = calculate(magnesia(4.25), tmp_path)
    assert found.engine == "GPAW"
    assert 3.5 < found.band_gap < 5
    assert electrons(found.dos) == pytest.approx(6 / 2, abs=0.01)
    energies, densities = np.array(found.dos.energies), np.array(found.dos.densities)
    assert densities[(energies > 1) & (energies < found.band_gap - 1)].max() < 1e-3
    double = magnesia(4.25) * [2, 1, 1]
    found_double = calculate(double, tmp_path, kpts={"size": [1, 2, 2], "gamma": True})
    assert found_double.band_gap == pytest.approx(found.band_gap, abs=0.01)
    # The middle of the gap, wherever the occupations put GPAW's own Fermi level.
    assert found_double.efermi == pytest.approx(found.efermi, abs=0.1)
    assert found_double.energy_per_atom == pytest.approx(found.energy_per_atom, abs=0.01)
    assert dos_distance(found.dos, found_double.dos) < 0.01


def test_magnetic_metal(tmp_path):
    """Iron is magnetic unless the structure says no: no gap, eight electrons, other energies than without spin."""
    iron = Structure.from_spacegroup("Im-3m", Lattice.cubic(2.87), ["Fe"], [[0, 0, 0]]).get_primitive_structure()
    spin = calculate(iron, tmp_path)
    iron.add_site_property("magmom", [0])
    plain = calculate(iron, tmp_path)
    for found in (plain, spin):
        assert found.band_gap == 0
        energies = np.array(found.dos.energies)
        occupied = (energies >= -10) & (energies <= 0)
        assert np.trapezoid(np.array(found.dos.densities)[occupied], energies[occupied]) == pytest.approx(8, abs=0.3)
    assert spin.energy_per_atom < plain.energy_per_atom - 0.1
    assert dos_distance(spin.dos, plain.dos) > 0.05


def test_nearer_structures_have_nearer_electrons(tmp_path):
    structures = {"unrelaxed": magnesia(4.5), "translated": magnesia(4.3), "relaxed": magnesia(4.25)}
    maker = PropertyComparisonFlowMaker(static_maker=GpawStaticMaker(calculator_kwargs=SETTINGS))
    flow = maker.make("id", "MgO", structures)
    responses = run_locally(flow, create_folders=True, root_dir=tmp_path, log=False, ensure_success=True)
    found = responses[flow.jobs[-1].uuid][1].output
    far, near = found.errors["unrelaxed"], found.errors["translated"]
    assert far.volume == pytest.approx((4.5 / 4.25) ** 3 - 1)
    assert far.band_gap < near.band_gap < 0
    assert abs(near.efermi) < abs(far.efermi)
    assert 0 < near.dos_distance < far.dos_distance < 1
    assert not found.synthetic
    assert set(found.electronic) == {"unrelaxed", "translated", "relaxed"}
