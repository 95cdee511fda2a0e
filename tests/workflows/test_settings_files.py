"""Recipes, campaigns and projects in workflows/ are valid as they are."""

import re
import shutil

import pytest
import yaml
from jobflow_remote.config.base import Project
from ruamel.yaml import YAML

from cryslator_flows.api import Campaign
from cryslator_flows.campaign.remote_settings import RemoteSettings
from cryslator_flows.documents.stages import STAGES
from cryslator_flows.running.remote.project import open_project
from cryslator_flows.running.remote.submit import missing_ledgers, stage_configs
from cryslator_flows.training.recipe import Recipe
from tests.conftest import ROOT

PROJECTS = sorted(ROOT.glob("workflows/jobflow-remote/*.yaml"))
PAPER, UNIVERSAL = ROOT / "workflows/paper-xmno", ROOT / "workflows/universal"
RECIPES = sorted({*ROOT.glob("workflows/**/recipe.yaml"), *PAPER.glob("*.yaml"), *UNIVERSAL.glob("*.yaml")})
# The spaces that workflows/dft-savings/draw.py draws from.
SPACES = ROOT / "workflows/dft-savings/spaces-2.yaml"
CAMPAIGNS = [path for path in ROOT.glob("workflows/**/*.yaml") if path not in (*RECIPES, *PROJECTS, SPACES)]


@pytest.mark.parametrize("path", RECIPES, ids=str)
def test_recipes_are_read(path):
    recipe = Recipe.from_file(path)
    assert path.stem in (recipe.name, "recipe")


@pytest.mark.parametrize("path", CAMPAIGNS, ids=str)
def test_campaigns_make_flows(path):
    assert Campaign.from_file(path).to_flow().name == Campaign.from_file(path).name


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.stem)
def test_jobflow_remote_projects(path):
    """jobflow-remote accepts them as its command line reads them, and Slurm gets all the resources they name."""
    project = Project.model_validate(YAML().load(path))
    assert project.name == path.stem
    assert "data" in project.get_jobstore().additional_stores
    for worker in project.workers.values():
        script = worker.get_scheduler_io().get_submission_script("run", options=worker.resources)
        assert all(str(value) in script for value in (worker.resources or {}).values())


def test_the_cluster_has_what_the_docs_submit_to(tmp_path, monkeypatch):
    shutil.copy(ROOT / "workflows/jobflow-remote/cluster.yaml", tmp_path)
    monkeypatch.setattr("jobflow_remote.SETTINGS.projects_folder", str(tmp_path))
    page = (ROOT / "docs/jobflow-remote.md").read_text()
    (block,) = re.findall(r"^```yaml\n# a part of a campaign file\n(.*?)^```", page, flags=re.M | re.S)
    settings = RemoteSettings.model_validate(yaml.safe_load(block)["jobflow_remote"])
    project = open_project(settings.project)
    project.check_data_store()
    for stage in STAGES:
        project.check_stage(stage, settings.stage(stage))
    campaign = Campaign.from_file(ROOT / "workflows/perovskites-vasp.yaml")
    configs = stage_configs(campaign, project, settings)
    assert [configs[stage]["worker"] for stage in STAGES] == [
        "small",
        "gpu",
        "small",
        "small",
        "cpu",
        "small",
        "gpu",
        "small",
    ]
    assert list(missing_ledgers(campaign.to_maker(), project, configs)) == []
