"""The command line: ``cryslator screen | translate | evaluate | train | models``."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from cryslator_flows.defaults import DEFAULT_MODEL
from cryslator_flows.errors import CryslatorError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobflow import Job
    from rich.progress import Progress, TaskID

    from cryslator_flows.campaign.local import Happening
    from cryslator_flows.translator.evaluate import Evaluation
    from cryslator_flows.translator.fit import Progress as FitProgress

MODEL_HELP = "Model by name (see `cryslator models`) or by its folder."

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Screen substituted crystals: enumerate, translate in one shot, select, relax, measure what it saved.",
)
out = Console()
err = Console(stderr=True)


def main() -> None:
    """Run the command line; an error that the user can mend is one line and exit code 2."""
    try:
        app()
    except CryslatorError as error:
        err.print(f"[bold red]Error:[/] {_plain(str(error))}", soft_wrap=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(0)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


@contextmanager
def _progress() -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, TextColumn("{task.fields[note]}", style="dim"), console=err) as progress:
        yield progress


class _Stages:
    """Progress bars of a campaign, one for each stage."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        stages = ("enumerate", "translate", "select", "relax", "compare", "summarize")
        self.bars = {stage: progress.add_task(stage, total=0, note="", visible=False) for stage in stages}

    def __call__(self, happening: Happening, job: Job) -> None:
        if job.name == "store_inputs":
            return
        stage = "relax" if "start" in job.metadata else job.name.split()[0]
        bar = self.bars[stage]
        if happening == "queued":
            task = self.progress.tasks[self.progress.task_ids.index(bar)]
            self.progress.update(bar, total=(task.total or 0) + 1, visible=True)
        elif happening == "started":
            self.progress.update(bar, note=job.name)
        else:
            self.progress.update(bar, advance=1, note="")
        if happening == "failed":
            note = " (recorded; the campaign goes on)" if "candidate_id" in job.metadata else ""
            self.progress.console.print(f"[yellow]failed:[/] {_plain(job.name)}{note}")


@app.command()
def screen(
    file: Annotated[Path, typer.Argument(help="Campaign file (YAML).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Campaign folder; runs/NAME if left out.", show_default=False)
    ] = None,
) -> None:
    """Run a campaign on this machine.

    Enumerates the substitutions of the templates, translates every candidate, selects the most stable ones, relaxes
    them and measures the steps that translation saved. Stop it at any time, with Ctrl-C or otherwise: the same
    command goes on where it stopped, and what was finished is not done again.

    The campaign folder holds the store (`campaign.sqlite`), `summary.json`, `candidates.csv`, the relaxed structures
    as CIF files and a picture of the savings.

    Example: `cryslator screen workflows/mn-oxides-laptop.yaml`
    """
    # Small cells gain nothing from more threads, and threads that wait for each other can cost a factor of 30.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _quiet()
    from cryslator_flows.campaign.file import Campaign
    from cryslator_flows.campaign.report import full_report, write_files
    from cryslator_flows.campaign.run import CampaignRun

    campaign = Campaign.from_file(file)
    run = CampaignRun(campaign, output or Path("runs") / campaign.name)
    try:
        with _progress() as progress:
            summary = run.run(_Stages(progress))
    except KeyboardInterrupt:
        err.print("Stopped. The same command goes on from here.")
        raise typer.Exit(130) from None
    comparisons = run.comparisons()
    paths = write_files(run.folder, summary, comparisons, run.chunks())
    out.print(full_report(summary, comparisons))
    for reason in summary.counts.rejected_templates:
        err.print(f"[yellow]rejected[/] {_plain(reason)}", soft_wrap=True)
    for reason in sorted(set(run.failures.values())):
        err.print(f"[yellow]failed relaxation:[/] {_plain(reason)}")
    out.print("\nWritten: " + ", ".join(_shown(path) for path in [run.folder / "campaign.sqlite", *paths]))


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _quiet() -> None:
    """Keep the packages underneath from talking into the progress bars."""
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.getLogger("jobflow").setLevel(logging.ERROR)


@app.command()
def translate(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", help="Structure file, folder of them, or .jsonl[.gz] of Structure.as_dict()."),
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="File to write, one line for each input.")],
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = DEFAULT_MODEL,
) -> None:
    """Translate structures into near-relaxed ones.

    Writes one JSON line for each input, in order, with `source`, `structure`, `formation_energy_per_atom` and
    `formation_energy_uncertainty` in eV/atom, and what else the translator says; or with `source` and `error` for an
    input that cannot be translated. The exit code is 2 only if not a single input could be.

    Example: `cryslator translate candidates/ translated.jsonl`
    """
    _quiet()
    from cryslator_flows.crystals.files import read_structures
    from cryslator_flows.errors import StoreError, StructureError
    from cryslator_flows.translator.translator import Translator

    translator = Translator.from_pretrained(model)
    partial = target.with_name(target.name + ".partial")
    done = failed = 0
    last = ""
    rows = read_structures(source)
    try:
        with partial.open("w") as lines, _progress() as progress:
            bar = progress.add_task("translate", total=None, note="")
            for name, result in translator.translate_labelled(
                (row.source, row.structure or StructureError(row.error or "unreadable")) for row in rows
            ):
                content: dict[str, Any] = {"source": name}
                if isinstance(result, StructureError):
                    failed += 1
                    last = str(result)
                    content["error"] = last
                else:
                    fields = result.model_dump(exclude={"candidate_id", "structure"})
                    content |= {"structure": result.structure.as_dict(), **fields}
                lines.write(json.dumps(content) + "\n")
                done += 1
                progress.update(bar, advance=1)
            progress.update(bar, total=done)
        partial.replace(target)
    except OSError as error:
        raise StoreError(f"{target}: cannot be written ({error.strerror}); choose another path") from error
    if failed == done:
        if done > 1:
            last = f"{source}: none of {done} structures could be translated, the last one because: {last}"
        raise StructureError(last or f"{source}: no structure in it; give structures as lines of Structure.as_dict()")
    out.print(f"{done - failed} translated, {failed} failed: {target}")
    if failed:
        err.print(f"[yellow]last error:[/] {_plain(last)}")


@app.command()
def evaluate(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS.jsonl[.gz]", help="Pairs of unrelaxed and relaxed crystals.")],
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = DEFAULT_MODEL,
    output: Annotated[Path | None, typer.Option("--json", help="Write the scores to this JSON file as well.")] = None,
) -> None:
    """Score a model on pairs of unrelaxed and relaxed crystals.

    Translates the first pair of every target and prints, beside the input copied and the input scaled to volumes of
    the elements: the volume error, the displacement (minimum image, drift removed, mean over atoms), the share that
    StructureMatcher finds equal to the relaxed crystal with loose (0.2/0.3/5, scaled) and strict (0.05/0.1/2, not
    scaled) tolerances, the share that has
    no fewer symmetry operations than the input (symprec 0.001), and the error of the formation energy.

    A line of the file holds `target`, `species`, `unrelaxed` and `relaxed` (each `lattice`, rows in angstrom, and
    `frac`) and, where known, `formation_energy_per_atom` of the relaxed crystal.

    Example: `cryslator evaluate pairs.jsonl.gz --json scores.json`
    """
    _quiet()
    from cryslator_flows.errors import StoreError
    from cryslator_flows.translator.evaluate import evaluate as score
    from cryslator_flows.translator.records import PairRecord, read_records
    from cryslator_flows.translator.translator import Translator

    translator = Translator.from_pretrained(model)
    with _progress() as progress:
        bars: dict[str, TaskID] = {}

        def advance(name: str, done: int, total: int) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name, total=total, note="")
            progress.update(bars[name], completed=done)

        result = score(translator, read_records(pairs, PairRecord), advance)
    _print_evaluation(result)
    if output is not None:
        try:
            output.write_text(result.model_dump_json(indent=2) + "\n")
        except OSError as error:
            raise StoreError(f"{output}: cannot be written ({error.strerror}); choose another path") from error


def _print_evaluation(result: Evaluation) -> None:
    from rich import box
    from rich.table import Table

    title = f"{result.n_targets} targets, from the unrelaxed structure"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True)
    for name in ("structure", "volume error", "displace-\nment (A)", "loose match", "strict match", "symmetry kept"):
        table.add_column(name, justify="left" if name == "structure" else "right", no_wrap=name == "structure")
    for name, row in result.structures.items():
        shares = (f"{value:.1%}" for value in (row.loose_match, row.strict_match, row.symmetry_kept))
        table.add_row(name, f"{row.volume_error:.2%}", f"{row.displacement:.3f}", *shares)
    out.print(table)
    if result.energy_mae is not None and result.energy_coverage is not None:
        out.print(
            f"Formation energy: MAE {result.energy_mae:.4f} eV/atom over {result.n_energies} targets; "
            f"{result.energy_coverage:.0%} within the 68 % uncertainty."
        )


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to train from, and how.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Model folder; models/NAME if left out.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder that paths in the recipe count from; the recipe's if left out.", show_default=False),
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Folder of checkpoints; runs/train-NAME if left out.", show_default=False)
    ] = None,
) -> None:
    """Train a model from a recipe.

    Prepares one tensor file from the recipe's pairs, fits the network until the recipe's epochs or minutes are spent,
    and writes the model folder with its card. Stop it at any time: the same command goes on from the last epoch.

    The fit alone also runs on a machine that has nothing but torch and numpy:
    `python -m cryslator_flows.translator.fit RUN_DIR/prepared.npz RUN_DIR`; bring the folder back and run this
    command again to write the model.

    Example: `cryslator train models/cryslator-oxides/recipe.yaml --data pairs/`
    """
    _quiet()
    from cryslator_flows.translator.fit import describe
    from cryslator_flows.translator.recipe import Recipe
    from cryslator_flows.translator.train import train as run_training

    content = Recipe.from_file(recipe, data)
    folder = output or Path("models") / content.name
    work = run_dir or Path("runs") / f"train-{content.name}"
    with _progress() as progress:
        bar = progress.add_task("fit", total=100, note="preparing")

        def report(epoch: FitProgress) -> None:
            progress.console.print(describe(epoch), highlight=False)

        def report_step(done: float) -> None:
            progress.update(bar, completed=round(100 * done), note="")

        try:
            model = run_training(content, recipe, folder, work, report, report_step)
        except KeyboardInterrupt:
            err.print("Stopped. The same command goes on from the last epoch.")
            raise typer.Exit(130) from None
    out.print(f"Written: {model.path}")


@app.command()
def models() -> None:
    """List the models that can be used by name, where they are and how they score."""
    from rich.table import Table

    from cryslator_flows.translator.pretrained import list_models

    table = Table()
    for name in ("model", "version", "elements", "energy MAE (eV/atom)", "volume error", "folder"):
        table.add_column(name, no_wrap=name == "model")
    for name, folder in list_models().items():
        test = folder.metrics().get("test") or {}
        row = test.get("structures", {}).get(name, {})
        mae, volume = test.get("energy_mae"), row.get("volume_error")
        table.add_row(
            name,
            folder.version(),
            str(len(folder.config().elements)),
            "-" if mae is None else f"{mae:.3f}",
            "-" if volume is None else f"{volume:.1%}",
            _shown(folder.path),
        )
    out.print(table)


if __name__ == "__main__":
    main()
