"""Relax makers that fail until somebody fixes what they need, importable by name."""

from dataclasses import dataclass
from pathlib import Path

from jobflow import Flow, Maker, job

from tests.flows.makers import PairPotentialRelaxMaker
from tests.remote.flows import Gate


@dataclass
class MendableRelaxMaker(PairPotentialRelaxMaker):
    """Fails for structures with one element as long as a file is missing."""

    fails_with: str = ""
    needs: str = ""

    @job
    def make(self, structure, prev_dir=None):
        if self.fails_with in {element.symbol for element in structure.elements} and not Path(self.needs).exists():
            raise RuntimeError(f"{self.needs} is missing")
        return PairPotentialRelaxMaker.make.original(self, structure)


@dataclass
class GatedRelaxMaker(PairPotentialRelaxMaker):
    """Waits at a gate, all relaxations but the first, so that there is a middle to be killed in."""

    name: str = "gated relax"
    gate: str = ""

    @job
    def make(self, structure, prev_dir=None):
        Gate(Path(self.gate)).wait()
        return PairPotentialRelaxMaker.make.original(self, structure)


@dataclass
class MendableDoubleMaker(Maker):
    """Two relaxations, one after the other, of which the first may fail."""

    name: str = "mendable double"
    fails_with: str = ""
    needs: str = ""

    def make(self, structure, prev_dir=None) -> Flow:
        first = MendableRelaxMaker(name="first", fails_with=self.fails_with, needs=self.needs).make(structure)
        second = PairPotentialRelaxMaker(name="second").make(first.output.structure)
        return Flow([first, second], output=second.output, name=self.name)


@dataclass
class MendableTripleMaker(MendableDoubleMaker):
    """Three relaxations: the second may fail, the third takes something from the first and the second."""

    name: str = "mendable triple"

    def make(self, structure, prev_dir=None) -> Flow:
        first = PairPotentialRelaxMaker(name="first").make(structure)
        rest = super().make(first.output.structure)
        rest.jobs[1].function_kwargs["prev_dir"] = first.output.dir_name
        return Flow([first, rest], output=rest.output, name=self.name)
