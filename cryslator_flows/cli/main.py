"""The command line: ``cryslator screen | translate``, and the commands about campaigns and models."""

from __future__ import annotations

import getpass
import os
import sys
from collections import Counter
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cryslator_flows.cli.campaigns import app as campaigns_app
from cryslator_flows.cli.campaigns import print_report
from cryslator_flows.cli.models import app as models_app
from cryslator_flows.cli.planning import CampaignFile, Output, print_plan_lines, show_plan
from cryslator_flows.cli.planning import app as planning_app
from cryslator_flows.cli.structure_types import app as types_app
from cryslator_flows.cli.training_pairs import app as pairs_app
from cryslator_flows.errors import CryslatorError, PreflightError
from cryslator_flows.system.console import MODEL_HELP, err, new_table, note, out, progress_bars, quiet
from cryslator_flows.translator.default_model import DEFAULT_MODEL


class _Commands(TyperGroup):
    """The group of commands, which prints a line when a command is stopped."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            err.print("Stopped. Run the same command to repeat it.")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Screen substituted crystals: enumerate, translate in one shot, select, relax, measure the saving.",
)
app.add_typer(planning_app)
app.add_typer(campaigns_app)
app.add_typer(models_app)
app.add_typer(pairs_app)
app.add_typer(types_app)


def main() -> None:
    """Run the command line; an error that the user can fix gives one line and exit code 2."""
    _prepare_process()
    try:
        app()
    except PreflightError as error:
        *others, last = error.findings
        for finding in others:
            _print_error(finding)
        _fail(last)
    except CryslatorError as error:
        _fail(str(error))
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except Exception as error:
        from cryslator_flows.settings import foreign_settings_mistake

        mistake = foreign_settings_mistake(error)
        if mistake is None:
            raise
        _fail(str(mistake))


def _fail(message: str) -> None:
    _print_error(message)
    sys.exit(2)


def _print_error(message: str) -> None:
    note("Error:", message.replace("\n", r"\n"), "bold red")


def _prepare_process() -> None:
    """Make a terminal show escapes for characters that it lacks, and give a user without an account a home."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        Path.home()
        getpass.getuser()
    except (KeyError, OSError, RuntimeError):
        # As in containers; jobflow reads its settings from there.
        os.environ.setdefault("HOME", "/")
        os.environ.setdefault("USER", str(os.getuid()))


@app.command()
def screen(
    file: CampaignFile,
    output: Output = None,
    rerun_failed: Annotated[bool, typer.Option("--rerun-failed", help="Run failed relaxations again.")] = False,
    reuse: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of another campaign, whose relaxations are reused; may be repeated.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and what is missing, as `cryslator plan`; run nothing.")
    ] = False,
) -> None:
    """Run a campaign on this machine.

    First it checks what the campaign needs here, see `cryslator plan`, and reports all that is missing at once.

    Enumerates the substitutions of the templates, translates every candidate, selects the most stable ones, relaxes
    them and measures the steps that translation saved. Stop it at any time, with Ctrl-C or otherwise: the same
    command continues where it stopped, and finished jobs do not run again.

    The campaign folder holds the page `report.html`, the store (`campaign.sqlite`), `summary.json`,
    `candidates.csv`, `relaxed.csv` with formation energies and energies above the hull after relaxation, the relaxed
    structures as CIF files and a picture of the savings. The exit code is 1 if no relaxation converged.

    A folder of structures instead of a campaign file is screened as it is, with the default settings: without
    substitutions, all candidates translated, the best 10 relaxed with CHGNet.

    Examples: `cryslator screen workflows/mn-oxides-laptop.yaml`, `cryslator screen structures/`
    """
    # Small cells gain nothing from more threads, and waiting threads can cost a factor of 30.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    quiet()
    from cryslator_flows.api import Campaign
    from cryslator_flows.running.local.run import CampaignRun, job_bars
    from cryslator_flows.running.started import StartedCampaign

    campaign = Campaign.from_file(file)
    run = CampaignRun(campaign, output or Path("runs") / campaign.name, reuse or ())
    if dry_run:
        show_plan(campaign, run.folder.path)
        return
    is_new = not run.folder.exists
    for remark in run.check():
        note("note:", remark)
    if is_new:
        print_plan_lines(campaign, run.survey)
    try:
        with job_bars(by_stage=True) as report:
            summary = run.run(report, rerun_failed)
    except KeyboardInterrupt:
        err.print("Stopped. Run the same command to continue from here.")
        raise typer.Exit(130) from None
    with run.folder.opened() as folder:
        print_report(StartedCampaign(campaign.name, folder.path, folder, campaign.element_energies))
    if campaign.relaxation is not None and summary.selected and not summary.relaxed:
        err.print("No relaxation converged.")
        raise typer.Exit(1)


@app.command()
def translate(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="Structure file, also of several structures, folder, or .jsonl[.gz] of Structure.as_dict().",
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="OUT", help="File .jsonl, .cif, .extxyz or .xyz, also .gz; folder of POSCAR files; or -."
        ),
    ],
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = DEFAULT_MODEL,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUT if it is a file, or a folder that this command wrote.")
    ] = False,
) -> None:
    """Translate structures into near-relaxed structures.

    The ending of OUT decides the format. `.jsonl` and standard output (`-`) get one JSON line for each input, in order.
    It holds `source`, `structure`, `formation_energy_per_atom` and `formation_energy_uncertainty` in eV/atom, and the
    translator's other fields. For an input that cannot be translated it holds `source` and `error`. `.cif` gets a data
    block for each translation, `.extxyz` a frame with all fields. A name without an ending is a folder: it gets a
    folder with a POSCAR for each translation, and `translated.csv`. Then a table counts crystals out of domain,
    crystals with atoms too close, and failures by reason.

    A file of several structures gives all of them. The exit code is 1 if some inputs could not be translated, and 2 if
    none could. OUT appears when all is written; a stopped run leaves nothing. If it exists, `--overwrite` replaces it.

    Examples: `cryslator translate candidates/ translated.jsonl`, `cryslator translate candidates.cif poscars/`
    """
    quiet()
    from cryslator_flows.crystals.files import read_structures
    from cryslator_flows.errors import StructureError
    from cryslator_flows.results.written_translations import TranslationOutput
    from cryslator_flows.translator.translator import Translator

    output = TranslationOutput(target, overwrite)
    output.check(source)
    translator = Translator.from_pretrained(model)
    done = too_close = 0
    causes, outside = Counter[str](), Counter[str]()
    last = ""
    try:
        with output.opened() as write, progress_bars() as progress:
            bar = progress.add_task("translate", total=None, note="")
            for name, result in translator.translate_labelled(read_structures(source, written=output.path)):
                if isinstance(result, StructureError):
                    causes[result.cause] += 1
                    last = str(result)
                    if not output.has_errors:
                        note("failed:", last)
                else:
                    too_close += result.atoms_too_close
                    if result.out_of_domain:
                        outside[result.domain_reason] += 1
                write(name, result)
                done += 1
                progress.update(bar, advance=1)
            progress.update(bar, total=done)
            if not done:
                raise StructureError(f"{source}: no structure in it; give structures as lines of Structure.as_dict()")
            failed = causes.total()
            if failed == done > 1:
                last = f"{source}: none of {done} structures could be translated; reason of the last one: {last}"
            if failed == done and not output.has_errors:
                raise StructureError(last)
    except KeyboardInterrupt:
        err.print(f"Stopped after {done} structures. Nothing was written; run the same command to restart.")
        raise typer.Exit(130) from None
    if failed == done:
        raise StructureError(last)
    console = err if output.is_stdout else out
    console.print(f"{done - failed} translated, {failed} failed: {'standard output' if output.is_stdout else target}")
    table = new_table("", "", ">structures", "reason")
    for what, reasons in (("out of domain", outside), ("atoms too close", {"": too_close}), ("failed", causes)):
        for reason, number in Counter(reasons).most_common():
            if number:
                table.add_row(what, str(number), reason)
    if table.rows:
        console.print(table)
    if failed:
        if output.has_errors:
            note("failed:", last if failed == 1 else f"the last one: {last}")
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
