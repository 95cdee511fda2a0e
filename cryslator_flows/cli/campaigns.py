"""The commands about started campaigns: ``cryslator submit | status | report | serve | export``."""

from __future__ import annotations

from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Annotated

import typer

from cryslator_flows.cli.planning import CampaignFile, Folder, Project, Target, print_left_out, print_plan_lines
from cryslator_flows.errors import CampaignError
from cryslator_flows.system.console import err, note, out, quiet, several, shown

if TYPE_CHECKING:
    from cryslator_flows.running.started import StartedCampaign
    from cryslator_flows.running.status import CampaignStatus

app = typer.Typer()


@app.command()
def submit(
    file: CampaignFile,
    project: Annotated[
        str | None, typer.Option("--project", "-p", help="jobflow-remote project.", show_default=False)
    ] = None,
    worker: Annotated[
        list[str] | None,
        typer.Option(metavar="STAGE=WORKER", help="Worker of a stage; may be repeated.", show_default=False),
    ] = None,
    exec_config: Annotated[
        list[str] | None,
        typer.Option(metavar="STAGE=NAME", help="Execution configuration of a stage.", show_default=False),
    ] = None,
    priority: Annotated[
        list[str] | None, typer.Option(metavar="STAGE=NUMBER", help="Priority of a stage.", show_default=False)
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Submit a campaign again, under the name NAME-2, NAME-3 and so on.")
    ] = False,
) -> None:
    """Submit a campaign to jobflow-remote.

    Stages are `enumerate`, `translate`, `select`, `potential`, `relax`, `compare`, `learn`, `summarize`, and
    `default` for all of them.
    Missing options are taken from the key `jobflow_remote` of the campaign file. A campaign that was submitted before
    is refused without `--again`. A flow relaxes 500 candidates at most: after the selection the same command submits
    the others.

    Example: `cryslator submit campaign.yaml --project cluster --worker translate=gpu --worker relax=cpu`
    """
    quiet()
    from cryslator_flows.api import Campaign
    from cryslator_flows.running.remote.project import open_project
    from cryslator_flows.running.remote.submit import submit_campaign

    campaign = Campaign.from_file(file)
    settings = campaign.jobflow_remote.with_options(project, worker or (), exec_config or (), priority or ())
    with closing(open_project(settings.project)) as opened:
        submission = submit_campaign(campaign, opened, settings, again)
    if submission.n_remaining is None:
        print_plan_lines(campaign, submission.survey)
    workers = ", ".join(f"{stage} on {name}" for stage, name in submission.workers.items())
    what = submission.label
    if submission.n_remaining is not None:
        what = f"{submission.n_remaining} more candidates of {submission.label}"
    out.print(f"Submitted {what} to project {opened.name}: {workers}.", soft_wrap=True)
    for remark in submission.notes:
        note("note:", remark)
    out.print(f"Jobs run while the runner does: {opened.command} runner start")
    out.print(f"Show their status: cryslator status {submission.label} --project {opened.name}")


@app.command()
def status(
    target: Target,
    project: Project = None,
    folder: Folder = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", "-w", help="Watch, with rates and remaining times, until the campaign is finished or stopped."
        ),
    ] = False,
) -> None:
    """Show the jobs of a campaign by stage and state, planned and spent core-hours, and the failed jobs.

    Reads the campaign folder: `--folder`, or runs/NAME if it exists. Else it reads the jobflow-remote project:
    `--project`, else the project in the campaign file, else jobflow-remote's default.

    Example: `cryslator status my-perovskites`
    """
    quiet()
    from cryslator_flows.running.find import find_campaign

    with find_campaign(target, project, folder) as started:
        if watch:
            watch_status(started)
        else:
            print_status(started)


@app.command()
def report(
    target: Target,
    project: Project = None,
    folder: Folder = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page; default: report.html in the campaign folder."),
    ] = None,
) -> None:
    """Print the results and savings of a campaign so far, and write its files.

    Reads the same place as `cryslator status`. Writes files to the campaign folder: `report.html`, which needs no
    network, `relaxed.csv`, `summary.json`, `candidates.csv`, relaxed structures as CIF files and a picture of the
    savings.

    Formation energies and the hull of relaxed candidates are by the engine. If the campaign relaxed no elements, add
    `relaxation.element_energies` to the campaign file and name this file.

    Example: `cryslator report my-perovskites`
    """
    quiet()
    from cryslator_flows.crystals.source_files import STORE_FILE
    from cryslator_flows.running.find import find_campaign
    from cryslator_flows.system.whole_files import check_output

    with find_campaign(target, project, folder) as started:
        if output is not None:
            check_output(output, Path(target), started.folder / STORE_FILE)
        print_report(started, output)


@app.command()
def serve(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[CAMPAIGN]",
            help="Campaign by name, its file or its folder; or a folder of campaigns. Default: all campaigns in runs.",
            show_default=False,
        ),
    ] = None,
    project: Project = None,
    host: Annotated[
        str, typer.Option(help="Address to serve; 0.0.0.0 lets everybody in your network read the campaigns.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve; 0 for any free one.")] = 8000,
) -> None:
    """Serve the pages of campaigns to a browser; a page refreshes itself while its campaign runs.

    The first page lists all campaigns of a folder, or of a jobflow-remote project with `--project`. It finds
    candidates of all campaigns: by formula, elements, chemical system, template or identifier. The server changes
    nothing, and no running campaign waits for it. It serves this machine alone, unless `--host` says otherwise. Stop
    it with Ctrl-C.

    Examples: `cryslator serve`, `cryslator serve my-perovskites`, `cryslator serve --project cluster`
    """
    quiet()
    from cryslator_flows.serving.campaign_sources import find_source
    from cryslator_flows.serving.server import address_of, make_server, open_socket, run_server

    with open_socket(host, port) as opened, find_source(target, project) as source:
        server = make_server(source, opened)
        try:
            out.print(f"Campaigns of {source.place}: {address_of(opened)} (stop with Ctrl-C)", soft_wrap=True)
            run_server(server, opened)
        except KeyboardInterrupt:
            out.print("Stopped.")


@app.command()
def export(
    target: Target,
    target_folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Folder to write to.", show_default=False)
    ] = None,
    project: Project = None,
    folder: Folder = None,
    entries: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="File for the entries of a phase diagram.", show_default=False),
    ] = None,
) -> None:
    """Write the results of a campaign as plain files: candidates and relaxations as CSV and JSON, comparisons, CIFs.

    Reads the same place as `cryslator status`. `relaxations` has a row for each candidate and start. Each line of a
    `.jsonl` file is one JSON object; read it with `pandas.read_json(file, lines=True, convert_dates=False)`. Each
    line of `comparisons.jsonl` is a `RelaxationComparison`. `relaxed.csv` has the relaxed candidates with their
    energies. `selected` holds the translated structures, `relaxed` the lowest relaxed ones.

    `--entries` writes pymatgen's `ComputedStructureEntry` of each relaxed element and candidate to one JSON file.

    Example: `cryslator export my-perovskites exported/ --entries entries.json`
    """
    quiet()
    from cryslator_flows.crystals.source_files import STORE_FILE
    from cryslator_flows.running.find import find_campaign
    from cryslator_flows.system.whole_files import check_output, writing

    if target_folder is None and entries is None:
        raise typer.BadParameter("give a folder to write to, or a file with --entries", param_hint="FOLDER")
    with find_campaign(target, project, folder) as started:
        if entries is not None:
            if target_folder is not None and entries.parent == target_folder:
                with writing(target_folder):
                    target_folder.mkdir(parents=True, exist_ok=True)
            check_output(entries, Path(target), started.folder / STORE_FILE)
        print_export(started, target_folder, entries)


def watch_status(started: StartedCampaign) -> None:
    """Show the status of a campaign until it is finished or stopped, or until Ctrl-C; then show how to continue."""
    from rich.console import Group
    from rich.live import Live

    from cryslator_flows.running.local.folder import CampaignFolder
    from cryslator_flows.running.progress import WatchedProgress
    from cryslator_flows.running.status import status_report

    pause = 2 if isinstance(started.place, CampaignFolder) else 10
    progress = WatchedProgress()
    try:
        with Live(console=out, auto_refresh=False) as live:
            while True:
                status = started.status()
                progress.add(monotonic(), status)
                live.update(Group(status_report(status), *progress.lines()), refresh=True)
                if status.is_finished or status.go_on:
                    break
                sleep(pause)
    except KeyboardInterrupt:
        pass
    _print_commands(started.status())


def print_status(started: StartedCampaign) -> None:
    """Print the status of a campaign, its core-hours, and the commands that run failed jobs again."""
    from cryslator_flows.report.plan_tables import hours_table
    from cryslator_flows.running.status import status_report

    status = started.status()
    out.print(status_report(status))
    if hours := started.core_hours():
        out.print(hours_table(hours))
    if status.is_finished:
        failed = status.totals["failed"]
        out.print(f"Finished; {several(failed, 'job')} failed." if failed else "Finished.")
        # A campaign without enumerated candidates has no headline.
        with suppress(CampaignError):
            out.print(_headline(started))
    _print_commands(status)


def _headline(started: StartedCampaign) -> str:
    """Return the sentence of the page's headline."""
    from cryslator_flows.report.headline import headline
    from cryslator_flows.report.selected_table import first_selected
    from cryslator_flows.results.relaxed_frame import relaxed_frame

    results, competition = started.results, started.cuts.competition()
    comparisons = results.comparisons()
    summary = results.current_summary(comparisons)
    relaxed = relaxed_frame(comparisons, started.element_energies, competition, results.fetched_phases())
    return headline(summary, relaxed, first_selected(started, summary, comparisons)).sentence


def _print_commands(status: CampaignStatus) -> None:
    for words, commands in (
        ("Stopped: not finished, and no process runs it. To continue:", [status.go_on] if status.go_on else []),
        ("To run these again:", status.reruns),
        ("To continue without them:", status.skips),
    ):
        if commands:
            out.print(words)
        for command in commands:
            # In one line of any length, so that it can be copied.
            out.print(f"  {command}", soft_wrap=True)


def print_report(started: StartedCampaign, output: Path | None = None) -> None:
    """Print the tables of a campaign, write its files and its page, to `output` or to the campaign folder."""
    from cryslator_flows.documents.relaxations import JOB_FAILED
    from cryslator_flows.report.headline import headline
    from cryslator_flows.report.relaxed_results import describe_energies, relaxed_table
    from cryslator_flows.report.selected_table import first_selected, selected_table
    from cryslator_flows.report.tables import full_report, property_rows
    from cryslator_flows.report.written import write_all
    from cryslator_flows.results.relaxed_frame import relaxed_frame

    status = started.status()
    comparisons = started.results.comparisons()
    summary = started.results.current_summary(comparisons)
    fetched = started.results.fetched_phases()
    relaxed = relaxed_frame(comparisons, started.element_energies, started.cuts.competition(), fetched)
    table = relaxed_table(relaxed, describe_energies(summary, comparisons, relaxed, fetched))
    selected = first_selected(started, summary, comparisons)
    if selected is not None:
        table = selected_table(selected, summary.selected)
    out.print(full_report(summary, comparisons, table))
    paths = write_all(started, summary, comparisons, status, relaxed, selected, output)
    print_left_out(summary.counts)
    for reason in sorted({job.reason for job in status.failed}):
        note("failed:", reason)
    errors = (item.error for comparison in comparisons for item in comparison.relaxations if item.structure is None)
    for reason, number in Counter(error for error in errors if error not in (None, JOB_FAILED)).most_common():
        note("no result:", f"{reason}; {number} relaxations")
    for words in status.stops:
        note("stopped:", words)
    if any(lost and not left for _, left, lost in property_rows(summary)):
        parts = (chunk.translated for chunk in started.results.chunks())
        if emptied := started.cuts.emptied_window(parts):
            note("nothing selected:", emptied)
    if status.failed:
        err.print(f"Fix the cause; cryslator status {started.label} shows the commands to run them again.")
    if unfinished := status.unfinished:
        note("Not finished:", f"{unfinished} jobs wait or run; these are the results so far.")
    if not any(path.is_relative_to(started.folder) for path in paths):
        words = "cannot be written, or its disk is full; only tables are shown; write the page elsewhere with --output"
        note(f"{started.folder}:", words)
    if paths:
        out.print("\nWritten: " + ", ".join(map(shown, paths)))
    out.print(f"\n{headline(summary, relaxed, selected).sentence}")


def print_export(started: StartedCampaign, folder: Path | None, entries: Path | None) -> None:
    """Write a campaign as plain files, or its entries, and print their names."""
    from cryslator_flows.results.export import export_campaign, write_entries

    written: dict[Path, int] = {}
    if folder is not None:
        written |= export_campaign(started.results, folder, started.cuts.competition(), started.element_energies)
    if entries is not None:
        written[entries] = write_entries(entries, started.results)
    out.print("Written: " + ", ".join(f"{shown(path)} ({number})" for path, number in written.items()))
