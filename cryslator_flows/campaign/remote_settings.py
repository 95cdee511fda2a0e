"""Workers and resources of each stage: the key ``jobflow_remote`` of a campaign file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from cryslator_flows.config import StrictModel
from cryslator_flows.documents.stages import STAGES, Stage
from cryslator_flows.errors import CampaignError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT = "default"


class StageSettings(StrictModel):
    """Worker, environment, resources and priority of the jobs of a stage in jobflow-remote."""

    worker: str | None = Field(None, description="Worker of the project")
    exec_config: str | None = Field(None, description="Execution configuration of the project")
    resources: dict[str, Any] | None = Field(
        None, description="Resources to request from the scheduler; default: the resources of the worker"
    )
    priority: int | None = Field(None, description="Jobs of a higher priority start earlier")


class RemoteSettings(StrictModel):
    """The jobflow-remote project of a campaign, and the worker, environment and resources of each stage."""

    project: str | None = Field(None, description="Project; default: jobflow-remote's default project")
    default: StageSettings = Field(
        default_factory=lambda: StageSettings(), description="Settings of every stage, unless `stages` has others"
    )
    stages: dict[Stage, StageSettings] = Field(
        default_factory=dict, description=f"Settings of single stages, of {', '.join(STAGES)}"
    )

    @model_validator(mode="before")
    @classmethod
    def _know_all_stages(cls, data: Any) -> Any:
        stages = data.get("stages") if isinstance(data, dict) else None
        for stage in stages if isinstance(stages, dict) else ():
            if stage not in STAGES:
                raise ValueError(f"unknown stage {stage!r}; {nearest(str(stage), STAGES)}")
        return data

    def stage(self, stage: Stage) -> StageSettings:
        """Return the settings of a stage; missing ones come from `default`."""
        own = self.stages.get(stage, StageSettings()).model_dump(exclude_none=True)
        return StageSettings.model_validate({**self.default.model_dump(), **own})

    def with_options(
        self,
        project: str | None = None,
        worker: Sequence[str] = (),
        exec_config: Sequence[str] = (),
        priority: Sequence[str] = (),
    ) -> RemoteSettings:
        """Replace settings by options of the command line.

        Parameters
        ----------
        project : str or None
            The project, if not None.
        worker, exec_config, priority : sequence of str
            Each ``STAGE=VALUE``, as in ``relax=cpu``; STAGE may be ``default``.

        Returns
        -------
        RemoteSettings
            A copy.

        Raises
        ------
        CampaignError
            An option has another form, an unknown stage, or a priority that is not a number.
        """
        changed = self.model_dump()
        if project is not None:
            changed["project"] = project
        for key, options in (("worker", worker), ("exec_config", exec_config), ("priority", priority)):
            for option in options:
                stage, value = _split(f"--{key.replace('_', '-')}", option)
                settings = changed[DEFAULT] if stage == DEFAULT else changed["stages"].setdefault(stage, {})
                settings[key] = value
                if key == "priority" and not value.lstrip("-").isdigit():
                    raise CampaignError(f"--priority {option}: {value!r} is not a whole number; give one, as relax=5")
        return RemoteSettings.model_validate(changed)


def _split(name: str, option: str) -> tuple[str, str]:
    stage, _, value = option.partition("=")
    if not value:
        raise CampaignError(f"{name} {option}: expected STAGE=VALUE, as in {name} relax={option or 'VALUE'}")
    if stage not in (*STAGES, DEFAULT):
        raise CampaignError(f"{name} {option}: unknown stage {stage!r}; {nearest(stage, [*STAGES, DEFAULT])}")
    return stage, value
