"""What is left of a GPAW relaxation that fails, or whose log cannot be counted; GPAW itself is not needed."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from ase.calculators.lj import LennardJones
from pymatgen.core import Molecule

from cryslator_flows.counting.ledger import ledger_cost
from cryslator_flows.engines.gpaw import LOG, GpawRelaxMaker
from cryslator_flows.errors import StructureError
from cryslator_flows.settings import SETTINGS
from tests.support.ledgers import read_ledger

ABOUT = {"campaign": "oxides", "candidate_id": "c1", "start": "translated"}
LOGO = " |__ |  _|___|_____|  24.6.0\n"


class Failing(LennardJones):
    def calculate(self, *args, **kwargs):
        raise RuntimeError("the SCF did not converge")


@dataclass
class LoggedRelaxMaker(GpawRelaxMaker):
    log: str = ""
    fails: bool = False

    def _get_calculator(self, **kwargs):
        Path(LOG).write_text(self.log)
        return Failing() if self.fails else LennardJones(sigma=1.9, epsilon=0.3, rc=6.0, smooth=True)


@pytest.fixture
def make(tmp_path, monkeypatch, perovskite):
    monkeypatch.setattr("cryslator_flows.engines.gpaw.find_spec", lambda name: name)
    monkeypatch.setattr(SETTINGS, "ledger", tmp_path / "ledger")
    monkeypatch.chdir(tmp_path)

    def made(**about):
        maker = LoggedRelaxMaker(provenance=ABOUT, steps=2, **about)
        return GpawRelaxMaker.make.original(maker, perovskite)

    return made


@pytest.mark.parametrize(
    ("log", "steps"),
    [
        (LOGO + "iter:   1 10:00:00   -15.0\niter:   2 10:00:01   -15.1\n", [2]),
        (LOGO + "iter:   2 10:00:01   -15.1\n", None),
        ("no log of GPAW\n", None),
    ],
)
def test_the_error_of_the_engine_is_the_one_that_is_raised(make, tmp_path, log, steps):
    with pytest.raises(RuntimeError, match="the SCF did not converge"):
        make(log=log, fails=True)
    (entry,) = read_ledger(tmp_path / "ledger")
    assert (entry.error is None) == (steps is not None)
    assert ledger_cost(tmp_path / "ledger", *ABOUT.values()).electronic_steps == steps


def test_a_ledger_that_cannot_be_written_hides_no_error(make, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(SETTINGS, "ledger", tmp_path / "file" / "ledger")
    with pytest.raises(RuntimeError, match="the SCF did not converge"):
        make(log=LOGO, fails=True)
    assert "were not recorded" in caplog.text


def test_a_relaxation_whose_log_cannot_be_counted_is_not_lost(make):
    document = make(log="no log of GPAW\n")
    assert document.structure is not None
    assert (document.cost.engine, document.cost.electronic_steps) == ("GPAW", None)
    assert document.cost.converged == (document.state == "successful")


def test_a_molecule_is_refused(monkeypatch):
    monkeypatch.setattr("cryslator_flows.engines.gpaw.find_spec", lambda name: name)
    with pytest.raises(StructureError, match="is a molecule; give GpawRelaxMaker a Structure"):
        GpawRelaxMaker().run_ase(Molecule(["O", "O"], [[0, 0, 0], [0, 0, 1.2]]))
