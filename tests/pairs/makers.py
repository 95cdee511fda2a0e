"""A relax maker whose relaxed crystals are near the unrelaxed ones, importable by name."""

from __future__ import annotations

from dataclasses import dataclass

from tests.flows.makers import FussyRelaxMaker


@dataclass
class LargeAtomsRelaxMaker(FussyRelaxMaker):
    """A Lennard-Jones crystal that does not shrink by half."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.calculator_kwargs |= {"sigma": 2.2}
