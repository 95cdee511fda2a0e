"""Model folders: where they are, what is in them, reading and writing them."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from cryslator_flows.errors import ModelError, nearest
from cryslator_flows.schemas import StrictModel
from cryslator_flows.settings import SETTINGS

if TYPE_CHECKING:
    from torch import Tensor

    from cryslator_flows.translator.calibration import Calibration
    from cryslator_flows.translator.network import Network
    from cryslator_flows.translator.reference.network import ReferenceNetwork

logger = logging.getLogger(__name__)

CONFIG, WEIGHTS, CALIBRATION = "config.json", "model.safetensors", "calibration.safetensors"
METRICS, CARD, RECIPE = "metrics.json", "README.md", "recipe.yaml"
FORMAT_VERSION = 2
FORMATION_ENERGY = "formation_energy_per_atom"


ModelType = Literal["cryslator", "cryslator-2023"]


class ModelConfig(StrictModel):
    """Content of a model folder's ``config.json``."""

    model_type: ModelType = Field("cryslator", description="Kind of network: today's, or the paper's system")
    format_version: int = Field(FORMAT_VERSION, description="Layout of the folder")
    name: str = Field(description="Name of the model, that of its folder")
    target: str = Field(FORMATION_ENERGY, description="What is predicted beside the structure")
    unit: str = Field("eV/atom", description="Unit of the target")
    network: dict[str, bool | int | float] = Field(description="Arguments of NetworkConfig or ReferenceConfig")
    elements: list[str] = Field(description="Elements the model was trained on")


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk.

    Parameters
    ----------
    path : Path
        The folder.
    """

    path: Path

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.path.name

    def config(self) -> ModelConfig:
        """Read and check ``config.json``.

        Raises
        ------
        ModelError
            The file cannot be read or a field is wrong.
        """
        path = self.path / CONFIG
        try:
            content = json.loads(path.read_text())
            if isinstance(content, dict) and content.get("format_version") != FORMAT_VERSION:
                raise ModelError(
                    f"{path}, format_version: this version of cryslator-flows reads models of format {FORMAT_VERSION}, "
                    f"this one has {content.get('format_version')}; "
                    f"retrain it with `cryslator train {self.path / RECIPE}`, or install the version that wrote it"
                )
            return ModelConfig.model_validate(content)
        except (OSError, ValueError) as error:
            detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise ModelError(f"{path}: cannot be read ({detail}); install or train the model again") from error

    def version(self) -> str:
        """First 12 digits of the SHA-256 of weights and calibration."""
        digest = hashlib.sha256()
        for name in (WEIGHTS, CALIBRATION):
            try:
                digest.update((self.path / name).read_bytes())
            except OSError as error:
                raise ModelError(
                    f"{self.path / name}: cannot be read ({error.strerror}); install or train the model again"
                ) from error
        return digest.hexdigest()[:12]

    def metrics(self) -> dict[str, Any]:
        """Content of ``metrics.json``, empty if the model was never evaluated."""
        path = self.path / METRICS
        return json.loads(path.read_text()) if path.is_file() else {}

    def network(self) -> Network | ReferenceNetwork:
        """Load the network, in evaluation mode.

        Raises
        ------
        ModelError
            A file is missing, truncated, or does not fit the other.
        """
        from cryslator_flows.translator.network import Network, NetworkConfig
        from cryslator_flows.translator.reference.network import ReferenceConfig, ReferenceNetwork

        config = self.config()
        network: Network | ReferenceNetwork
        try:
            if config.model_type == "cryslator":
                network = Network(NetworkConfig(**config.network))  # type: ignore[arg-type]
            else:
                network = ReferenceNetwork(ReferenceConfig(**config.network))  # type: ignore[arg-type]
        except (TypeError, RuntimeError) as error:
            raise ModelError(f"{self.path / CONFIG}, network: {error}; install or train the model again") from error
        state = self._load(WEIGHTS)
        try:
            network.load_state_dict({name: value.float() if value.is_floating_point() else value
                                     for name, value in state.items()})  # fmt: skip
        except RuntimeError as error:
            first = str(error).strip().splitlines()[0]
            raise ModelError(
                f"{self.path / WEIGHTS}: weights of another network ({first}); install the model again"
            ) from error
        return network.eval().requires_grad_(False)

    def calibration(self) -> Calibration:
        """Load what was fitted on the validation pairs.

        Raises
        ------
        ModelError
            The file is missing, truncated or incomplete.
        """
        from cryslator_flows.translator.calibration import Calibration

        try:
            return Calibration.from_state(self._load(CALIBRATION))
        except KeyError as error:
            raise ModelError(f"{self.path / CALIBRATION}: lacks {error}; install or train the model again") from error

    def _load(self, name: str) -> dict[str, Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(self.path / name)
        except (OSError, SafetensorError) as error:
            first = str(error).strip().splitlines()[0]
            raise ModelError(
                f"{self.path / name}: damaged or truncated weights ({first}); install the model again"
            ) from error


def model_roots() -> list[Path]:
    """Folders that may hold models: the user's own, the installed package's, the checkout's."""
    package = Path(str(files("cryslator_flows")))
    return [*SETTINGS.model_dirs, package / "models", package.parent / "models"]


def list_models() -> dict[str, ModelFolder]:
    """All models by name; of two with one name, the first root's."""
    found: dict[str, ModelFolder] = {}
    for root in model_roots():
        for config in sorted(root.glob(f"*/{CONFIG}")):
            found.setdefault(config.parent.name, ModelFolder(config.parent))
    return found


def find_model(name: str | Path) -> ModelFolder:
    """Find a model by name, or by the path of its folder.

    Raises
    ------
    ModelError
        There is none; the message names those there are.
    """
    folder = Path(name)
    if (folder / CONFIG).is_file():
        return ModelFolder(folder)
    models = list_models()
    if str(name) not in models:
        known = nearest(str(name), models)
        if not models:
            known = "none found; set CRYSLATOR_MODEL_DIRS to the folder that holds them"
        elif len(folder.parts) > 1:
            known = f"there is no such model folder; by name, {known}"
        raise ModelError(f"model {str(name)!r}: unknown; {known}")
    return models[str(name)]


def save_model(folder: Path, config: ModelConfig, weights: dict[str, Tensor], calibration: Calibration) -> ModelFolder:
    """Write configuration, weights and calibration of a model.

    Parameters
    ----------
    folder : Path
        The model's folder; its name is the model's.
    config : ModelConfig
        Content of ``config.json``.
    weights : dict
        State of the network.
    calibration : Calibration
        What was fitted on the validation pairs.

    Returns
    -------
    ModelFolder
        What was written.
    """
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    for name, state in ((WEIGHTS, weights), (CALIBRATION, calibration.state())):
        (folder / name).write_bytes(save({key: value.cpu().contiguous() for key, value in state.items()}))
    (folder / CONFIG).write_text(config.model_dump_json(indent=2) + "\n")
    logger.info("wrote %s", folder)
    return ModelFolder(folder)
