"""Relax makers with known behaviour, importable by name."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from ase.filters import UnitCellFilter
from atomate2.ase.jobs import LennardJonesRelaxMaker
from jobflow import Flow, Maker, job

from cryslator_flows.analysis.property_errors import broaden_levels
from cryslator_flows.documents.properties import ElectronicProperties
from tests.flows.pair_potential import PairPotential


@dataclass
class PairPotentialRelaxMaker(LennardJonesRelaxMaker):
    """Lennard-Jones crystal: real relaxations in milliseconds."""

    name: str = "pair potential relax"
    sigma: float = 1.9

    def __post_init__(self) -> None:
        super().__post_init__()
        self.calculator_kwargs = {"sigma": self.sigma, "epsilon": 0.3, "rc": 6.0}
        self.optimizer_kwargs = {"optimizer": "BFGS"}
        # The cell filter without logarithms of matrices takes half the time.
        self.relax_kwargs = {"fmax": 0.02, "cell_filter": UnitCellFilter}

    @property
    def calculator(self) -> PairPotential:
        return PairPotential(**self.calculator_kwargs)


@dataclass
class LoggingRelaxMaker(PairPotentialRelaxMaker):
    """Notes each run in a file; kills its own process at run number `kill_at`."""

    log: str = ""
    kill_at: int = 0

    @job
    def make(self, structure, prev_dir=None):
        path = Path(self.log)
        with path.open("a") as file:
            file.write(structure.formula + "\n")
        if len(path.read_text().splitlines()) == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return PairPotentialRelaxMaker.make.original(self, structure)


@dataclass
class KillingRelaxMaker(PairPotentialRelaxMaker):
    """Notes each run in a file; kills its own process at each crystal of one formula."""

    log: str = ""
    kills: str = ""

    @job
    def make(self, structure, prev_dir=None):
        with Path(self.log).open("a") as file:
            file.write(structure.reduced_formula + "\n")
        if structure.reduced_formula == self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        return PairPotentialRelaxMaker.make.original(self, structure)


@dataclass
class EndingMaker(Maker):
    """Ends its process when it is built."""

    name: str = "ending"

    def __post_init__(self) -> None:
        raise SystemExit("ended")


@dataclass
class WithoutMakeMaker(Maker):
    """Has nothing that makes anything."""

    name: str = "without make"

    @property
    def make(self):
        raise RuntimeError("no make")


@dataclass
class FussyRelaxMaker(PairPotentialRelaxMaker):
    """Fails for structures with one element, does not converge for those with another."""

    fails_with: str = ""
    unconverged_with: str = ""

    @job
    def make(self, structure, prev_dir=None):
        symbols = {element.symbol for element in structure.elements}
        if self.fails_with in symbols:
            raise RuntimeError(f"no {self.fails_with} here")
        self.steps = 2 if self.unconverged_with in symbols else 500
        return PairPotentialRelaxMaker.make.original(self, structure)


@dataclass
class DoubleMaker(Maker):
    """Two relaxations, one after the other, like atomate2's DoubleRelaxMaker."""

    name: str = "double"

    def make(self, structure, prev_dir=None) -> Flow:
        first = PairPotentialRelaxMaker(name="first").make(structure)
        second = PairPotentialRelaxMaker(name="second").make(first.output.structure)
        return Flow([first, second], output=second.output, name=self.name)


@dataclass
class FormulaStaticMaker(Maker):
    """Electrons by formula, from the volume per atom; fails above a volume of the cell."""

    name: str = "formula static"
    fails_above: float = 1e9

    @job(output_schema=ElectronicProperties)
    def make(self, structure, prev_dir=None):
        if structure.volume > self.fails_above:
            raise RuntimeError("too large")
        volume = structure.volume / len(structure)
        return ElectronicProperties(
            engine="formula",
            band_gap=volume / 10,
            efermi=-volume / 5,
            dos=broaden_levels([-volume / 4, 0], [4, 2], len(structure)),
            synthetic=True,
        )


@dataclass
class CompoundsOnlyRelaxMaker(PairPotentialRelaxMaker):
    """Fails for the crystal of one element, and does not converge for another."""

    fails_for: str = ""
    unconverged_for: str = ""

    @job
    def make(self, structure, prev_dir=None):
        if structure.symbol_set == (self.fails_for,):
            raise RuntimeError(f"no {self.fails_for} alone")
        self.steps = 2 if structure.symbol_set == (self.unconverged_for,) else 500
        return PairPotentialRelaxMaker.make.original(self, structure)


@dataclass
class NoEnergyRelaxMaker(PairPotentialRelaxMaker):
    """Leaves a structure without its energy."""

    @job
    def make(self, structure, prev_dir=None):
        document = PairPotentialRelaxMaker.make.original(self, structure)
        document.output.energy = None
        return document
