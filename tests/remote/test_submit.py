"""Submission, up to the moment when jobflow-remote has the flow."""

import json
import re
import subprocess
import sys
from collections import Counter

import pytest
import yaml

from cryslator_flows.api import Campaign
from cryslator_flows.campaign.remote_settings import RemoteSettings
from cryslator_flows.errors import CampaignError, ProjectError
from cryslator_flows.jobs.placing import ALL_STAGES
from cryslator_flows.running.remote.project import open_project
from cryslator_flows.running.remote.submit import _submit_flow, submit_campaign
from tests.campaign.test_file import GOOD, write
from tests.conftest import ROOT
from tests.remote.project import NAME

STAGES = {"enumerate", "select", "summarize"}


def change_project(project, **sections):
    """Add to sections of the project file; None drops a section."""
    path = project.projects / f"{NAME}.yaml"
    content = yaml.safe_load(path.read_text())
    for section, change in sections.items():
        content[section] = change if change is None or section not in content else {**content[section], **change}
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


def queued(project):
    return {job.name: job for job in project.jobs()}


def test_stages_get_their_workers_environments_resources_and_priorities(run, jfr_project, tmp_path):
    change_project(jfr_project, exec_config={"quiet": {"export": {"OMP_NUM_THREADS": 1}}})
    stages = {"select": {"worker": "local", "exec_config": "quiet", "resources": {"nodes": 2}, "priority": 3}}
    settings = {"default": {"worker": "batch"}, "stages": stages}
    file = write(tmp_path, {**GOOD, "jobflow_remote": settings})
    options = "--worker", "enumerate=gpu", "--priority", "select=7"
    code, out, err = run("submit", file, "--project", NAME, *options)
    assert code == 0, err
    assert "enumerate on gpu, translate on batch, select on local" in out
    jobs = queued(jfr_project)
    assert set(jobs) == {job.metadata["stage"] for job in jobs.values()} == STAGES
    assert {name: job.worker for name, job in jobs.items()} == {
        "enumerate": "gpu", "select": "local", "summarize": "batch"
    }  # fmt: skip
    document = jfr_project.controller.get_job_doc(db_id=jobs["select"].db_id)
    assert (document.exec_config, document.resources, document.priority) == ("quiet", {"nodes": 2}, 7)
    # What comes from the job select must not get its environment and resources.
    relax = document.job.config.manager_config[ALL_STAGES]["relax"]
    assert relax == {"worker": "batch", "exec_config": {"export": {}}, "resources": {}, "priority": 0}


def test_metadata_can_be_filtered_by_jobflow_remotes_own_commands(run, jfr_project, tmp_path):
    for name in ("mine", "other"):
        assert run("submit", write(tmp_path, {**GOOD, "name": name}))[0] == 0
    assert {job.metadata["campaign"] for job in jfr_project.jobs()} == {"mine", "other"}
    assert "Number of Flows: 1" in jfr_project.jf("flow", "list", "-meta", "campaign=mine", "--count")
    assert "Number of jobs: 1" in jfr_project.jf("job", "list", "-meta", "campaign=mine,stage=select", "--count")
    (flow,) = jfr_project.controller.get_flows_info(metadata={"campaign": "mine"})
    assert Campaign.model_validate(json.loads(flow.flow_metadata["campaign_file"])).selection.top_k == 2


def test_a_campaign_is_submitted_once_unless_asked_for(run, jfr_project, tmp_path):
    file = write(tmp_path, GOOD)
    assert run("submit", file)[0] == 0
    # Where a campaign runs is not what it is.
    code, _, err = run("submit", file, "--worker", "default=gpu")
    assert code == 2
    assert "already submitted on " in err
    assert "as 'mine' (3 jobs, state READY); --again submits it once more as mine-2" in err
    write(tmp_path, {**GOOD, "selection": {"top_k": 3}, "relaxation": None})
    code, _, err = run("submit", file)
    assert code == 2
    assert "campaign 'mine': selection, relaxation changed since it was submitted on " in err
    assert Counter(job.metadata["campaign"] for job in jfr_project.jobs()) == {"mine": 3}
    for label in ("mine-2", "mine-3"):
        code, out, _ = run("submit", file, "--again")
        assert code == 0
        assert f"Submitted {label} to project" in out
    code, _, err = run("submit", file)
    assert "as 'mine-3'" in err
    assert Counter(job.metadata["campaign"] for job in jfr_project.jobs()) == dict.fromkeys(
        ["mine", "mine-2", "mine-3"], 3
    )
    code, out, _ = run("status", "mine-2")
    assert code == 0
    assert "Jobs of mine-2" in out


def test_a_name_that_another_campaign_was_given_by_again_is_taken(run, jfr_project, tmp_path):
    file = write(tmp_path, GOOD)
    assert run("submit", file)[0] == run("submit", file, "--again")[0] == 0
    code, out, err = run("submit", write(tmp_path, {**GOOD, "name": "mine-2"}), "--again")
    assert (code, "Submitted mine-2-2" in out) == (0, True), err


def test_results_without_a_flow_are_not_mixed_with_new_ones(run, jfr_project, tmp_path):
    file = write(tmp_path, GOOD)
    store = jfr_project.controller.jobstore
    store.update({"uuid": "a", "index": 1, "output": {}, "metadata": {"campaign": "mine"}}, key=["uuid", "index"])
    code, _, err = run("submit", file)
    assert code == 2
    assert "has results of a campaign of this name, though not its flow" in err
    assert "Submitted mine-2" in run("submit", file, "--again")[1]


def test_two_processes_cannot_submit_the_same_at_the_same_moment(jfr_project, tmp_path):
    campaign = Campaign.from_file(write(tmp_path, GOOD))
    project = open_project(NAME)
    _submit_flow(campaign.to_flow(), "mine", "mine", campaign, project)
    with pytest.raises(ProjectError, match="another process is submitting it"):
        _submit_flow(campaign.to_flow(), "mine", "mine", campaign, project)
    assert len(jfr_project.jobs()) == len(STAGES)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--worker", "translate=gqu"], "stage translate, worker 'gqu': unknown in project"),
        (["--worker", "translate=gqu"], "did you mean 'gpu'?"),
        (["--exec-config", "relax=vasp"], "exec_config 'vasp': unknown in project"),
        (["--worker", "relx=gpu"], "--worker relx=gpu: unknown stage 'relx'; did you mean 'relax'?"),
        (["--worker", "gpu"], "--worker gpu: expected STAGE=VALUE, as in --worker relax=gpu"),
        (["--priority", "relax=high"], "'high' is not a whole number"),
        (["--project", "cryslator_tset"], "did you mean 'cryslator_test'?"),
    ],
)
def test_names_are_checked_before_anything_is_submitted(run, jfr_project, tmp_path, options, words):
    code, _, err = run("submit", write(tmp_path, GOOD), *options)
    assert code == 2
    assert words in err
    assert err.count("Error:") == 1
    assert not jfr_project.jobs()


def test_all_wrong_names_are_told_at_once(run, jfr_project, tmp_path):
    content = {
        **GOOD,
        "relaxation": {"maker": "DoubleRelaxMaker", "vasp": {"input_set": {"user_incar_settings": {"ENCUTT": 1}}}},
    }
    options = ["--worker", "translate=gqu", "--exec-config", "relax=vasp"]
    code, _, err = run("submit", write(tmp_path, content), *options)
    assert (code, err.count("Error:")) == (2, 3)
    for words in ("worker 'gqu': unknown", "exec_config 'vasp': unknown", "did you mean 'ENCUT'?"):
        assert words in err
    assert not jfr_project.jobs()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stages": {"relx": {}}}, "jobflow_remote: unknown stage 'relx'; did you mean 'relax'?"),
        ({"stages": {"relax": {"wroker": "a"}}}, "jobflow_remote.stages.relax: unknown key 'wroker'"),
        ({"stages": {"relax": {"priority": "high"}}}, "jobflow_remote.stages.relax.priority"),
        ({"proejct": "a"}, "did you mean 'project'?"),
    ],
)
def test_mistakes_in_the_campaign_file_are_named(tmp_path, settings, words):
    with pytest.raises(CampaignError) as caught:
        Campaign.from_file(write(tmp_path, {**GOOD, "jobflow_remote": settings}))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"jobstore": {"additional_stores": {}}}, "has no additional store 'data', where structures go; add jobstore"),
        ({"workers": None}, "it has no worker; add one under workers in "),
        ({"queue": None}, "is not a project file (queue: Field required); fix it"),
        ({"queue": {"store": {"type": "MongoStore", "uri": "mongodb://me:hunter2@127.0.0.1:9",
                              "database": "a", "collection_name": "jobs"}}}, "the database of its queue "),
    ],
)  # fmt: skip
def test_mistakes_in_the_project_are_named(run, jfr_project, tmp_path, monkeypatch, sections, words):
    monkeypatch.setattr("cryslator_flows.running.remote.project.DATABASE_PATIENCE", 500)
    path = change_project(jfr_project, **sections)
    code, _, err = run("submit", write(tmp_path, GOOD), "--project", NAME)
    assert code == 2
    assert words in err
    assert str(path) in err
    assert "hunter2" not in err


def test_a_password_in_a_flow_is_refused(run, jfr_project, tmp_path):
    store = {"type": "MongoStore", "database": "a", "collection_name": "b", "host": "c.org", "password": "hunter2"}
    file = write(tmp_path, {**GOOD, "templates": [{"source": "store", "store": store}]})
    code, _, err = run("submit", file, "--project", NAME)
    assert (code, "hunter2" in err) == (2, False)
    assert "templates.0.store: has a password, which a flow does not keep; write ${NAME} in its place" in err


def test_an_empty_database_is_not_a_project_yet(run, jfr_project, tmp_path):
    jfr_project.controller.auxiliary.delete_many({})
    code, _, err = run("submit", write(tmp_path, GOOD))
    assert code == 2
    assert f"initialise it once with: jf -p {NAME} admin reset" in err


def test_which_project(run, jfr_project, tmp_path, monkeypatch):
    file = write(tmp_path, GOOD)
    monkeypatch.setattr("jobflow_remote.SETTINGS.project", None)
    content = yaml.safe_load((jfr_project.projects / f"{NAME}.yaml").read_text())
    (jfr_project.projects / "second.yaml").write_text(yaml.safe_dump({**content, "name": "second"}))
    code, _, err = run("submit", file)
    assert code == 2
    assert f"several jobflow-remote projects ({NAME}, second); name one with --project" in err
    write(tmp_path, {**GOOD, "jobflow_remote": {"project": NAME}})
    assert run("submit", file)[0] == 0
    assert "Jobs of mine" in run("status", file)[1]
    monkeypatch.setattr("jobflow_remote.SETTINGS.projects_folder", str(tmp_path / "none"))
    code, _, err = run("submit", write(tmp_path, GOOD))
    assert f"no jobflow-remote project in {tmp_path / 'none'}" in err


WITHOUT = """
import json, sys
sys.modules["jobflow_remote"] = None
from cryslator_flows.cli.main import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["cryslator", *arguments]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    print(f"ended with {code}", file=sys.stderr)
"""


def test_without_jobflow_remote(tmp_path):
    """Everything but `submit` works, and `submit` says what to install."""
    file = str(write(tmp_path, {**GOOD, "relaxation": None}))
    folder = str(tmp_path / "run")
    commands = [
        ["submit", file],
        ["--help"],
        ["screen", file, "-o", folder],
        ["status", file, "-f", folder],
        ["status", "nope"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, json.dumps(commands)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    told, codes = zip(*re.findall(r"(.*?)ended with (\d+)\n", done.stderr, flags=re.DOTALL), strict=True)
    assert codes == ("2", "0", "0", "0", "2"), done.stderr
    assert "pip install 'cryslator-flows[remote]'" in " ".join(told[0].split())
    assert "campaign folder" in told[4]


def remote_worker():
    return {"type": "remote", "host": "cluster.example.org", "scheduler_type": "slurm", "work_dir": "/scratch"}


def test_files_that_a_worker_elsewhere_cannot_see_are_named(jfr_project, tmp_path, tiny_model, perovskite):
    change_project(jfr_project, workers={"cluster": remote_worker()})
    (tmp_path / "crystals").mkdir()
    perovskite.to(str(tmp_path / "crystals" / "a.cif"))
    content = {**GOOD, "templates": [{"source": "files", "path": "crystals"}], "model": "models/tiny"}
    campaign = Campaign.from_file(write(tmp_path, content))
    project = open_project(NAME)

    submission = submit_campaign(campaign, project, RemoteSettings(default={"worker": "cluster"}))
    # Unless told otherwise, the templates are read on this machine.
    assert project.runs_here(submission.workers["enumerate"])
    assert submission.workers["translate"] == "cluster"
    (note,) = submission.notes
    assert note.startswith(f"model: {tmp_path / 'models/tiny'} is read by the translate stage, which worker 'cluster'")

    settings = RemoteSettings(default={"worker": "cluster"}, stages={"enumerate": {"worker": "cluster"}})
    notes = submit_campaign(campaign, project, settings, again=True).notes
    assert [note.split(":")[0] for note in notes] == ["templates.0.path", "model"]


def test_a_missing_ledger_is_noticed(jfr_project, tmp_path):
    change_project(jfr_project, exec_config={"vasp": {"export": {"CRYSLATOR_LEDGER": "/scratch/ledger"}}})
    campaign = Campaign.from_file(write(tmp_path, {**GOOD, "relaxation": {"maker": "DoubleRelaxMaker"}}))
    settings = RemoteSettings(stages={"relax": {"exec_config": "vasp"}})
    potcars, note = submit_campaign(campaign, open_project(NAME), settings).notes
    assert "the worker of the stage relax needs POTCARs that this machine lacks" in potcars
    assert note.startswith("stage compare: neither its exec_config nor its worker exports CRYSLATOR_LEDGER")
    # CHGNet has no electronic steps to lose.
    campaign = Campaign.from_file(write(tmp_path, {**GOOD, "name": "chgnet"}))
    assert submit_campaign(campaign, open_project(NAME), settings).notes == []


def test_an_unknown_campaign_is_named(run, jfr_project, tmp_path):
    assert run("submit", write(tmp_path, GOOD))[0] == 0
    code, _, err = run("status", "mien", "--project", NAME)
    assert code == 2
    assert f"campaign 'mien': not in project '{NAME}'; did you mean 'mine'?" in err
    code, _, err = run("report", "mine", "--project", NAME)
    assert code == 2
    assert "has no results yet" in err


def test_the_commands_of_the_readme(run, jfr_project, tmp_path, monkeypatch):
    content = yaml.safe_load((jfr_project.projects / f"{NAME}.yaml").read_text())
    content["workers"]["cpu"] = content["workers"].pop("local")
    content |= {"name": "cluster", "exec_config": {"vasp": {}}}
    (jfr_project.projects / "cluster.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {**GOOD, "name": "my-perovskites"})
    (block,) = re.findall(r"^```console\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.M | re.S)
    for command in block.splitlines():
        program, *arguments = command.split()
        assert program == "cryslator"
        code, _, err = run(*arguments)
        assert code == 0, err
    assert len(jfr_project.jobs()) == len(STAGES)


def test_jobs_know_the_embedded_store_by_name(tmp_path):
    """Templates may come from it, and a job's process imports nothing but what its job needs."""
    store = {"type": "SQLiteStore", "path": str(tmp_path / "a")}
    code = "from jobflow_remote.cli import app; from jobflow import JobStore; "
    code += f"print(JobStore.from_dict_spec({{'docs_store': {store}}}).docs_store.name)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == f"sqlite://{tmp_path}/a/documents"
