"""Relax pairs of a file with an interatomic potential, beside the translator, and write a row for each crystal.

Example: python workflows/test-set/potentials.py DATA/mp_pairs_test.jsonl.gz --potential CHGNet --number 300

Rows go to a file of --folder that is named after pairs, potential and start. A stopped run continues there. Formation
energies need energies of the elements on the potential's scale. Single points of the relaxed crystals of --references
give them by a fit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from atomate2.forcefields.jobs import ForceFieldRelaxMaker
from atomate2.forcefields.utils import ase_calculator
from pymatgen.io.ase import AseAtomsAdaptor
from rich.progress import track

from cryslator_flows.crystals.compound_classes import compound_class
from cryslator_flows.jobs.potential_relax import relax_all
from cryslator_flows.training.evaluate import first_of_each_target, remaining_errors
from cryslator_flows.training.records import PairRecord, read_records
from cryslator_flows.training.structure_match import STRICT
from cryslator_flows.translator.loaded import to_crystals
from cryslator_flows.translator.translator import Translator

if TYPE_CHECKING:
    from pymatgen.core import Structure

STARTS = ("unrelaxed", "translated")


def draw(path: Path, number: int, seed: int) -> list[PairRecord]:
    """Draw the first pairs of some targets with a known energy."""
    first = first_of_each_target(read_records(path, PairRecord))
    known = [item for item in first if item.formation_energy_per_atom is not None]
    return random.Random(seed).sample(known, min(number, len(known)))


def element_energies(potential: str, references: list[PairRecord]) -> dict[str, float]:
    """Fit energies of the elements, in eV/atom, so that formation energies agree on relaxed crystals."""
    calculator = ase_calculator(f"MLFF.{potential}")
    symbols = sorted({symbol for record in references for symbol in record.species})
    shares, energies = np.zeros((len(references), len(symbols))), np.zeros(len(references))
    for row, record in enumerate(track(references, "references")):
        atoms = AseAtomsAdaptor.get_atoms(record.structure("relaxed"))
        atoms.calc = calculator
        energies[row] = atoms.get_potential_energy() / len(atoms) - (record.formation_energy_per_atom or 0.0)
        for symbol in record.species:
            shares[row, symbols.index(symbol)] += 1 / len(atoms)
    return dict(zip(symbols, np.linalg.lstsq(shares, energies, rcond=None)[0].tolist(), strict=True))


def errors(structure: Structure | None, relaxed: Structure) -> dict[str, Any]:
    """Compare a structure with the relaxed one."""
    if structure is None:
        return {"volume": None, "shape": None, "displacement": None, "strict": False}
    volume, shape, shift = remaining_errors(to_crystals([structure]), to_crystals([relaxed]))[0].tolist()
    return {"volume": volume, "shape": shape, "displacement": shift, "strict": bool(STRICT.fit(structure, relaxed))}


def main() -> None:
    """Relax."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--potential", default="CHGNet", help="name of a force field of atomate2")
    parser.add_argument("--start", choices=STARTS, default="unrelaxed")
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--references", type=Path, help="pairs whose relaxed crystals fix the energies of the elements")
    parser.add_argument("--model", default="cryslator-universal")
    parser.add_argument("--folder", type=Path, default=Path("runs/test-set"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    kind = f"{arguments.pairs.name.split('.')[0]}-{arguments.potential}-{arguments.start}"
    records = draw(arguments.pairs.absolute(), arguments.number, seed=0)
    translator = Translator.from_pretrained(arguments.model)
    elements: dict[str, float] = {}
    if arguments.references is not None:
        kept = folder / f"elements-{arguments.potential}.json"
        if not kept.is_file():
            references = draw(arguments.references, 1500, seed=1)
            kept.write_text(json.dumps(element_energies(arguments.potential, references)))
        elements = json.loads(kept.read_text())
    file = folder / f"{kind}.jsonl"
    done = {json.loads(line)["target"] for line in file.read_text().splitlines()} if file.is_file() else set()
    maker = ForceFieldRelaxMaker(
        force_field_name=arguments.potential,
        steps=500,
        relax_kwargs={"fmax": 0.05},
        optimizer_kwargs={"optimizer": "BFGS"},
    )
    with file.open("a", encoding="utf-8") as rows, contextlib.chdir(folder):
        for record in track(records, kind):
            if record.target in done:
                continue
            unrelaxed, relaxed = record.structure("unrelaxed"), record.structure("relaxed")
            began = time.perf_counter()
            translation = translator.translate(unrelaxed)
            seconds = time.perf_counter() - began
            start = unrelaxed if arguments.start == "unrelaxed" else translation.structure
            (item,) = relax_all(maker, [(record.target, start)])
            energy = None
            if item.energy_per_atom is not None and set(record.species) <= set(elements):
                energy = item.energy_per_atom - sum(elements[symbol] for symbol in record.species) / len(record.species)
            row = {
                "target": record.target,
                "class": compound_class(record.species),
                "formation_energy_per_atom": record.formation_energy_per_atom,
                "translated": {
                    "formation_energy_per_atom": translation.formation_energy_per_atom,
                    "seconds": seconds,
                    "widths": [
                        translation.volume_uncertainty_90,
                        translation.shape_uncertainty_90,
                        translation.displacement_uncertainty_90,
                    ],
                    **errors(translation.structure, relaxed),
                },
                "potential": {
                    "formation_energy_per_atom": energy,
                    "seconds": item.seconds,
                    "steps": item.ionic_steps,
                    "converged": item.converged,
                    "error": item.error,
                    **errors(item.structure, relaxed),
                },
            }
            rows.write(json.dumps(row) + "\n")
            rows.flush()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
