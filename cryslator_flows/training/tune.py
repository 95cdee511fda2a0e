"""Fine-tuning of a model on new pairs: prepare, fit from its weights, calibrate, export, score beside the base."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml
from pymatgen.core import Element

from cryslator_flows.errors import DataError, ModelError
from cryslator_flows.system.whole_files import whole_file, write_whole
from cryslator_flows.training.calibrate import calibrate
from cryslator_flows.training.checkpoint import sole_training, write_arrays
from cryslator_flows.training.evaluate import INPUTS, evaluate
from cryslator_flows.training.new_model import check_place, new_model
from cryslator_flows.training.prepare import (
    first_rows,
    pair_row,
    settings_array,
    target_indices,
    to_pairs,
    training_pairs,
    with_symmetry,
)
from cryslator_flows.training.recipe import CardText, TuneConfig
from cryslator_flows.training.records import PairRecord
from cryslator_flows.training.replay import replay_rows
from cryslator_flows.training.tensors import concatenate, from_arrays, load_arrays, to_arrays
from cryslator_flows.training.train import describe_model, train_network, write_metrics
from cryslator_flows.training.tune_data import TuneData
from cryslator_flows.training.tune_fit import BASE, TuneFit
from cryslator_flows.translator.chemistry import Seen
from cryslator_flows.translator.loaded import LoadedModel
from cryslator_flows.translator.model_folder import FORMATION_ENERGY, RECIPE, ModelFolder, save_model
from cryslator_flows.translator.network import Network

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic import BaseModel

    from cryslator_flows.training.fit_settings import Progress
    from cryslator_flows.training.recipe import Recipe
    from cryslator_flows.training.train import Trained

# Weights that depend on the target.
TARGET_HEADS = "energy_head.", "scale_head."
# Largest number of replay crystals that represent the old domain.
KNOWN = 5000


def fine_tune(
    base: ModelFolder,
    data: TuneData,
    folder: Path | str,
    run_dir: Path | str,
    settings: TuneConfig | None = None,
    card: CardText | None = None,
    recipe_text: str | None = None,
    report: Callable[[Progress], None] | None = None,
    report_step: Callable[[float], None] | None = None,
    report_scoring: Callable[[str, int, int], None] | None = None,
    target: str | None = None,
    unit: str | None = None,
) -> ModelFolder:
    """Fine-tune a model on new pairs, or continue a fine-tuning that was stopped.

    Shape of the network, element tables and volumes are taken from the base, which stays unchanged. Uncertainty,
    domain and rest are calibrated again, on the new and the old validation pairs.

    Parameters
    ----------
    base : ModelFolder
        The model to start from.
    data : TuneData
        The pairs: `TuneData.from_pairs` for pairs in memory, `TuneData.from_recipe` for pairs of a recipe.
    folder : Path or str
        The model folder to write. Its name is the model's and must differ from the base's.
    run_dir : Path or str
        Folder for ``prepared.npz`` and the checkpoints.
    settings : TuneConfig or None
        Settings of the fit; None for the defaults. Files named in them are not read here.
    card : CardText or None
        Texts of the card.
    recipe_text : str or None
        The recipe that is stored with the model. If None, it is written with names of files of the pairs in `run_dir`.
    report : callable or None
        Called after every epoch.
    report_step : callable or None
        Called after every step with the finished share.
    report_scoring : callable or None
        Argument `progress` of `evaluate`.
    target, unit : str or None
        Predicted column of the pairs and its unit; None for target and unit of the base. For another target the head
        starts from random weights, and all other weights from the base. Pairs without a number are left out.

    Returns
    -------
    ModelFolder
        The finished model. Its ``metrics.json`` has scores of itself and of the base on the new test pairs (``test``)
        and on the old ones (``old_test``), if any.

    Raises
    ------
    ModelError
        The base cannot be read, or is a model of another kind.
    DataError
        Pairs are missing or lack the target, the name is the base's, or `run_dir` belongs to another fine-tuning.
    StoreError
        Another training runs in `run_dir`, `folder` contains something else than a model, or a file cannot be written.
    """
    settings = settings or TuneConfig()
    card = card or CardText()
    if base.config().model_type != "cryslator":
        raise ModelError(
            f"{base.path}: models of type {base.config().model_type} cannot be fine-tuned; train a new one"
        )
    folder, run_dir = Path(folder), Path(run_dir)
    if folder.resolve().name == base.name:
        raise DataError(f"{folder}: the base has the same name; give the fine-tuned model another one")
    check_place(folder)
    loaded = LoadedModel(base)
    predicted = target or loaded.config.target, unit or loaded.config.unit
    if predicted[0] != loaded.config.target:
        data = data.known(predicted[0])
    prepared = run_dir / "prepared.npz"
    with sole_training(run_dir):
        owner, digest = _claim(run_dir, base, data, predicted[0])
        prepare_tuning(base, loaded, data, settings, predicted[0], prepared)
        write_whole(owner, digest)
        trained = train_network(prepared, run_dir, report or (lambda _: None), report_step, TuneFit)
        if recipe_text is None:
            recipe_text = _write_recipe(run_dir, folder.resolve().name, base, data, settings, card, predicted)
        with new_model(folder) as place:
            changes = dict(zip(("name", "target", "unit"), (folder.resolve().name, *predicted), strict=True))
            model, metrics = _export(trained, prepared, loaded, place, changes)
            write_whole(place / RECIPE, recipe_text)
            metrics["tuning"] = _describe_tuning(loaded, data, settings)
            models = [LoadedModel(model), *([loaded] if predicted[0] == loaded.config.target else [])]
            for name, records, inputs in (("test", data.new.test, INPUTS), ("old_test", data.old_test, INPUTS[:1])):
                if records:
                    # Models of other properties are not used for their structures.
                    scored = evaluate(
                        models, records, inputs, report_scoring, structures=predicted[0] == FORMATION_ENERGY
                    )
                    metrics[name] = [part.model_dump() for part in scored]
            write_metrics(place, metrics, card)
    return ModelFolder(folder)


def _describe_tuning(base: LoadedModel, data: TuneData, settings: TuneConfig) -> dict[str, Any]:
    """Return the entries of ``metrics.json`` about base and pairs."""
    return {
        "base": base.config.name,
        "base_version": base.version,
        "new_pairs": {name: len(getattr(data.new, name)) for name in ("train", "val", "test")},
        "new_formulas": {name: _n_formulas(getattr(data.new, name)) for name in ("train", "val", "test")},
        "replay": {
            "pairs": sum(isinstance(record, PairRecord) for record in data.replay),
            "own_translations": sum(not isinstance(record, PairRecord) for record in data.replay),
            "share": settings.replay_share if data.replay else 0.0,
            "val": len(data.old_val),
        },
        "left_out": data.left_out,
    }


def tune_by_recipe(
    base: ModelFolder,
    recipe: Recipe,
    recipe_file: Path,
    folder: Path,
    run_dir: Path,
    report: Callable[[Progress], None],
    report_step: Callable[[float], None],
    report_scoring: Callable[[str, int, int], None] | None = None,
) -> ModelFolder:
    """Fine-tune a model on the files of a recipe.

    Parameters
    ----------
    base : ModelFolder
        The model to start from.
    recipe, recipe_file
        The recipe and its file. A copy stays with the model.
    folder, run_dir, report, report_step, report_scoring
        As in `fine_tune`.

    Returns
    -------
    ModelFolder
        The finished model.

    Raises
    ------
    ModelError, DataError
        As in `fine_tune`, or the recipe has settings that differ from the base.
    """
    config, given = base.config(), recipe.model_fields_set
    shape = {name: getattr(recipe.network, name) for name in config.network}
    if "network" in given and shape != config.network:
        raise DataError(f"{recipe_file}, network: a fine-tuned model has the network of its base; leave it out")
    for name in ("fit", "reference", "relaxed", "split_by"):
        if name in given and getattr(recipe, name) is not None:
            raise DataError(f"{recipe_file}, {name}: not used with --from; leave it out, settings are those under tune")
    if ("target" in given) != ("unit" in given):
        raise DataError(f"{recipe_file}, target, unit: give both, or leave out both to use both of {base.name}")
    return fine_tune(
        base,
        TuneData.from_recipe(recipe),
        folder,
        run_dir,
        recipe.tune,
        recipe.card,
        recipe_file.read_text(),
        report,
        report_step,
        report_scoring,
        *((recipe.target, recipe.unit) if "target" in given else ()),
    )


def prepare_tuning(
    base: ModelFolder, loaded: LoadedModel, data: TuneData, settings: TuneConfig, target: str, path: Path
) -> None:
    """Write the tensor file of a fine-tuning: pairs, replay, the base's weights and tables, settings.

    Parameters
    ----------
    base, loaded : ModelFolder, LoadedModel
        The base, and the loaded base.
    data : TuneData
        The pairs.
    settings : TuneConfig
        Settings of the fit.
    target : str
        Predicted column of the pairs.
    path : Path
        The ``.npz`` file to write.

    Raises
    ------
    DataError
        The training or validation pairs are empty, or none has a number for the target.
    """
    for name in ("train", "val"):
        if not getattr(data.new, name):
            raise DataError(f"no new pairs to {name} on; give pairs of more formulas")
    state = {name: value.numpy() for name, value in base.network().state_dict().items()}
    parts = {
        "train": training_pairs(data.new.train, target, "new pairs"),
        "val": with_symmetry(to_pairs(pair_row(record, target) for record in data.new.val)),
        "relaxed": to_pairs([]),
        "replay": with_symmetry(to_pairs(replay_rows(data.replay, loaded, target))),
        "old_val": with_symmetry(to_pairs(pair_row(record, target) for record in data.old_val)),
    }
    fit = asdict(settings.to_fit())
    heads = () if target == loaded.config.target else TARGET_HEADS
    write_arrays(
        path,
        {name: value for prefix, part in parts.items() for name, value in to_arrays(part, prefix).items()}
        | {f"targets/{name}": target_indices(records).numpy() for name, records in _grouped(data).items()}
        | {f"elements/{name}": state[f"element_{name}"] for name in ("table", "radii", "volumes")}
        | {BASE + name: value for name, value in state.items() if not name.startswith(heads)}
        | {
            "replay_share": np.asarray(settings.replay_share),
            "settings": settings_array({"network": loaded.config.network, "fit": fit}),
        },
    )


def _grouped(data: TuneData) -> dict[str, list[PairRecord]]:
    return {"train": data.new.train, "val": data.new.val, "old_val": data.old_val}


def _n_formulas(records: list[PairRecord]) -> int:
    return len({record.reduced_formula for record in records})


def _export(
    trained: Trained, prepared: Path, base: LoadedModel, folder: Path, changes: dict[str, str]
) -> tuple[ModelFolder, dict[str, Any]]:
    """Calibrate a fine-tuned network and write it."""
    assert isinstance(trained.network, Network)
    arrays = load_arrays(prepared)
    new, replay, val, old_val = (from_arrays(arrays, part) for part in ("train", "replay", "val", "old_val"))
    first = new.take(first_rows(arrays["targets/train"]))
    seen = Seen.count(first.unrelaxed)
    if changes["target"] == base.config.target:
        seen = base.calibration.seen + seen
    chosen = torch.randperm(len(replay), generator=torch.Generator().manual_seed(0))[:KNOWN]
    known = concatenate(first, replay.take(chosen))
    targets = [arrays[f"targets/{name}"] for name in ("val", "old_val")]
    weights = torch.cat([1 / torch.bincount(part)[part] for part in targets])
    calibration = calibrate(
        trained.network,
        known,
        seen,
        concatenate(val, old_val),
        weights,
        str(next(trained.network.parameters()).device),
        settles=True,
        element_volumes=base.calibration.element_volumes.float(),
    )
    elements = {Element.from_Z(int(number)).symbol for number in torch.unique(new.numbers)}
    config = base.config.model_copy(
        update={
            **changes,
            "elements": base.config.elements + sorted(elements - set(base.config.elements)),
        }
    )
    model = save_model(folder, config, trained.network.state_dict(), calibration)
    n_targets = sum(len(torch.unique(part)) for part in targets)
    metrics = describe_model(model, trained, calibration, n_targets)
    return model, metrics | {"training": trained.summary}


def _claim(run_dir: Path, base: ModelFolder, data: TuneData, target: str) -> tuple[Path, str]:
    """Return the file that identifies a run folder, and its content for one base and its pairs.

    Returns
    -------
    tuple
        File and content, to be written once the folder has other files.

    Raises
    ------
    DataError
        The folder belongs to another fine-tuning.
    """
    digest = hashlib.sha256(f"{base.version()} {target}".encode())
    parts: tuple[Sequence[BaseModel], ...] = (data.new.train, data.new.val, data.replay, data.old_val)
    for records in parts:
        digest.update(b"part")
        for record in records:
            digest.update(record.model_dump_json().encode())
    file, own = run_dir / "data.sha256", digest.hexdigest()
    if file.is_file() and file.read_text() != own:
        raise DataError(
            f"{run_dir}: holds a fine-tuning of another base or of other pairs; remove that folder, or name another "
            "one with --run-dir"
        )
    return file, own


def _write_recipe(
    run_dir: Path,
    name: str,
    base: ModelFolder,
    data: TuneData,
    settings: TuneConfig,
    card: CardText,
    predicted: tuple[str, str],
) -> str:
    """Write the pairs to files, and a recipe that names these files."""
    files: dict[str, Sequence[BaseModel]] = {
        "train": data.new.train,
        "val": data.new.val,
        "test": data.new.test,
        "replay": data.replay,
        "old_val": data.old_val,
        "old_test": data.old_test,
    }
    names = {part: f"{part}.jsonl.gz" for part, records in files.items() if records}
    for part, file in names.items():
        with whole_file(run_dir / file) as whole, gzip.open(whole, "wt", encoding="utf-8") as lines:
            lines.writelines(record.model_dump_json() + "\n" for record in files[part])
    numbers = settings.model_dump(exclude={"replay", "old_val", "old_test"}, exclude_defaults=True)
    content: dict[str, Any] = {
        "name": name,
        "target": predicted[0],
        "unit": predicted[1],
        **{part: names[part] for part in ("train", "val", "test") if part in names},
        "tune": {**{part: names[part] for part in ("replay", "old_val", "old_test") if part in names}, **numbers},
        "card": card.model_dump(exclude_defaults=True),
    }
    head = f"# cryslator train {RECIPE} --from {base.name} --data DIR, where DIR holds the files named here.\n"
    return head + yaml.safe_dump(content, sort_keys=False)
