import os
import subprocess
import sys
from pathlib import Path

import pytest

from cryslator_flows.cli.main import main
from cryslator_flows.settings import CryslatorSettings
from tests.conftest import ROOT


def models(**environment):
    """Run a command that reads the settings, in a process of its own, since they are read once."""
    command = [sys.executable, "-m", "cryslator_flows.cli.main", "models"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("value", ["", "/data/models", "[1", '["/data/models"'])
def test_broken_variables_are_one_line(value):
    result = models(CRYSLATOR_MODEL_DIRS=value)
    assert result.returncode == 2
    assert result.stderr.startswith("Error: CRYSLATOR_MODEL_DIRS=")
    assert "a JSON list as in" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_ledger_is_a_folder(tmp_path):
    (tmp_path / "ledger.jsonl").touch()
    result = models(CRYSLATOR_LEDGER=str(tmp_path / "ledger.jsonl"))
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "folder where runs record their cost" in result.stderr


def test_jobs_in_other_folders_find_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CRYSLATOR_MODEL_DIRS", '["mine", "~/models"]')
    assert CryslatorSettings().model_dirs == [tmp_path / "mine", Path.home() / "models"]
    result = models(CRYSLATOR_LEDGER="ledger")
    assert (result.returncode, "Absolute path" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("package", "text"),
    [
        ("jobflow", "JOB_STORE: {docs_store: {type: NoStore}}"),
        ("jobflow", "LOG_FORMAT: [1]"),
        ("jobflow", "a: ["),
        ("atomate2", "VASP_CMD: [1]"),
        ("atomate2", "a: ["),
    ],
)
def test_broken_configuration_files_of_others_are_one_line(tmp_path, monkeypatch, capsys, package, text):
    """As the command line imports them, at the first use of a job."""
    file = tmp_path / "config.yaml"
    file.write_text(text)
    monkeypatch.setenv(f"{package.upper()}_CONFIG_FILE", str(file))

    def run():
        settings = {"jobflow": "JobflowSettings", "atomate2": "Atomate2Settings"}[package]
        exec(compile(f"from {package}.settings import {settings}; {settings}()", "file", "exec"), {"__name__": package})

    monkeypatch.setattr("cryslator_flows.cli.main.app", run)
    with pytest.raises(SystemExit, match="2"):
        main()
    error = capsys.readouterr().err
    assert error.startswith(f"Error: {package.upper()}_CONFIG_FILE, {file}: cannot be used (")
    assert error.count("\n") == 1
