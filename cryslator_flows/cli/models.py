"""Commands about models: ``cryslator evaluate | train | calibrate | map | models``."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryslator_flows.system.console import MODEL_HELP, err, main_reasons, out, progress_bars, quiet, shown
from cryslator_flows.system.whole_files import check_output, write_whole
from cryslator_flows.translator.default_model import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress, TaskID

    from cryslator_flows.training.evaluate import Evaluation
    from cryslator_flows.training.fit_settings import Progress as FitProgress
    from cryslator_flows.training.records import PairRecord
    from cryslator_flows.training.reference_stages import StageProgress
    from cryslator_flows.translator.model_folder import ModelFolder

    Report = Callable[[FitProgress | StageProgress], None]


app = typer.Typer()

PairsFile = Annotated[Path, typer.Argument(metavar="PAIRS.jsonl[.gz]", help="Pairs of unrelaxed and relaxed crystals.")]


@app.command()
def evaluate(
    pairs: PairsFile,
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = DEFAULT_MODEL,
    everything: Annotated[
        bool, typer.Option("--all", help="Score all installed models of the same target, on all three kinds of input.")
    ] = False,
    output: Annotated[Path | None, typer.Option("--json", help="Write the scores to this JSON file too.")] = None,
) -> None:
    """Score a model on pairs of unrelaxed and relaxed crystals.

    Translates the first pair of every target. Two baselines are the unchanged input, and the input scaled to volumes
    of the elements. Prints the error of the formation energy, the volume error, and the displacement (minimum image,
    drift removed, mean over atoms). Prints the share that StructureMatcher finds equal to the relaxed crystal, with
    loose (0.2/0.3/5, scaled) and strict (0.05/0.1/2, not scaled) tolerances. Prints the share with at least as many
    symmetry operations as the input (symprec 0.001). X-Mn-O targets have separate scores too.

    With `--all`, inputs are the unrelaxed, an intermediate and the relaxed structure, as in the paper's Figure 2. The
    intermediate is a random point between unrelaxed and relaxed, with noise, the same in every run.

    A line of the file holds `target`, `species`, `unrelaxed` and `relaxed`, each with `lattice` (rows in angstrom)
    and `frac`. If known, it holds `formation_energy_per_atom` of the relaxed crystal (eV/atom).

    Example: `cryslator evaluate pairs.jsonl.gz --json scores.json`
    """
    quiet()
    import json

    from cryslator_flows.training.evaluate import INPUTS
    from cryslator_flows.training.evaluate import evaluate as score
    from cryslator_flows.translator.loaded import LoadedModel
    from cryslator_flows.translator.model_folder import find_model, list_models

    if output is not None:
        check_output(output, pairs)
    records = _read_pairs(pairs)
    chosen = LoadedModel(find_model(model))
    models = [chosen]
    if everything:
        others = (LoadedModel(folder) for folder in list_models().values())
        models += [
            other for other in others if other.config.target == chosen.config.target and other.version != chosen.version
        ]
    with progress_bars() as progress:
        inputs = INPUTS if everything else INPUTS[:1]
        result = score(models, records, inputs, _bar_per_name(progress))
    for part in result:
        _print_evaluation(part, chosen.config.name, chosen.config.unit)
    if output is not None:
        write_whole(output, json.dumps([part.model_dump() for part in result], indent=2) + "\n")


def _read_pairs(path: Path) -> list[PairRecord]:
    """Read the pairs of a file; a file without pairs is an error."""
    from cryslator_flows.errors import DataError
    from cryslator_flows.training.records import PairRecord, read_records

    records = list(read_records(path, PairRecord))
    if not records:
        raise DataError(f"{path}: no pairs in it; give a file with at least one")
    return records


def _print_evaluation(result: Evaluation, model: str, unit: str) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = f"{result.chemistry}: {result.n_targets} targets, {result.n_energies} with a known energy"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True)
    names = ("method", f"MAE\n({unit})", "volume\nerror", "displace-\nment (A)", "loose\nmatch", "strict\nmatch")
    for name in (*names, "symmetry\nkept"):
        table.add_column(name, justify="left" if name == "method" else "right", no_wrap=name == "method")
    kind = None
    for score in result.scores:
        if score.input != kind:
            kind = score.input
            table.add_section()
            table.add_row(Text(f"{kind} input", "bold"))
        cells = ["" if score.energy_mae is None else f"{score.energy_mae:.4f}"]
        if (row := score.structure) is not None:
            shares = (f"{value:.1%}" for value in (row.loose_match, row.strict_match, row.symmetry_kept))
            cells += [f"{row.volume_error:.2%}", f"{row.displacement:.3f}", *shares]
        table.add_row(score.method, *cells)
    out.print(table)
    uncertainty = result.score(model).uncertainty
    if uncertainty is not None:
        reasons = _main_reasons(uncertainty.reasons)
        out.print(
            f"{model}, unrelaxed input: {uncertainty.coverage_68:.1%} within the 68 % interval, "
            f"{uncertainty.coverage_90:.1%} within the 90 % interval, {uncertainty.out_of_domain:.1%} out of domain"
            f"{reasons and f' ({reasons})'}.\n"
        )


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="Pairs and settings of the training.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Model folder; default: models/NAME.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of relative paths in the recipe; default: the recipe's folder.", show_default=False),
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Folder of checkpoints; default: runs/train-NAME.", show_default=False)
    ] = None,
    base: Annotated[
        str | None,
        typer.Option("--from", help="Fine-tune this model, by name or folder, on the pairs.", show_default=False),
    ] = None,
) -> None:
    """Train a model from a recipe, or fine-tune one.

    Prepares one tensor file from the recipe's pairs and fits the network for the recipe's epochs. Then calibrates its
    uncertainty on the validation pairs, and writes the model folder with its card. Stop it at any time: the same
    command continues from there. An existing model stays until the new one is whole. A training line that holds a
    crystal of the validation or test pairs is an error.

    The field `target` of a recipe names another column of the pairs to predict in place of the formation energy.
    The field `reference` trains the system of the paper.

    The fit alone also runs on a machine with only torch and numpy:
    `python -m cryslator_flows.training.fit RUN_DIR/prepared.npz RUN_DIR`. For the paper's system use
    `cryslator_flows.training.reference_fit`. Move the folder back and run this command again to write the model.

    With `--from`, the new model starts from the weights and the network of another model. The settings are under
    `tune` in the recipe. Old pairs (`replay`) keep old knowledge. The card compares both models on new and on old test
    pairs. A recipe with another `target` and its `unit` makes a model of this property from the same weights.

    Example: `cryslator train models/cryslator-universal/recipe.yaml --data pairs/`, or
    `cryslator train own.yaml --from cryslator-universal`
    """
    quiet()
    from cryslator_flows.errors import DataError
    from cryslator_flows.training.recipe import Recipe
    from cryslator_flows.training.train import train as run_training
    from cryslator_flows.training.tune import tune_by_recipe
    from cryslator_flows.translator.model_folder import find_model

    content = Recipe.from_file(recipe, data)
    folder = output or Path("models") / content.name
    work = run_dir or Path("runs") / f"train-{content.name}"
    if base is None and "tune" in content.model_fields_set:
        raise DataError(
            f"{recipe}, tune: for fine-tuning alone; name the model to start from with --from, or remove the key"
        )
    with _fit_bar() as (report, report_step, progress):
        files = content, recipe, folder, work
        reports = report, report_step, _bar_per_name(progress)
        model = run_training(*files, *reports) if base is None else tune_by_recipe(find_model(base), *files, *reports)
    out.print(f"Written: {model.path}")


@app.command()
def calibrate(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    data: Annotated[Path, typer.Option(help="Folder of the files that the model's recipe names.")],
) -> None:
    """Fit uncertainty and domain of a model again on its validation pairs; the weights stay.

    Needs the pairs of the recipe. Writes the calibration, scores energies and intervals on the test pairs, and writes
    the card. Use it for models of an older version of this software.

    Example: `cryslator calibrate models/own --data pairs/`
    """
    quiet()
    from cryslator_flows.training.calibrate_model import calibrate_model
    from cryslator_flows.training.recipe import Recipe
    from cryslator_flows.translator.model_folder import RECIPE, find_model

    found = find_model(model)
    with err.status("calibration"):
        written = calibrate_model(found, Recipe.from_file(found.path / RECIPE, data))
    out.print(f"Written: {shown(written.path)}, version {written.version()}")


@app.command(name="map")
def draw_map(
    pairs: PairsFile,
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = DEFAULT_MODEL,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for picture and numbers; default: the model's folder.", show_default=False
        ),
    ] = None,
) -> None:
    """Draw crystal features before and after translation, by t-SNE, as in the paper's Figure 3.

    Writes `feature-map.png` and `feature-map.json`; in a model's folder also a new card.

    Example: `cryslator map pairs.jsonl.gz -o .`
    """
    quiet()
    from cryslator_flows.training.card import model_card
    from cryslator_flows.training.feature_map import draw_feature_map
    from cryslator_flows.training.recipe import Recipe
    from cryslator_flows.translator.loaded import LoadedModel
    from cryslator_flows.translator.model_folder import CARD, RECIPE, find_model

    found, records = find_model(model), _read_pairs(pairs)
    folder = output or found.path
    with err.status("t-SNE"):
        numbers = draw_feature_map(LoadedModel(found), records, folder)
    for name, value in numbers.items():
        out.print(f"{name}: {value if isinstance(value, int | str) else round(value, 3)}", highlight=False)
    if output is None:
        write_whole(folder / CARD, model_card(folder, Recipe.from_file(folder / RECIPE).card))
    out.print(f"Written: {shown(folder / 'feature-map.png')}")


@app.command()
def models() -> None:
    """List the models that can be used by name, with their scores, versions and folders.

    `out of domain` is the share of the test crystals that `out_of_domain` flags, with the main reasons.
    """
    from rich.table import Table

    from cryslator_flows.errors import ModelError
    from cryslator_flows.translator.model_folder import list_models

    table, lines, damaged = Table(box=None), list[str](), list[str]()
    for name in ("model", "elements", "MAE", "volume error", "out of domain"):
        table.add_column(name, overflow="fold", no_wrap=name in ("model", "elements"))
    for name, folder in list_models().items():
        try:
            version, *cells, reasons = _describe(name, folder)
            table.add_row(name, *cells)
            domain = reasons and f"; out of domain: {reasons}"
            lines.append(f"{name}, version {version}: {shown(folder.path)}{domain}")
        except ModelError as error:
            damaged.append(str(error))
    out.print(table)
    for line in lines:
        out.print(line, soft_wrap=True)
    for reason in damaged:
        err.print(f"left out: {reason}", soft_wrap=True)


def _main_reasons(shares: dict[str, float]) -> str:
    """Return the main reasons out of domain with their shares; empty without any."""
    return main_reasons(shares, "{:.1%}") if shares else ""


def _describe(name: str, folder: ModelFolder) -> tuple[str, ...]:
    """Return version, number of elements and scores of a model, then the main reasons out of domain."""
    from cryslator_flows.errors import ModelError
    from cryslator_flows.translator.model_folder import FORMATION_ENERGY, METRICS

    config, version, metrics = folder.config(), folder.version(), folder.metrics()
    try:
        tested = (metrics.get("test") or [{"scores": []}])[0]["scores"]
        score: dict[str, Any] = next(
            (row for row in tested if (row["method"], row["input"]) == (name, "unrelaxed")), {}
        )
        what = "" if config.target == FORMATION_ENERGY else f", {config.target}"
        domain = score.get("uncertainty")
        mae, volume = score.get("energy_mae"), (score.get("structure") or {}).get("volume_error")
        return (
            version,
            str(len(config.elements)),
            "-" if mae is None else f"{mae:.3f} {config.unit}{what}",
            "-" if volume is None else f"{volume:.1%}",
            "-" if domain is None else f"{domain['out_of_domain']:.1%}",
            "" if domain is None else _main_reasons(domain["reasons"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelError(
            f"{folder.path / METRICS}, test: no scores of `cryslator train`; train the model again"
        ) from error


@contextmanager
def _fit_bar() -> Iterator[tuple[Report, Callable[[float], None], Progress]]:
    """Show the progress of a fit: a line for every epoch, and a bar if steps report their progress."""
    with progress_bars() as progress:
        bar = progress.add_task("fit", total=100, note="preparing")

        def report(epoch: FitProgress | StageProgress) -> None:
            progress.console.print(epoch.describe(), highlight=False, markup=False)
            progress.update(bar, completed=round(100 * epoch.done), note="")

        def report_step(done: float) -> None:
            progress.update(bar, completed=round(100 * done), note="")

        try:
            yield report, report_step, progress
        except KeyboardInterrupt:
            err.print("Stopped. Run the same command to continue from the last checkpoint.")
            raise typer.Exit(130) from None


def _bar_per_name(progress: Progress) -> Callable[[str, int, int], None]:
    """Return a function that shows the progress of `evaluate`: a bar for each method and input."""
    bars: dict[str, TaskID] = {}

    def advance(name: str, done: int, total: int) -> None:
        if name not in bars:
            bars[name] = progress.add_task(name, total=total, note="")
        progress.update(bars[name], completed=done)

    return advance
