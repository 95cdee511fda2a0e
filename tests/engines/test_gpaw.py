"""Real relaxations with GPAW, on crystals of two atoms."""

import os
from importlib.util import find_spec

import pytest
from jobflow import run_locally
from pymatgen.core import Lattice, Structure

from cryslator_flows.counting import count_steps
from cryslator_flows.engines.by_name import build_relax_maker
from cryslator_flows.engines.gpaw import LOG, GpawRelaxMaker
from cryslator_flows.engines.pinning import pin_kpoints
from cryslator_flows.errors import CampaignError

pytestmark = pytest.mark.skipif(
    find_spec("gpaw") is None and "CI" not in os.environ, reason="GPAW is not installed: make gpaw"
)


def rocksalt(cation, length):
    cell = Lattice([[0, length / 2, length / 2], [length / 2, 0, length / 2], [length / 2, length / 2, 0]])
    return Structure(cell, [cation, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def quick(**kwargs):
    maker = build_relax_maker("gpaw", {"kspacing": 1.6, **kwargs})
    maker.calculator_kwargs["mode"] = {"name": "pw", "ecut": 340}
    return maker


def relax(maker, structure, folder):
    job = maker.make(structure)
    responses = run_locally(job, create_folders=True, root_dir=folder, log=False, ensure_success=True)
    return responses[job.uuid][1].output


@pytest.mark.slow
def test_steps_are_those_that_gpaw_reports(tmp_path):
    document = relax(quick(), rocksalt("Mg", 4.4), tmp_path)
    cost = count_steps(document)
    log = next(tmp_path.rglob(LOG)).read_text()
    assert cost.electronic_steps == [int(line.split()[2]) for line in log.splitlines() if "Converged in" in line]
    # The calculator was called once for every ionic step; atomate2 lists the last frame twice.
    assert cost.ionic_steps == len(cost.electronic_steps) == document.output.n_steps - 1
    assert cost.converged
    assert (cost.engine, cost.attempts, cost.synthetic) == ("GPAW", 1, False)
    assert cost.electronic_steps_times_kpoints == sum(cost.electronic_steps) * cost.n_kpoints
    assert f"Number of IBZ points: {cost.n_kpoints}" in log


@pytest.mark.slow
def test_cut_short_is_not_converged(tmp_path):
    cost = count_steps(relax(quick(steps=2), rocksalt("Mg", 4.6), tmp_path))
    assert not cost.converged
    assert cost.ionic_steps == 3


@pytest.mark.slow
def test_magnetic_elements_are_spin_polarized(tmp_path):
    relax(quick(steps=2, magnetic_moments={"Mn": 4.0}), rocksalt("Mn", 4.4), tmp_path)
    assert "Spin-components: 2" in next(tmp_path.rglob(LOG)).read_text()


@pytest.mark.slow
def test_moments_of_the_structure_come_first(tmp_path):
    structure = rocksalt("Mn", 4.4)
    structure.add_site_property("magmom", [2.5, 0.0])
    relax(quick(steps=2), structure, tmp_path)
    assert "( 0.0000,  0.0000,  2.5000)" in next(tmp_path.rglob(LOG)).read_text()


def test_kpoints_are_pinned():
    small, large = rocksalt("Mg", 4.2), rocksalt("Mg", 5.6)
    maker = GpawRelaxMaker(kspacing=0.5)
    pinned = pin_kpoints(maker, small)
    assert pinned.calculator_kwargs["kpts"] != pin_kpoints(maker, large).calculator_kwargs["kpts"]
    assert pin_kpoints(pinned, large).calculator_kwargs == pinned.calculator_kwargs
    assert "kpts" not in maker.calculator_kwargs


def test_without_gpaw(monkeypatch):
    monkeypatch.setattr("cryslator_flows.engines.by_name.find_spec", lambda name: None)
    with pytest.raises(CampaignError, match=r"pip install 'cryslator-flows\[gpaw\]'"):
        build_relax_maker("gpaw", {})
