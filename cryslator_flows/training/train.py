"""Training from a recipe to a model folder: prepare, fit, calibrate, export, score, write the card."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import torch
from pymatgen.core import Element

from cryslator_flows.crystals.compound_classes import CLASSES
from cryslator_flows.system.look import BLUE, VERMILION
from cryslator_flows.system.whole_files import whole_file, write_whole
from cryslator_flows.training.calibrate import calibrate
from cryslator_flows.training.card import model_card
from cryslator_flows.training.checkpoint import sole_training
from cryslator_flows.training.evaluate import INPUTS, Evaluation, evaluate
from cryslator_flows.training.fit import Fit, fit
from cryslator_flows.training.new_model import check_place, new_model
from cryslator_flows.training.prepare import first_rows, prepare
from cryslator_flows.training.reference_fit import fit_reference
from cryslator_flows.training.splits import read_tests
from cryslator_flows.training.tensors import from_arrays, load_arrays
from cryslator_flows.translator.chemistry import Seen
from cryslator_flows.translator.loaded import LoadedModel
from cryslator_flows.translator.model_folder import (
    CARD,
    CURVE,
    FORMATION_ENERGY,
    METRICS,
    RECIPE,
    ModelConfig,
    ModelFolder,
    save_model,
)
from cryslator_flows.translator.network import Network

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryslator_flows.training.fit_settings import Progress
    from cryslator_flows.training.recipe import CardText, Recipe
    from cryslator_flows.training.reference_stages import StageProgress
    from cryslator_flows.translator.calibration import Calibration
    from cryslator_flows.translator.reference.reference_network import ReferenceNetwork

# A drawing takes longer than a short epoch.
DRAW_SECONDS = 10
# Errors in `curve.png`: those of unrelaxed inputs, those of relaxed ones, title and factor.
PANELS = (
    ("energy_mae", None, "energy MAE", 1.0),
    ("volume_error", "relaxed_volume", "volume error (%)", 100.0),
    ("displacement", "relaxed_displacement", "displacement (A)", 1.0),
)


@dataclass(frozen=True)
class Trained:
    """Network with its best weights, and the training section of the card."""

    network: Network | ReferenceNetwork
    summary: dict[str, Any]


def train(
    recipe: Recipe,
    recipe_file: Path | str,
    folder: Path | str,
    run_dir: Path | str,
    report: Callable[[Progress | StageProgress], None],
    report_step: Callable[[float], None],
    report_scoring: Callable[[str, int, int], None] | None = None,
) -> ModelFolder:
    """Train a model, or continue a stopped training.

    Parameters
    ----------
    recipe : Recipe
        The recipe.
    recipe_file : Path or str
        File of the recipe. A copy stays with the model.
    folder : Path or str
        The model folder to write.
    run_dir : Path or str
        Folder for ``prepared.npz`` and the checkpoints.
    report : callable
        Called after every epoch.
    report_step : callable
        Called after every step with the finished share, but not for the paper's system.
    report_scoring : callable or None
        Argument `progress` of `evaluate`.

    Returns
    -------
    ModelFolder
        The finished model.

    Raises
    ------
    DataError
        A file of the recipe is wrong, or a training pair leaks a validation or test pair. The checkpoints in
        `run_dir` belong to another recipe or to other data.
    StoreError
        Another training runs in `run_dir`, `folder` contains something else than a model, or a file cannot be written.
    """
    recipe_file, folder, run_dir = Path(recipe_file), Path(folder), Path(run_dir)
    check_place(folder)
    prepared = run_dir / "prepared.npz"
    with sole_training(run_dir):
        prepare(recipe, prepared)
        trained = (
            train_network(prepared, run_dir, report, report_step)
            if recipe.reference is None
            else train_reference(prepared, run_dir, report)
        )
        return export(trained, prepared, recipe, recipe_file, folder, report_scoring)


def train_network(
    prepared: Path,
    run_dir: Path,
    report: Callable[[Progress], None],
    report_step: Callable[[float], None] | None,
    kind: type[Fit] = Fit,
) -> Trained:
    """Fit today's network; parameters as in `fit`. ``curve.png`` in `run_dir` is drawn during the fit."""
    last = monotonic()

    def drawn(progress: Progress) -> None:
        nonlocal last
        if monotonic() - last > DRAW_SECONDS:
            draw_curve(run_dir)
            last = monotonic()
        report(progress)

    state = fit(prepared, run_dir, drawn, report_step, kind)
    draw_curve(run_dir)
    state.network.load_state_dict(state.best_weights)
    best = min(state.history, key=lambda progress: progress.validation["score"])
    summary = {
        "pairs": len(state.pairs),
        "relaxed_crystals": len(state.relaxed),
        "epochs": state.epoch,
        "minutes": round(state.seconds / 60, 1),
        "best": asdict(best),
    }
    return Trained(state.network.eval(), summary)


def draw_curve(run_dir: Path) -> None:
    """Draw validation errors against steps, from ``metrics.jsonl`` of a run, as ``curve.png`` beside it.

    Parameters
    ----------
    run_dir : Path
        The `run_dir` of `fit`.
    """
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows]
    figure = Figure(figsize=(10, 3), layout="constrained")
    for axis, (name, at_rest, label, factor) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for key, color, words in ((name, BLUE, "from unrelaxed"), (at_rest, VERMILION, "change of relaxed")):
            if key is not None:
                values = [factor * row["validation"][key] for row in rows]
                axis.plot(steps, values, "o-", ms=3, color=color, label=f"{words}: {values[-1]:.3g}")
        axis.set_xlabel("steps")
        axis.set_title(f"{label}, validation", fontsize=10)
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=8)
    with whole_file(run_dir / CURVE) as file:
        figure.savefig(file, dpi=110)


def train_reference(prepared: Path, run_dir: Path, report: Callable[[StageProgress], None]) -> Trained:
    """Fit the paper's system; parameters as in `fit_reference`."""
    network, stages = fit_reference(prepared, run_dir, report)
    rows = [
        {"stage": stage.name, "epochs": stage.epoch, "minutes": round(stage.seconds / 60, 1), "best": stage.best}
        for stage in stages
    ]
    return Trained(network, {"minutes": round(sum(stage.seconds for stage in stages) / 60, 1), "stages": rows})


def export(
    trained: Trained,
    prepared: Path,
    recipe: Recipe,
    recipe_file: Path,
    folder: Path,
    report_scoring: Callable[[str, int, int], None] | None,
) -> ModelFolder:
    """Calibrate a network, write it as a model folder, score it and write the card.

    Parameters
    ----------
    trained : Trained
        The network.
    prepared : Path
        The tensor file of the fit.
    recipe, recipe_file, folder, report_scoring
        As in `train`.

    Returns
    -------
    ModelFolder
        The model.
    """
    arrays = load_arrays(prepared)
    pairs, val, relaxed = (from_arrays(arrays, name) for name in ("train", "val", "relaxed"))
    device = str(next(trained.network.parameters()).device)
    first, targets = pairs.take(first_rows(arrays["targets/train"])), arrays["targets/val"]
    calibration = calibrate(
        trained.network,
        first,
        Seen.count(first.unrelaxed),
        val,
        1 / torch.bincount(targets)[targets],
        device,
        settles=recipe.reference is None,
        element_volumes=arrays["elements/volumes"],
    )
    config = ModelConfig(
        model_type="cryslator" if recipe.reference is None else "cryslator-2023",
        name=folder.resolve().name,
        target=recipe.target,
        unit=recipe.unit,
        network=asdict(trained.network.config),
        elements=[Element.from_Z(int(number)).symbol for number in torch.unique(pairs.numbers)],
    )
    weights = trained.network.state_dict()
    if recipe.reference is not None:
        # A reference need not be stored to the last digit. Scores are computed with the stored values.
        weights |= {name: value.half() for name, value in trained.network.named_parameters()}
    with new_model(folder) as place:
        model = save_model(place, config, weights, calibration)
        write_whole(place / RECIPE, recipe_file.read_bytes())
        if (prepared.parent / CURVE).is_file():
            write_whole(place / CURVE, (prepared.parent / CURVE).read_bytes())
        metrics = describe_model(model, trained, calibration, len(torch.unique(targets))) | {
            "training": {"pairs": len(pairs), "relaxed_crystals": len(relaxed), **trained.summary},
        }
        if recipe.split_by != "formula":
            metrics["training"]["split_by"] = recipe.split_by
        if left_out := int(arrays["left_out"]):
            metrics["training"]["left_out"] = left_out
        # Models of other properties are not used for their structures.
        if scores := score_tests(model, recipe, report_scoring, structures=recipe.target == FORMATION_ENERGY):
            metrics["test"] = [part.model_dump() for part in scores]
        write_metrics(place, metrics, recipe.card)
    return ModelFolder(folder)


def score_tests(
    model: ModelFolder,
    recipe: Recipe,
    report_scoring: Callable[[str, int, int], None] | None = None,
    structures: bool = True,
) -> list[Evaluation]:
    """Return scores on each file of test pairs; parameters as in `evaluate`."""
    found: list[Evaluation] = []
    for name, test in read_tests(recipe).items():
        if test:
            scored = evaluate([LoadedModel(model)], test, INPUTS, report_scoring, structures)
            if found:
                scored = [part.model_copy(update={"chemistry": f"{name}, {part.chemistry}"}) for part in scored]
            found += scored
    return found


def describe_model(model: ModelFolder, trained: Trained, calibration: Calibration, n_targets: int) -> dict[str, Any]:
    """Return entries of ``metrics.json`` for any model: version, size, and calibration on `n_targets` targets."""
    return {
        "model_version": model.version(),
        "parameters": sum(weight.numel() for weight in trained.network.parameters()),
        "calibration": describe_calibration(calibration, n_targets),
    }


def describe_calibration(calibration: Calibration, n_targets: int) -> dict[str, Any]:
    """Return the entry ``calibration`` of ``metrics.json``."""
    return {
        "targets": n_targets,
        "scale": calibration.scale.tolist(),
        "quantiles": dict(zip(CLASSES, calibration.quantiles.tolist(), strict=True)),
        "limit": float(calibration.limit),
        "widest": float(calibration.widest),
        "training_crystals": int(calibration.seen.sizes.sum()),
    }


def write_metrics(folder: Path, metrics: dict[str, Any], card: CardText) -> None:
    """Write ``metrics.json`` of a model, and its card."""
    write_whole(folder / METRICS, json.dumps(metrics, indent=2) + "\n")
    write_whole(folder / CARD, model_card(folder, card))
