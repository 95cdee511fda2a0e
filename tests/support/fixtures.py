"""Fixtures of all tests, with what is slow to import: the process that only hands tests to workers does without."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from pymatgen.core import SETTINGS, Element, Lattice, Structure

from cryslator_flows.cli.main import main
from cryslator_flows.translator.calibration import Calibration
from cryslator_flows.translator.chemistry import Seen
from cryslator_flows.translator.model_folder import ModelConfig, ModelFolder, save_model
from cryslator_flows.translator.network import Network, NetworkConfig
from tests.support.fake_vasp.install import write_executables, write_potcars
from tests.support.warm import WarmCommands


@pytest.fixture
def perovskite() -> Structure:
    # Without its space group, which takes pymatgen 30 ms.
    oxygens = [[0.5, 0, 0.5], [0, 0.5, 0.5], [0.5, 0.5, 0]]
    return Structure(Lattice.cubic(3.9), ["Ca", "Ti", "O", "O", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], *oxygens])


@pytest.fixture
def rutile() -> Structure:
    lattice = Lattice.tetragonal(4.6, 2.95)
    return Structure.from_spacegroup("P4_2/mnm", lattice, ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]])


@pytest.fixture(scope="session")
def built_tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real network of small size with random weights, which no test changes."""
    torch.manual_seed(0)
    config = NetworkConfig(width=16, vectors=8, encoder_layers=1, translator_layers=1, neighbors=12, radial=6)
    network = Network(config, element_volumes=torch.full((119,), 11.0))
    calibration = Calibration(
        scale=torch.tensor([0.0, 1.0, 0.0]),
        quantiles=torch.tensor([1.0, 2.0]).repeat(6, 1),
        known=torch.zeros(3, 16),
        limit=torch.tensor(100.0),
        widest=torch.tensor(torch.inf),
        element_volumes=torch.full((119,), 11.0),
        seen=Seen(torch.zeros(6, 119), torch.full((21,), 20.0)),
    )
    elements = ["Ca", "Mn", "O", "Ti"]
    calibration.seen.elements[:, [Element(symbol).Z for symbol in elements]] = 100
    description = ModelConfig(name="tiny", network=asdict(config), elements=elements)
    folder = tmp_path_factory.mktemp("built") / "tiny"
    return save_model(folder, description, network.state_dict(), calibration).path


@pytest.fixture
def tiny_model(built_tiny_model: Path, tmp_path: Path) -> ModelFolder:
    """The small model in a folder of the test's own."""
    return ModelFolder(shutil.copytree(built_tiny_model, tmp_path / "models" / "tiny"))


@pytest.fixture
def run(monkeypatch, capfd):
    """Run the command line in this process: exit code, output and errors, line breaks of the terminal undone."""

    def call(*arguments):
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["cryslator", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        else:
            code = 0
        captured = capfd.readouterr()
        return code, " ".join(captured.out.split()), " ".join(captured.err.split())

    return call


@pytest.fixture(scope="session")
def warm_commands() -> Iterator[WarmCommands]:
    """Commands that start in milliseconds, see tests/support/warm."""
    with WarmCommands.of_the_run() as commands:
        yield commands


@pytest.fixture
def python(warm_commands: WarmCommands) -> Path:
    """A Python that starts in milliseconds, for scripts."""
    return warm_commands.bin / "python-script"


@pytest.fixture
def screen(warm_commands: WarmCommands) -> list[str]:
    """The command ``cryslator screen`` in a process of its own, which may be killed."""
    return [str(warm_commands.bin / "cryslator"), "screen"]


@pytest.fixture(scope="session")
def fake_vasp_files(tmp_path_factory: pytest.TempPathFactory, warm_commands: WarmCommands) -> Path:
    """Folders bin and potcars of the test double of VASP, see tests/support/fake_vasp."""
    folder = tmp_path_factory.mktemp("fake_vasp")
    write_executables(folder / "bin", warm_commands)
    write_potcars(folder / "potcars", ["Al", "Ba", "Ca", "Fe", "La", "Mg", "Mn", "Ni", "O", "Sn", "Sr", "Ti", "Zr"])
    return folder


@pytest.fixture
def fake_vasp(fake_vasp_files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make vasp_std and vasp_gam the test double; returns an empty folder, the current one."""
    potcars = str(fake_vasp_files / "potcars")
    monkeypatch.setenv("PATH", str(fake_vasp_files / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("PMG_VASP_PSP_DIR", potcars)
    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", potcars)
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
