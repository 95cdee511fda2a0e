"""Score a translator on pairs of unrelaxed and relaxed structures, beside two baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import BaseModel, Field
from pymatgen.core import Lattice, Structure
from pymatgen.core.structure_matcher import StructureMatcher
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer, SymmetryUndeterminedError

from cryslator_flows.translator.records import PairRecord
from cryslator_flows.translator.translator import to_crystals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cryslator_flows.translator.translator import Translator

LOOSE = StructureMatcher(ltol=0.2, stol=0.3, angle_tol=5)
STRICT = StructureMatcher(ltol=0.05, stol=0.1, angle_tol=2, scale=False)
SYMPREC = 1e-3


class StructureScore(BaseModel):
    """How near predicted structures come to the relaxed ones, means over the pairs."""

    volume_error: float = Field(description="Mean of |V / V_relaxed - 1|")
    displacement: float = Field(description="Mean over atoms, then pairs, in angstrom; see `displacement`")
    loose_match: float = Field(description="Share found equal by StructureMatcher, 0.2/0.3/5, scaled")
    strict_match: float = Field(description="Share found equal by StructureMatcher, 0.05/0.1/2, not scaled")
    symmetry_kept: float = Field(description="Share with no fewer symmetry operations than the input, symprec 0.001")


class Evaluation(BaseModel):
    """Scores of a model and of the baselines on one file of pairs."""

    model_name: str
    model_version: str
    n_targets: int = Field(description="Pairs scored: the first of each target")
    structures: dict[str, StructureScore] = Field(description="By method: input copied, volume only, the model")
    n_energies: int = Field(description="Targets with a known formation energy")
    energy_mae: float | None = Field(description="Of the formation energy, in eV/atom")
    energy_coverage: float | None = Field(description="Share of energies within the 68 % uncertainty")


def displacement(predicted: Structure, relaxed: Structure) -> float:
    """Mean distance between the atoms of two structures with the same sites in the same order.

    Minimum-image difference of the fractional coordinates, freed of its mean, in the relaxed cell.

    Parameters
    ----------
    predicted, relaxed : Structure
        The structures.

    Returns
    -------
    float
        Mean over the atoms, in angstrom.
    """
    change = predicted.frac_coords - relaxed.frac_coords
    change -= np.round(change)
    change -= change.mean(axis=0)
    return float(np.linalg.norm(relaxed.lattice.get_cartesian_coords(change), axis=1).mean())


def n_operations(structure: Structure) -> int:
    """Number of symmetry operations of the cell at symprec 0.001; 1 where spglib finds none."""
    try:
        return len(SpacegroupAnalyzer(structure, symprec=SYMPREC).get_symmetry_operations())
    except (SymmetryUndeterminedError, TypeError, ValueError):
        return 1


def score_structures(rows: Iterable[tuple[Structure, Structure, Structure]]) -> StructureScore:
    """Score predicted structures.

    Parameters
    ----------
    rows : iterable of (unrelaxed, predicted, relaxed)
        Structures with the same sites in the same order.

    Returns
    -------
    StructureScore
        Means over the rows.
    """
    values = [
        (
            abs(predicted.volume / relaxed.volume - 1),
            displacement(predicted, relaxed),
            bool(LOOSE.fit(predicted, relaxed)),
            bool(STRICT.fit(predicted, relaxed)),
            n_operations(predicted) >= n_operations(unrelaxed),
        )
        for unrelaxed, predicted, relaxed in rows
    ]
    return StructureScore(**dict(zip(StructureScore.model_fields, np.mean(values, axis=0).tolist(), strict=True)))


def first_of_each_target(records: Iterable[PairRecord]) -> list[PairRecord]:
    """The first pair of every target, in order."""
    first: dict[str, PairRecord] = {}
    for record in records:
        first.setdefault(record.target, record)
    return list(first.values())


def evaluate(
    translator: Translator, records: Iterable[PairRecord], progress: Callable[[str, int, int], None] | None = None
) -> Evaluation:
    """Translate the first unrelaxed structure of every target and compare with the relaxed one.

    Parameters
    ----------
    translator : Translator
        The model.
    records : iterable of PairRecord
        Pairs; further pairs of a target are left out.
    progress : callable or None
        Called with the method's name, the structures done and their number.

    Returns
    -------
    Evaluation
        Scores of the model, of the copied input, and of the input scaled to the model's element volumes.
    """
    pairs = first_of_each_target(records)
    unrelaxed = [record.structure("unrelaxed") for record in pairs]
    relaxed = [record.structure("relaxed") for record in pairs]
    translations = translator.translate_many(unrelaxed)
    crystals = to_crystals(unrelaxed).to(translator.device)
    with torch.inference_mode():
        growth = translator.network.growth(crystals).exp().cpu().numpy()
    scaled = [
        Structure(Lattice(structure.lattice.matrix * factor), structure.species, structure.frac_coords)
        for structure, factor in zip(unrelaxed, growth, strict=True)
    ]
    methods = {
        "input copied": unrelaxed,
        "volume only": scaled,
        translator.name: [translation.structure for translation in translations],
    }
    scores = {}
    for name, predicted in methods.items():
        rows = []
        for index, row in enumerate(zip(unrelaxed, predicted, relaxed, strict=True)):
            rows.append(row)
            if progress is not None:
                progress(name, index + 1, len(pairs))
        scores[name] = score_structures(rows)
    known = [
        (translation.formation_energy_per_atom - record.formation_energy_per_atom,
         translation.formation_energy_uncertainty)
        for translation, record in zip(translations, pairs, strict=True)
        if record.formation_energy_per_atom is not None
    ]  # fmt: skip
    errors = np.abs([error for error, _ in known])
    return Evaluation(
        model_name=translator.name,
        model_version=translator.version,
        n_targets=len(pairs),
        structures=scores,
        n_energies=len(known),
        energy_mae=float(errors.mean()) if known else None,
        energy_coverage=float(np.mean(errors <= [width for _, width in known])) if known else None,
    )
