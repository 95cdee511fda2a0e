"""Scores of models on pairs of unrelaxed and relaxed structures, beside simple baselines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from pydantic import BaseModel, Field

from cryslator_flows.crystals.compound_classes import CLASSES, compound_class
from cryslator_flows.errors import DataError
from cryslator_flows.system.processes import run_elsewhere
from cryslator_flows.training.prepare import pair_row, to_pairs
from cryslator_flows.training.structure_match import compare_all
from cryslator_flows.training.tensors import Augmentation, Pairs
from cryslator_flows.translator.geometry import shift_between, strain_between
from cryslator_flows.translator.graph import Crystals
from cryslator_flows.translator.loaded import LoadedModel, to_structures
from cryslator_flows.translator.network import mean_per_crystal
from cryslator_flows.translator.reference.reference_network import BASELINES, ReferenceNetwork
from cryslator_flows.translator.settling import deviator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from cryslator_flows.training.records import PairRecord

BATCH = 64
# Starting processes takes some seconds, as long as the comparison of so many structures.
WORTH_PROCESSES = 200
# Structures that a process compares in one task.
AT_ONCE = 32
# Each process takes some 250 MiB.
MOST_PROCESSES = 16

# Targets of so many elements, or more, count together.
MOST_ELEMENTS = 5
ELEMENT_COUNTS = {1: "1 element"} | {n: f"{n} elements" for n in (2, 3, 4)} | {MOST_ELEMENTS: "5 elements or more"}

Input = Literal["unrelaxed", "intermediate", "relaxed"]
INPUTS: tuple[Input, ...] = ("unrelaxed", "intermediate", "relaxed")


class StructureScore(BaseModel):
    """Differences between predicted and relaxed structures, means over the targets."""

    volume_error: float = Field(description="Mean of |V / V_relaxed - 1|, without unit")
    displacement: float = Field(description="Mean over atoms, then targets, in angstrom; see `displacement`")
    loose_match: float = Field(description="Share found equal by StructureMatcher, 0.2/0.3/5, scaled")
    strict_match: float = Field(description="Share found equal by StructureMatcher, 0.05/0.1/2, not scaled")
    symmetry_kept: float = Field(description="Share with no fewer symmetry operations than the input, symprec 0.001")
    fractional_error: float | None = Field(
        None, description="Mean absolute difference of fractional coordinates over atoms and axes, then targets"
    )
    displacement_median: float | None = Field(None, description="Median over targets of the displacement, in angstrom")


MEANS = tuple(StructureScore.model_fields)[:-1]


class StructureCoverage(BaseModel):
    """Shares of targets whose structure lies within the stated 90 % intervals."""

    volume: float = Field(description="Share of all targets, by ln(volume)")
    shape: float | None = Field(description="Share of targets whose symmetry leaves the shape of the cell free")
    displacement: float | None = Field(description="Share of targets whose symmetry leaves positions free")
    mean_widths: tuple[float, float, float] = Field(
        description="Mean half widths of ln(volume), shape, and displacement in angstrom"
    )


class UncertaintyScore(BaseModel):
    """Quality of the stated uncertainty and of the domain flag."""

    coverage_68: float = Field(description="Share of targets within the 68 % interval")
    coverage_90: float = Field(description="Share of targets within the 90 % interval")
    mean_width_90: float = Field(description="Mean half width of the 90 % interval, in the target's unit")
    risk: dict[str, float] = Field(description="Mean absolute error of the most certain share of the targets")
    out_of_domain: float = Field(description="Share flagged as out of domain")
    reasons: dict[str, float] = Field(
        default_factory=dict, description="Share flagged for each reason, the most frequent first"
    )
    coverage_90_in_domain: float | None = Field(
        None, description="Share of targets without the flag within the 90 % interval"
    )
    coverage_90_out_of_domain: float | None = Field(
        None, description="Share of flagged targets within the 90 % interval"
    )
    mae_in_domain: float | None = Field(
        description="Mean absolute error of targets without the flag, in the target's unit"
    )
    mae_out_of_domain: float | None = Field(description="Mean absolute error of flagged targets, in the target's unit")


class Score(BaseModel):
    """Scores of one method on one kind of input."""

    method: str = Field(description="Name of the model or of the baseline")
    input: Input = Field(description="Kind of input structure")
    energy_mae: float | None = Field(None, description="MAE of the formation energy or the model's target, in its unit")
    structure: StructureScore | None = Field(
        None, description="Score of structures; None for methods with energies alone"
    )
    uncertainty: UncertaintyScore | None = Field(None, description="Score of uncertainty; None for methods without one")
    structure_coverage: StructureCoverage | None = Field(
        None, description="Shares within the intervals of structures; None for methods without them"
    )


class Evaluation(BaseModel):
    """Scores of models and baselines on one file of pairs."""

    chemistry: str = Field(description="Class of the scored targets")
    n_targets: int = Field(description="Pairs scored: the first of each target")
    n_energies: int = Field(description="Targets whose formation energy is known")
    deviation: float | None = Field(
        None, description="Mean absolute deviation of the known values from their mean: the error of a constant"
    )
    models: dict[str, str] = Field(description="Version of each model")
    scores: list[Score]

    def score(self, method: str, kind: Input = "unrelaxed") -> Score:
        """Return the score of one method on one kind of input."""
        return next(score for score in self.scores if (score.method, score.input) == (method, kind))


@dataclass(frozen=True)
class Predictions:
    """Predictions of one method for all targets; None or NaN where missing."""

    method: str
    input: Input
    energies: NDArray[np.float64] | None = None
    widths: NDArray[np.float64] | None = None
    outside: NDArray[np.str_] | None = None
    structures: list[Structure] | None = None
    structure_errors: NDArray[np.float64] | None = None
    structure_widths: NDArray[np.float64] | None = None


def first_of_each_target(records: Iterable[PairRecord]) -> list[PairRecord]:
    """Return the first pair of every target, in order."""
    first: dict[str, PairRecord] = {}
    for record in records:
        first.setdefault(record.target, record)
    return list(first.values())


def make_inputs(pairs: Pairs, kind: Input) -> Crystals:
    """Return the input crystals of one kind.

    An intermediate is at a random point of the straight path from the unrelaxed to the relaxed crystal, with noise
    (`Augmentation`). It is the same in every call.
    """
    if kind == "intermediate":
        along = Augmentation(unrelaxed=0, relaxed=0)
        return along.draw(pairs, torch.zeros(len(pairs), dtype=torch.bool), torch.Generator().manual_seed(0))
    return pairs.unrelaxed if kind == "unrelaxed" else pairs.relaxed


def split(crystals: Crystals) -> Iterable[Crystals]:
    """Yield batches of a few crystals, in order."""
    ends = torch.cumsum(crystals.n_atoms, 0)
    for rows in torch.arange(len(crystals.n_atoms)).split(BATCH):
        first, last = int(ends[rows[0]] - crystals.n_atoms[rows[0]]), int(ends[rows[-1]])
        yield Crystals(
            crystals.lattices[rows], crystals.frac[first:last], crystals.numbers[first:last], crystals.n_atoms[rows]
        )


@torch.inference_mode()
def predict(model: LoadedModel, pairs: Pairs, starts: list[Structure], kind: Input) -> list[Predictions]:
    """Return predictions of a model, and of the baselines in it, for all targets."""
    crystals = make_inputs(pairs, kind)
    outcomes = [model.predict(batch) for batch in split(crystals)]
    lattices = torch.cat([outcome.translated.lattices.cpu() for outcome in outcomes])
    frac = torch.cat([outcome.translated.frac.cpu() for outcome in outcomes])
    translated = replace(crystals, lattices=lattices, frac=frac)
    intervals = [
        outcome.structure_uncertainty.cpu() for outcome in outcomes if outcome.structure_uncertainty is not None
    ]
    found = [
        Predictions(
            method=model.config.name,
            input=kind,
            energies=torch.cat([outcome.prediction.energy.cpu() for outcome in outcomes]).numpy(),
            widths=torch.cat([outcome.uncertainty.cpu() for outcome in outcomes]).numpy(),
            outside=np.array([reason for outcome in outcomes for reason in outcome.outside]),
            structures=to_structures(translated, starts),
            structure_errors=remaining_errors(translated, pairs.relaxed).numpy(),
            structure_widths=torch.cat(intervals).numpy() if len(intervals) == len(outcomes) else None,
        )
    ]
    if isinstance(model.network, ReferenceNetwork):
        for name in BASELINES:
            gcn, energies = model.network.baseline(name), []
            for batch in split(crystals):
                there = model.to_single(batch)
                energies.append(gcn.energy(gcn.encode(there, model.network.find_edges(there))).cpu().double())
            found.append(Predictions(method=f"GCN_{name}", input=kind, energies=torch.cat(energies).numpy()))
    return found


def scale_to_volumes(crystals: Crystals, element_volumes: torch.Tensor) -> Crystals:
    """Return crystals with every cell scaled to the sum of its element volumes."""
    volumes = mean_per_crystal(element_volumes.cpu()[crystals.numbers], crystals) * crystals.n_atoms
    factor = (volumes / crystals.volumes) ** (1 / 3)
    return replace(crystals, lattices=crystals.lattices * factor[:, None, None])


def score_uncertainty(
    errors: NDArray[np.float64], widths: NDArray[np.float64], outside: NDArray[np.str_]
) -> UncertaintyScore:
    """Score stated uncertainties.

    Parameters
    ----------
    errors : array
        Absolute errors, [targets].
    widths : array
        Half widths of the 68 and 90 % intervals, [targets, 2].
    outside : array
        Why targets are out of domain; an empty text inside the domain, [targets].
    """
    far, held = outside != "", errors <= widths[:, 1]
    reasons = Counter(outside[far].tolist()).most_common()
    order = np.argsort(widths[:, 1], kind="stable")
    shares = (0.25, 0.5, 0.75, 1.0)
    return UncertaintyScore(
        coverage_68=float(np.mean(errors <= widths[:, 0])),
        coverage_90=float(held.mean()),
        mean_width_90=float(widths[:, 1].mean()),
        risk={f"{share:.0%}": float(errors[order[: max(1, round(share * len(errors)))]].mean()) for share in shares},
        out_of_domain=float(far.mean()),
        reasons={reason: number / len(errors) for reason, number in reasons},
        coverage_90_in_domain=float(held[~far].mean()) if (~far).any() else None,
        coverage_90_out_of_domain=float(held[far].mean()) if far.any() else None,
        mae_in_domain=float(errors[~far].mean()) if (~far).any() else None,
        mae_out_of_domain=float(errors[far].mean()) if far.any() else None,
    )


def remaining_errors(predicted: Crystals, relaxed: Crystals) -> torch.Tensor:
    """Return the errors of ln(volume), shape, and positions in angstrom, [crystals, 3]; see `ExpectedErrors`."""
    strain = strain_between(predicted.lattices, relaxed.lattices)
    moved = shift_between(predicted, relaxed).norm(dim=-1)
    volume = strain.diagonal(dim1=1, dim2=2).sum(-1).abs()
    return torch.stack([volume, deviator(strain).norm(dim=(1, 2)), mean_per_crystal(moved, predicted)], dim=1)


def score_structures(errors: NDArray[np.float64], widths: NDArray[np.float64]) -> StructureCoverage:
    """Score stated intervals of structures; `errors` and half `widths` are [targets, 3]."""
    held, free = errors <= widths, widths > 0
    volume, shape, displacement = (
        float(held[free[:, column], column].mean()) if free[:, column].any() else None for column in range(3)
    )
    means = tuple(widths.mean(axis=0).tolist())
    return StructureCoverage(volume=volume or 0.0, shape=shape, displacement=displacement, mean_widths=means)


def evaluate(
    models: list[LoadedModel],
    records: Iterable[PairRecord],
    inputs: Iterable[Input] = ("unrelaxed",),
    progress: Callable[[str, int, int], None] | None = None,
    structures: bool = True,
) -> list[Evaluation]:
    """Translate the first pair of every target and compare it with the relaxed structure.

    Parameters
    ----------
    models : list of LoadedModel
        Models of one target. The element volumes of the first one make the volume-only baseline.
    records : iterable of PairRecord
        Pairs. Only the first pair of each target is used.
    inputs : iterable of str
        Kinds of input structures: unrelaxed, intermediate, relaxed.
    progress : callable or None
        Called with the method and input, the number of finished structures, and the number of all structures.
    structures : bool
        False to score energies alone.

    Returns
    -------
    list of Evaluation
        Evaluation of all targets, of X-Mn-O targets if there are any, and of each number of elements and class of
        `compound_class` if there are several. The methods are the copied input, the input scaled to element volumes,
        the models, and the graph convolution networks of `cryslator-2023`.

    Raises
    ------
    DataError
        The pairs are empty.
    """
    first = first_of_each_target(records)
    if not first:
        raise DataError("no pairs to score; give at least one")
    target = models[0].config.target
    pairs = to_pairs((pair_row(record, target) for record in first), np.float64)
    truth = pairs.energy.numpy()
    relaxed = [record.structure("relaxed") for record in first]
    found: list[tuple[Predictions, NDArray[np.float64] | None]] = []
    for kind in inputs:
        crystals = make_inputs(pairs, kind)
        starts = to_structures(crystals, relaxed)
        scaled = to_structures(scale_to_volumes(crystals, models[0].calibration.element_volumes), starts)
        methods = [
            Predictions("input copied", kind, structures=starts),
            Predictions("volume only", kind, structures=scaled),
            *(row for model in models for row in predict(model, pairs, starts, kind)),
        ]
        for row in methods:
            values = None
            if structures and row.structures is not None:
                triples = list(zip(starts, row.structures, relaxed, strict=True))
                batches = [triples[begin : begin + AT_ONCE] for begin in range(0, len(triples), AT_ONCE)]
                most = MOST_PROCESSES if len(triples) >= WORTH_PROCESSES else 1
                parts: list[list[list[float]]] = []
                for part in run_elsewhere(compare_all, batches, most):
                    parts.append(part)
                    if progress is not None:
                        progress(f"{row.method}, {kind}", sum(map(len, parts)), len(first))
                values = np.concatenate(parts)
            found.append((row, values))
    xmno = np.array([{"Mn", "O"} < set(record.species) and len(set(record.species)) == 3 for record in first])
    versions = {model.config.name: model.version for model in models}
    subsets = {"all": np.ones(len(first), dtype=bool)} | ({"X-Mn-O": xmno} if xmno.any() else {})
    numbers = np.array([min(len(set(record.species)), MOST_ELEMENTS) for record in first])
    if len(sizes := np.unique(numbers)) > 1:
        subsets |= {ELEMENT_COUNTS[size]: numbers == size for size in sizes}
    classes = np.array([compound_class(record.species) for record in first])
    if len(present := [name for name in CLASSES if name in classes]) > 1:
        subsets |= {name: classes == name for name in present}
    return [
        Evaluation(
            chemistry=chemistry,
            n_targets=int(mask.sum()),
            n_energies=len(known := truth[mask & ~np.isnan(truth)]),
            deviation=float(np.abs(known - known.mean()).mean()) if len(known) else None,
            models=versions,
            scores=[_score(row, values, truth, mask) for row, values in found],
        )
        for chemistry, mask in subsets.items()
    ]


def _score(
    row: Predictions, values: NDArray[np.float64] | None, truth: NDArray[np.float64], mask: NDArray[np.bool_]
) -> Score:
    score = Score(method=row.method, input=row.input)
    known = mask & ~np.isnan(truth)
    if row.energies is not None and known.any():
        errors = np.abs(row.energies - truth)[known]
        score.energy_mae = float(errors.mean())
        if row.widths is not None and row.outside is not None:
            score.uncertainty = score_uncertainty(errors, row.widths[known], row.outside[known])
    if row.structure_widths is not None and row.structure_errors is not None:
        score.structure_coverage = score_structures(row.structure_errors[mask], row.structure_widths[mask])
    if values is not None:
        means = dict(zip(MEANS, values[mask].mean(axis=0).tolist(), strict=True))
        median = float(np.median(values[mask, MEANS.index("displacement")]))
        score.structure = StructureScore(**means, displacement_median=median)
    return score
