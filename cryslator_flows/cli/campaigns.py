"""The commands about campaigns that were started: ``cryslator submit | status | report | export``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Annotated

import typer

from cryslator_flows.system.console import err, note, out, quiet, shown

if TYPE_CHECKING:
    from cryslator_flows.running.started import StartedCampaign
    from cryslator_flows.running.status import CampaignStatus

app = typer.Typer()

Target = Annotated[str, typer.Argument(metavar="NAME_OR_FILE", help="Campaign by name, or its campaign file.")]
Project = Annotated[
    str | None,
    typer.Option(
        "--project", "-p", help="jobflow-remote project that the campaign was submitted to.", show_default=False
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option("--folder", "-f", help="Campaign folder; runs/NAME if left out.", show_default=False),
]


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(help="Campaign file (YAML).")],
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
        bool, typer.Option("--again", help="Submit a campaign once more, under the name NAME-2, NAME-3 and so on.")
    ] = False,
) -> None:
    """Submit a campaign to jobflow-remote.

    Stages are `enumerate`, `translate`, `select`, `relax`, `compare`, `summarize`, and `default` for all of them. What
    the options leave out is taken from the key `jobflow_remote` of the campaign file. A campaign that was submitted
    before is refused, unless `--again` is given. A flow relaxes 500 candidates at most: after the selection the same
    command submits the others.

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
    workers = ", ".join(f"{stage} on {name}" for stage, name in submission.workers.items())
    what = submission.label
    if submission.n_remaining is not None:
        what = f"{submission.n_remaining} more candidates of {submission.label}"
    out.print(f"Submitted {what} to project {opened.name}: {workers}.", soft_wrap=True)
    for remark in submission.notes:
        note("note:", remark)
    out.print(f"Jobs run while the runner does: {opened.command} runner start")
    out.print(f"How far they are: cryslator status {submission.label} --project {opened.name}")


@app.command()
def status(
    target: Target,
    project: Project = None,
    folder: Folder = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Stay, with rates and times to go, until all is finished or stopped.")
    ] = False,
) -> None:
    """Show how far a campaign is: its jobs by stage and state, and what failed.

    Looks at the campaign folder (`--folder`, or runs/NAME if there is one) or at the jobflow-remote project
    (`--project`, else that of the campaign file, else jobflow-remote's own default).

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
        typer.Option("--output", "-o", help="The page; report.html in the campaign folder if left out."),
    ] = None,
) -> None:
    """Report what a campaign found and saved so far, and write its files.

    Looks where `cryslator status` does, and writes `report.html`, a page to look at that needs no network,
    `summary.json`, `candidates.csv`, the relaxed structures as CIF files and a picture of the savings to the campaign
    folder. With the campaign file, which may give `relaxation.element_energies` now, the page holds the predicted
    formation energies against those of the engine.

    Example: `cryslator report my-perovskites`
    """
    quiet()
    from cryslator_flows.running.find import find_campaign
    from cryslator_flows.running.local.folder import STORE_FILE
    from cryslator_flows.system.whole_files import check_output

    with find_campaign(target, project, folder) as started:
        if output is not None:
            check_output(output, Path(target), started.folder / STORE_FILE)
        print_report(started, output)


@app.command()
def export(
    target: Target,
    target_folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write to.")],
    project: Project = None,
    folder: Folder = None,
) -> None:
    """Write what a campaign left as plain files: candidates and relaxations as CSV and JSON, comparisons, CIFs.

    Looks where `cryslator status` does. `relaxations` has a row for each candidate and start; each line of a `.jsonl`
    file is one JSON object, which `pandas.read_json(file, lines=True)` reads, and each line of `comparisons.jsonl` a
    `RelaxationComparison`. `selected` holds the translated structures, `relaxed` the lowest relaxed ones.

    Example: `cryslator export my-perovskites exported/`
    """
    quiet()
    from cryslator_flows.running.find import find_campaign

    with find_campaign(target, project, folder) as started:
        print_export(started, target_folder)


def watch_status(started: StartedCampaign) -> None:
    """Show how far a campaign is until it is finished, stopped or Ctrl-C is pressed; then how to go on with it."""
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
    """Print how far a campaign is, and the commands that run what failed again."""
    from cryslator_flows.running.status import status_report

    status = started.status()
    out.print(status_report(status))
    _print_commands(status)


def _print_commands(status: CampaignStatus) -> None:
    for words, commands in (
        ("Stopped: not finished, and no process runs it. To go on:", [status.go_on] if status.go_on else []),
        ("To run these again:", status.reruns),
        ("To go on without them:", status.skips),
    ):
        if commands:
            out.print(words)
        for command in commands:
            # In one line however long, so that it can be copied.
            out.print(f"  {command}", soft_wrap=True)


def print_report(started: StartedCampaign, output: Path | None = None) -> None:
    """Print the tables of a campaign, write its files and its page, to `output` or to the campaign folder."""
    from cryslator_flows.report.tables import full_report
    from cryslator_flows.report.written import write_all

    status = started.status()
    comparisons = started.results.comparisons()
    summary = started.results.current_summary(comparisons)
    out.print(full_report(summary, comparisons))
    paths = write_all(started, summary, comparisons, status, output)
    for reason in summary.counts.rejected_templates:
        note("rejected", reason)
    for reason in sorted({job.reason for job in status.failed}):
        note("failed:", reason)
    if status.failed:
        err.print(f"Mend that; then run them again, cryslator status {started.label} says how.")
    if unfinished := status.unfinished:
        note("Not finished:", f"{unfinished} jobs wait or run; this is what there is by now.")
    if not any(path.is_relative_to(started.folder) for path in paths):
        words = "cannot be written, or its disk is full; the tables are all, --output writes the page elsewhere"
        note(f"{started.folder}:", words)
    if paths:
        out.print("\nWritten: " + ", ".join(map(shown, paths)))


def print_export(started: StartedCampaign, folder: Path) -> None:
    """Write a campaign as plain files and print their names."""
    from cryslator_flows.results.export import export_campaign

    written = export_campaign(started.results, folder)
    out.print("Written: " + ", ".join(f"{shown(path)} ({number})" for path, number in written.items()))
