import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import jobflow_remote
import pytest

from tests.remote.project import NAME, MongoServer, RemoteProject
from tests.support.warm import WarmCommands

URI = "CRYSLATOR_TEST_MONGO_URI"


@pytest.fixture(scope="session")
def mongo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    """The test server in a process of its own."""
    server = MongoServer(tmp_path_factory.mktemp("mongo") / "journal")
    yield server
    server.kill()


@pytest.fixture(scope="session")
def mongo_uri(request: pytest.FixtureRequest) -> str:
    """A MongoDB server: that of CRYSLATOR_TEST_MONGO_URI, or else the test server."""
    return os.environ.get(URI) or request.getfixturevalue("mongo_server").uri


@pytest.fixture
def killable_mongo(mongo_uri: str, request: pytest.FixtureRequest) -> MongoServer:
    """The server behind ``mongo_uri`` where it is ours to kill and to start again; otherwise the test is left out."""
    if os.environ.get(URI):
        pytest.skip(f"The server of {URI} is not killed")
    return request.getfixturevalue("mongo_server")


@pytest.fixture
def jfr_binaries(warm_commands: WarmCommands) -> Path:
    """Folder of the ``jf`` that tests, runners and jobs call; a test may take the installed one instead."""
    return warm_commands.bin


@pytest.fixture
def jfr_project(
    mongo_uri: str, jfr_binaries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RemoteProject]:
    """An empty jobflow-remote project in a database of its own, which is dropped after the test."""
    project = RemoteProject(tmp_path, mongo_uri, f"cryslator_test_{secrets.token_hex(6)}", jfr_binaries)
    settings = {"config_file": str(tmp_path / "none.yaml"), "projects_folder": str(project.projects), "project": NAME}
    for name, value in settings.items():
        monkeypatch.setenv(f"JFREMOTE_{name.upper()}", value)
        monkeypatch.setattr(jobflow_remote.SETTINGS, name, value)
    for folder in (Path(sys.executable).parent, jfr_binaries):
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    project.controller.reset()
    yield project
    project.close()
