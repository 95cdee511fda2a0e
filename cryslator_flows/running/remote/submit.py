"""Submission of a campaign to jobflow-remote."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from jobflow import Flow, OutputReference

from cryslator_flows.campaign.preflight import Finding, check_campaign, refuse
from cryslator_flows.campaign.survey import Survey, look_quickly
from cryslator_flows.crystals.templates import FileTemplates, StoreTemplates
from cryslator_flows.documents.stages import STAGES
from cryslator_flows.engines.recorder import record_relax_maker
from cryslator_flows.errors import ProjectError
from cryslator_flows.jobs.placing import StageConfigs, configure_stages
from cryslator_flows.results.results import CampaignResults, load_comparisons, relaxed_before
from cryslator_flows.running.remote.project import RELAXED_PER_FLOW, part_name, remaining_parts
from cryslator_flows.settings import SETTINGS
from cryslator_flows.system.store_specs import store_paths, without_secrets
from cryslator_flows.translator.model_folder import find_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobflow_remote.jobs.data import FlowInfo

    from cryslator_flows.campaign.file import CampaignSettings
    from cryslator_flows.campaign.remote_settings import RemoteSettings
    from cryslator_flows.crystals.packing import TranslatedCandidates
    from cryslator_flows.flows.screening import ScreeningFlowMaker
    from cryslator_flows.running.remote.project import RemoteProject

LEDGER_VARIABLE = "CRYSLATOR_LEDGER"
NO_EXEC_CONFIG: dict[str, Any] = {"export": {}}


@dataclass(frozen=True)
class Submission:
    """A submitted campaign.

    Parameters
    ----------
    label : str
        The label of its jobs, documents and ledger entries: the campaign's name, or NAME-2 and so on.
    job_ids : list of str
        jobflow-remote's identifiers of its first jobs, which make the others.
    workers : dict
        The worker of each stage.
    notes : list of str
        Remarks that need the user's attention.
    survey : Survey
        The candidates of the campaign, as far as seconds allowed to count them.
    n_remaining : int or None
        For a campaign that was submitted before: the number of further candidates submitted now.
    """

    label: str
    job_ids: list[str]
    workers: dict[str, str]
    notes: list[str]
    survey: Survey
    n_remaining: int | None = None


def submit_campaign(
    campaign: CampaignSettings, project: RemoteProject, settings: RemoteSettings, again: bool = False
) -> Submission:
    """Submit a campaign once, or the relaxations that its first flow left to other flows.

    A flow relaxes 500 candidates at most. Call this function again after the selection to submit the other selected
    candidates, again 500 in a flow. Candidates that another campaign of the project relaxed with the same settings are
    not relaxed again.

    Parameters
    ----------
    campaign : CampaignSettings
        The campaign.
    project : RemoteProject
        The project to submit to.
        settings : RemoteSettings
        Worker, execution configuration, resources and priority of each stage.
    again : bool
        Submit a campaign again under a new label.

    Returns
    -------
    Submission
        The label, the jobs and notes for the user.

    Raises
    ------
    PreflightError
        The project lacks a part, or the campaign has mistakes. The error has all of them.
    ProjectError
        The project has this campaign already and `again` is False.
    """
    # Counted where VASP needs the elements, else when all else is right: templates may lie in a store far away.
    survey = cache(lambda: look_quickly(campaign))
    found = check_campaign(campaign, lambda: survey().elements, here=False)
    remarks = refuse([*check_project(campaign, project, settings), *found])
    configs = stage_configs(campaign, project, settings)
    workers = {stage: config["worker"] for stage, config in configs.items()}
    maker = campaign.to_maker()
    maker.select_maker.max_relaxed = RELAXED_PER_FLOW
    notes = [*remarks, *_hidden_files(campaign, project, configs), *missing_ledgers(maker, project, configs)]
    for label, parts in [] if again else _remaining(campaign, project):
        maker.name = label
        known = load_comparisons(project.job_store, _known(maker, project))
        job_ids = []
        for number, (candidates, prerelaxed) in parts.items():
            flow = maker.make_relaxations(candidates, known, prerelaxed)
            configure_stages(flow, configs)
            job_ids += _submit_flow(flow, part_name(label, number), label, campaign, project)
        n_candidates = sum(candidates.n_candidates for candidates, _ in parts.values())
        return Submission(label, job_ids, workers, notes, Survey(), n_candidates)
    maker.name = label = _free_label(campaign, project, again)
    # References; the select job gets their documents. Without a schema they cost nothing.
    known_later = [OutputReference(uuid) for uuid in _known(maker, project)]
    flow = maker.make(campaign.templates, campaign.substitutions, known_later)
    configure_stages(flow, configs)
    return Submission(label, _submit_flow(flow, label, label, campaign, project), workers, notes, survey())


def check_project(campaign: CampaignSettings, project: RemoteProject, settings: RemoteSettings) -> Iterator[Finding]:
    """Yield passwords in the flow, and names and stores that the project lacks."""
    for number, source in enumerate(campaign.templates):
        if isinstance(source, StoreTemplates) and without_secrets(source.store) != source.store:
            key = f"templates.{number}.store"
            yield Finding(
                f"{key}: has a password, which a flow does not keep; write ${{NAME}} in its place, and export NAME on "
                "the worker of the stage enumerate"
            )
    checks: list[Callable[[], object]] = [project.check_data_store, lambda: project.controller]
    checks += [partial(project.check_stage, stage, settings.stage(stage)) for stage in STAGES]
    for check in checks:
        try:
            check()
        except ProjectError as error:
            yield Finding(str(error))


def _known(maker: ScreeningFlowMaker, project: RemoteProject) -> list[str]:
    """Return uuids of the relaxations, also of elements, with the same settings in other campaigns of the project."""
    keys = [key for key in (*maker.settings_keys(), maker.elements_key()) if key is not None]
    return relaxed_before(project.job_store, keys, maker.name) if keys else []


def _remaining(
    campaign: CampaignSettings, project: RemoteProject
) -> Iterator[tuple[str, dict[int, tuple[TranslatedCandidates, TranslatedCandidates | None]]]]:
    """Return the labels under which this campaign was submitted, with the parts of the selection to submit."""
    for flow in _submissions(campaign, project):
        label = flow.flow_metadata["campaign"]
        if not campaign.changed_keys(flow.flow_metadata["campaign_file"]) and (
            parts := remaining_parts(project, label)
        ):
            yield label, parts


def _submissions(campaign: CampaignSettings, project: RemoteProject) -> list[FlowInfo]:
    """Return the first flow of each submission of a campaign of this name, the latest first."""
    flows = project.controller.get_flows_info(metadata={"campaign_name": campaign.name}, sort=[("created_on", -1)])
    return [flow for flow in flows if flow.flow_metadata["part"] == flow.flow_metadata["campaign"]]


def stage_configs(campaign: CampaignSettings, project: RemoteProject, settings: RemoteSettings) -> StageConfigs:
    """Make the ``manager_config`` of the jobs of each stage.

    jobflow-remote passes worker, execution configuration and resources of a job on to the jobs that it makes, unless
    these have settings. So all jobs get settings, see `configure_stages`.

    Parameters
    ----------
    campaign : CampaignSettings
        If it reads files, enumeration runs on a worker of this machine, unless the settings name a worker for it.
    project : RemoteProject
        The project.
    settings : RemoteSettings
        The user's settings.
    """
    workers = list(project.project.workers)
    configs: StageConfigs = {}
    for stage in STAGES:
        wanted = settings.stage(stage)
        worker = wanted.worker or workers[0]
        named = stage in settings.stages and settings.stages[stage].worker
        if stage == "enumerate" and not named and any(True for _ in _template_files(campaign)):
            worker = next((name for name in [worker, *workers] if project.runs_here(name)), worker)
        configs[stage] = {
            "worker": worker,
            "exec_config": wanted.exec_config or NO_EXEC_CONFIG,
            "resources": wanted.resources or {},
            "priority": wanted.priority or 0,
        }
    return configs


def _submit_flow(flow: Flow, part: str, label: str, campaign: CampaignSettings, project: RemoteProject) -> list[str]:
    """Submit one of the flows of a campaign; `part` is the label itself for the first flow."""
    from jobflow_remote import submit_flow

    metadata = {"campaign": label, "part": part, "campaign_name": campaign.name, "campaign_file": campaign.content()}
    # Two processes that submit one campaign at the same moment collide here: the database accepts a uuid only once.
    whole = Flow([flow], output=flow.output, name=label, uuid=str(uuid5(NAMESPACE_URL, part)), metadata=metadata)
    # All searches for a campaign use these.
    project.controller.jobs.create_index("job.metadata.campaign", background=True)
    project.job_store.ensure_index("metadata.campaign")
    try:
        # Relaxations of other campaigns come from outside the flow.
        return submit_flow(whole, project=project.name, allow_external_references=True)
    except ValueError as error:
        if "duplicate key" not in str(error):
            raise
        raise ProjectError(
            f"campaign {campaign.name!r}: another process is submitting it to project {project.name!r}; wait for it"
        ) from error


def _free_label(campaign: CampaignSettings, project: RemoteProject, again: bool) -> str:
    """Return the label to submit under; refuse an existing campaign unless `again`."""
    earlier = _submissions(campaign, project)
    if not _is_taken(campaign.name, project):
        return campaign.name
    label = next(label for n in count(2) if not _is_taken(label := f"{campaign.name}-{n}", project))
    if again:
        return label
    remedy = f"--again submits it once more as {label}"
    if not earlier:
        raise ProjectError(
            f"campaign {campaign.name!r}: project {project.name!r} has results of a campaign of this name, though not "
            f"its flow; {remedy}"
        )
    changes = [(flow, campaign.changed_keys(flow.flow_metadata["campaign_file"])) for flow in earlier]
    same = next((flow for flow, changed in changes if not changed), None)
    if same is not None:
        raise ProjectError(f"campaign {campaign.name!r}: already submitted {_describe(same, project)}; {remedy}")
    flow, _ = changes[0]
    changed = campaign.changes(flow.flow_metadata["campaign_file"])
    raise ProjectError(
        f"campaign {campaign.name!r}: {changed} changed since it was submitted {_describe(flow, project)}; "
        f"change it back, rename the campaign, or {remedy}"
    )


def _is_taken(label: str, project: RemoteProject) -> bool:
    if project.controller.count_flows(metadata={"campaign": label}):
        return True
    return not CampaignResults(project.job_store, label).is_empty()


def _describe(flow: FlowInfo, project: RemoteProject) -> str:
    label = flow.flow_metadata["campaign"]
    return (
        f"on {flow.created_on:%Y-%m-%d %H:%M} UTC to project {project.name!r} as {label!r} ({len(flow.db_ids)} jobs, "
        f"state {flow.state.value})"
    )


def _template_files(campaign: CampaignSettings) -> Iterator[tuple[str, str]]:
    """Yield key and path of the files that the enumeration reads."""
    for number, source in enumerate(campaign.templates):
        if isinstance(source, FileTemplates):
            yield f"templates.{number}.path", str(source.path)
        elif isinstance(source, StoreTemplates):
            for key, path in store_paths(source.store):
                yield f"templates.{number}.store.{key}", str(path)


def _model_folders(campaign: CampaignSettings) -> Iterator[tuple[str, str]]:
    """Yield key and path of the models that translation reads and that do not come with the package."""
    windows = campaign.selection.properties
    models = {"model": campaign.model, **{f"selection.properties.{name}": windows[name].model for name in windows}}
    for key, model in models.items():
        folder = find_model(model).path
        if folder == Path(model) or folder.parent in SETTINGS.model_dirs:
            yield key, str(folder)


def _learnt_from(campaign: CampaignSettings) -> Iterator[tuple[str, str]]:
    """Yield key and path of the files that rounds of active learning read."""
    if campaign.rounds is not None:
        yield from _model_folders(campaign)
        if campaign.rounds.replay is not None:
            yield "rounds.replay", str(campaign.rounds.replay)


def _hidden_files(campaign: CampaignSettings, project: RemoteProject, configs: StageConfigs) -> Iterator[str]:
    """Yield notes on files of this machine that workers on other machines need."""
    needed: dict[str, Iterator[tuple[str, str]]] = {
        "enumerate": _template_files(campaign),
        "translate": _model_folders(campaign),
        "learn": _learnt_from(campaign),
    }
    for stage, files in needed.items():
        worker = configs[stage]["worker"]
        for key, path in [] if project.runs_here(worker) else files:
            yield (
                f"{key}: {path} is read by the {stage} stage, which worker {worker!r} runs on another machine; "
                "copy it there under the same path"
            )


def missing_ledgers(maker: ScreeningFlowMaker, project: RemoteProject, configs: StageConfigs) -> Iterator[str]:
    """Yield notes on stages whose jobs have no ledger of steps, if the relaxations write one."""
    if maker.select_maker.relax_maker is None:
        return
    relax_maker = maker.select_maker.relax_maker.comparison_maker.relax_maker
    if record_relax_maker(relax_maker, maker.name, "", "unrelaxed") is relax_maker:
        return
    for stage in ("relax", "compare"):
        worker = project.project.workers[configs[stage]["worker"]]
        name = configs[stage]["exec_config"]
        exec_config = project.project.exec_config[name] if isinstance(name, str) else None
        exported = {**(exec_config.export or {})} if exec_config else {}
        commands = f"{worker.pre_run} {exec_config.pre_run if exec_config else ''}"
        if LEDGER_VARIABLE not in exported and LEDGER_VARIABLE not in commands:
            yield (
                f"stage {stage}: neither its exec_config nor its worker exports {LEDGER_VARIABLE}; without a ledger "
                "outside the job folders, steps of relaxations that fail or run again are not counted"
            )
