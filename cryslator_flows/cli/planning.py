"""The commands before a campaign relaxes anything: ``cryslator plan``, and the plan of ``cryslator screen``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cryslator_flows.system.console import note, out, progress_bars, quiet, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryslator_flows.campaign.file import CampaignSettings
    from cryslator_flows.campaign.plan import Plan
    from cryslator_flows.campaign.preflight import Finding
    from cryslator_flows.campaign.survey import Survey
    from cryslator_flows.documents.candidates import EnumerationCounts

# Rejected templates and duplicates that are printed.
SHOWN_REASONS = 20

app = typer.Typer()

CampaignFile = Annotated[
    Path, typer.Argument(help="Campaign file (YAML), or a folder of structures to screen as they are.")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Campaign folder; default: runs/NAME.", show_default=False)
]
Target = Annotated[str, typer.Argument(metavar="NAME_OR_FILE", help="Campaign by name, or its campaign file.")]
Project = Annotated[
    str | None,
    typer.Option("--project", "-p", help="jobflow-remote project of the campaign.", show_default=False),
]
Folder = Annotated[
    Path | None,
    typer.Option("--folder", "-f", help="Campaign folder; default: runs/NAME.", show_default=False),
]


@app.command()
def plan(
    file: CampaignFile,
    output: Output = None,
    project: Annotated[
        str | None,
        typer.Option("--project", "-p", help="Check for `cryslator submit` to this project.", show_default=False),
    ] = None,
    hours_per_relaxation: Annotated[
        float | None,
        typer.Option(min=0, help="Core-hours of one relaxation, for the estimate.", show_default=False),
    ] = None,
    earlier: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of an earlier campaign with the same relax maker, for the estimate; may be repeated. "
            "Default: all beside the campaign folder.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show what a campaign will do and cost, and check what it needs. Nothing is written.

    Enumerates the candidates for real and translates 200 of them to measure the time. The numbers of jobs are upper
    bounds: cuts on energies may leave fewer candidates. The exit code is 2 if something is missing.

    Example: `cryslator plan campaign.yaml --hours-per-relaxation 40`
    """
    quiet()
    from cryslator_flows.api import Campaign

    campaign = Campaign.from_file(file)
    remote = project is not None or "jobflow_remote" in campaign.model_fields_set
    folder = output or Path("runs") / campaign.name
    show_plan(campaign, folder, hours_per_relaxation, earlier or (), project if remote else False)


@app.command()
def inputs(
    target: Target,
    output: Annotated[Path, typer.Option("--output", "-o", help="Empty or new folder to write to.")],
    top: Annotated[
        int | None,
        typer.Option(min=1, help="Number of candidates, most stable first; default: all.", show_default=False),
    ] = None,
    project: Project = None,
    folder: Folder = None,
) -> None:
    """Write the inputs of the relaxations as files to look at, a folder for each selected candidate and start.

    For VASP these are INCAR, KPOINTS, POSCAR and POTCAR.spec; POTCARs are not needed. For other engines the structure
    and the settings of the maker. A job that continues from another job has no structure yet. Give the campaign file if
    its maker is in a module beside it.

    Example: `cryslator inputs my-perovskites -o inputs/ --top 3`
    """
    quiet()
    from pydantic import ValidationError

    from cryslator_flows.campaign.file import CampaignSettings
    from cryslator_flows.engines.by_name import make_importable
    from cryslator_flows.errors import CampaignError
    from cryslator_flows.results.written_inputs import write_inputs
    from cryslator_flows.running.find import find_campaign

    with find_campaign(target, project, folder) as started:
        try:
            settings = CampaignSettings.model_validate(started.settings)
        except ValidationError as error:
            raise CampaignError(
                f"campaign {started.label!r}: was not started from a campaign file of this version; start it again by "
                "`cryslator screen` or `cryslator submit`"
            ) from error
        relaxation = settings.relaxation
        if relaxation is not None and Path(target).is_file():
            for key, maker in (("relaxation", relaxation.maker), ("relaxation.mlip", relaxation.mlip.maker)):
                make_importable(maker, Path(target).absolute().parent, key)
        number = write_inputs(started.results, settings, output, top)
    out.print(f"Written: {shown(output)} (folders of candidates and starts: {number})")


def show_plan(
    campaign: CampaignSettings,
    folder: Path,
    hours: float | None = None,
    earlier: Sequence[Path] = (),
    project: str | bool | None = False,
) -> None:
    """Print the whole plan of a campaign, then what is missing.

    Parameters
    ----------
    campaign : CampaignSettings
        The campaign.
    folder : Path
        Its folder.
    hours : float or None
        Core-hours of one relaxation; None to take them from earlier campaigns.
    earlier : sequence of Path
        Folders of earlier campaigns.
    project : str, None or False
        Name of the jobflow-remote project; None for the project in the file or the default one; False for this machine.

    Raises
    ------
    PreflightError
        Something is missing.
    """
    from cryslator_flows.campaign.plan import make_plan
    from cryslator_flows.campaign.preflight import refuse
    from cryslator_flows.errors import CryslatorError
    from cryslator_flows.report.plan_tables import plan_tables

    survey = _survey(campaign)
    findings = _findings(campaign, folder, survey, project)
    try:
        made = make_plan(campaign, survey)
    except CryslatorError:
        # The findings have the reason.
        refuse(findings)
        raise
    out.print(plan_tables(made))
    print_left_out(survey.counts)
    if survey.counts.unique:
        _print_translation(campaign, survey)
    _print_hours(campaign, made, folder, hours, earlier)
    for remark in refuse(findings):
        note("note:", remark)
    out.print("Nothing is missing.")


def print_plan_lines(campaign: CampaignSettings, survey: Survey) -> None:
    """Print the notes on the candidates of a campaign and its plan in three lines; nothing if none are counted."""
    from cryslator_flows.campaign.plan import make_plan
    from cryslator_flows.campaign.preflight import check_candidates
    from cryslator_flows.report.plan_tables import plan_lines

    if survey.counts.unique:
        for finding in check_candidates(campaign, survey):
            note("note:", finding.message)
        for line in plan_lines(make_plan(campaign, survey)):
            out.print(line, soft_wrap=True)


def print_left_out(counts: EnumerationCounts) -> None:
    """Print the first rejected templates, the first duplicates of structures as they are, and what was not carried."""
    for word, reasons in (("rejected", counts.rejected_templates), ("duplicate", counts.as_given_duplicates)):
        for reason in reasons[:SHOWN_REASONS]:
            note(word, reason)
        if len(reasons) > SHOWN_REASONS:
            note(word, f"{len(reasons) - SHOWN_REASONS} others; summary.json of the campaign lists them")
    for remark in counts.remarks():
        note("note:", remark)


def _survey(campaign: CampaignSettings) -> Survey:
    from cryslator_flows.campaign.survey import look_at_all

    with progress_bars() as progress:
        bar = progress.add_task("enumerate", total=None, note="")
        survey = look_at_all(
            campaign,
            lambda counts: progress.update(
                bar, completed=counts.templates, note=f"templates, {counts.unique} candidates"
            ),
        )
        progress.update(bar, total=survey.counts.templates)
    return survey


def _findings(campaign: CampaignSettings, folder: Path, survey: Survey, project: str | bool | None) -> list[Finding]:
    from cryslator_flows.campaign.preflight import Finding, check_campaign, check_candidates, check_folder
    from cryslator_flows.errors import ProjectError
    from cryslator_flows.jobs.enumerate import why_none
    from cryslator_flows.running.remote.project import open_project
    from cryslator_flows.running.remote.submit import check_project

    found = [] if survey.counts.unique else [Finding(why_none(survey.counts))]
    found += check_candidates(campaign, survey)
    if isinstance(project, bool):
        return [*found, *check_folder(folder), *check_campaign(campaign, lambda: survey.elements)]
    settings = campaign.jobflow_remote.with_options(project)
    try:
        with closing(open_project(settings.project)) as opened:
            found += check_project(campaign, opened, settings)
    except ProjectError as error:
        found.append(Finding(str(error)))
    return [*found, *check_campaign(campaign, lambda: survey.elements, here=False)]


def _print_translation(campaign: CampaignSettings, survey: Survey) -> None:
    from cryslator_flows.campaign.plan import translation_seconds, translations
    from cryslator_flows.errors import ModelError
    from cryslator_flows.running.progress import in_words

    try:
        seconds, number = translation_seconds(campaign, survey.chunks)
    except ModelError:
        # The findings have the reason.
        return
    whole = seconds * survey.counts.unique * translations(campaign)
    out.print(f"Translation: {1000 * seconds:.1f} ms each, measured here on {number}; {in_words(whole)} for all.")


def _print_hours(
    campaign: CampaignSettings, made: Plan, folder: Path, hours: float | None, earlier: Sequence[Path]
) -> None:
    from cryslator_flows.running.earlier_hours import earlier_hours

    number = sum(made.costs.values())
    known = earlier_hours(campaign, folder.parent, earlier)
    estimates = known.plan(made)
    if spent := estimates.get("potential"):
        out.print(f"Potential: at most {made.units['potential']}, about {spent:.2g} core-hours by earlier ones.")
    if not number:
        return
    if hours is not None:
        out.print(f"Relaxations: at most {number}, {number * hours:.1f} core-hours at {hours:g} each.")
        return
    estimate = estimates.get("relax")
    if estimate is None:
        out.print(f"Relaxations: at most {number}; give --hours-per-relaxation or --earlier to estimate core-hours.")
        return
    out.print(
        f"Relaxations: at most {number}, about {estimate:.2g} core-hours by {known.number} relaxations of "
        f"{', '.join(known.campaigns)}."
    )
