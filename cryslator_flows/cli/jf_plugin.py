"""The commands ``jf cryslator status | report | export`` of jobflow-remote's command line.

jobflow-remote finds this module by the entry point group ``jobflow_remote.plugins``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cryslator_flows.system.console import quiet, visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryslator_flows.running.started import StartedCampaign

Label = Annotated[str, typer.Argument(metavar="NAME", help="Name of the campaign from `cryslator submit`.")]


def setup_jf_plugin() -> None:
    """Add the commands to ``jf``; jobflow-remote calls this once, and again for each ``jf plugin list``."""
    from jobflow_remote.cli.jf import app
    from jobflow_remote.cli.jfr_typer import JFRTyper

    # Jobs run under this command line too. They may read templates from a store that only its class names.
    import cryslator_flows.system.sqlite_store  # noqa: F401

    if any(group.name == "cryslator" for group in app.registered_groups):
        return
    commands = JFRTyper(name="cryslator", help="Screening campaigns of cryslator-flows", no_args_is_help=True)
    for command in (status, report, export):
        commands.command()(command)
    app.add_typer(commands)


def status(name: Label) -> None:
    """Show the jobs of a campaign by stage and state, and the failed jobs."""
    from cryslator_flows.cli.campaigns import print_status

    _with_campaign(name, None, print_status)


def report(
    name: Label,
    folder: Annotated[
        Path | None, typer.Option("--folder", "-f", help="Folder for its files; default: runs/NAME.")
    ] = None,
) -> None:
    """Print the results and savings of a campaign so far, and write its files."""
    from cryslator_flows.cli.campaigns import print_report

    _with_campaign(name, folder, print_report)


def export(
    name: Label,
    folder: Annotated[Path, typer.Argument(help="Folder to write to.")],
    entries: Annotated[Path | None, typer.Option(help="File for the entries of a phase diagram.")] = None,
) -> None:
    """Write the results of a campaign as plain files."""
    from cryslator_flows.cli.campaigns import print_export

    _with_campaign(name, None, lambda started: print_export(started, folder, entries))


def _with_campaign(label: str, folder: Path | None, act: Callable[[StartedCampaign], None]) -> None:
    """Act on a campaign of the project that ``jf -p`` selected; print an error that the user can fix as one line."""
    from jobflow_remote.cli.utils import exit_with_error_msg, get_config_manager

    from cryslator_flows.errors import CryslatorError
    from cryslator_flows.running.find import find_campaign

    quiet()
    try:
        project = get_config_manager().select_project_name()
        with find_campaign(label, project, folder) as started:
            act(started)
    except CryslatorError as error:
        exit_with_error_msg(visible(str(error)), code=2, markup=False)
