"""Model folders: where they are, what is in them, reading and writing them."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from cryslator_flows.errors import ModelError
from cryslator_flows.schemas import StrictModel
from cryslator_flows.settings import SETTINGS

if TYPE_CHECKING:
    from torch import Tensor

    from cryslator_flows.translator.network import Network

logger = logging.getLogger(__name__)

CONFIG, WEIGHTS, METRICS, CARD, RECIPE = "config.json", "model.safetensors", "metrics.json", "README.md", "recipe.yaml"


class ModelConfig(StrictModel):
    """Content of a model folder's ``config.json``."""

    model_type: str = Field("cryslator", pattern="^cryslator$", description="Kind of network")
    format_version: int = Field(1, ge=1, le=1, description="Layout of the folder")
    name: str = Field(description="Name of the model, that of its folder")
    network: dict[str, int | float] = Field(description="Arguments of NetworkConfig")
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
            return ModelConfig.model_validate(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise ModelError(f"{path}: cannot be read ({detail}); install or train the model again") from error

    def version(self) -> str:
        """First 12 digits of the SHA-256 of the weights."""
        try:
            return hashlib.sha256((self.path / WEIGHTS).read_bytes()).hexdigest()[:12]
        except OSError as error:
            raise ModelError(
                f"{self.path / WEIGHTS}: cannot be read ({error.strerror}); install or train the model again"
            ) from error

    def metrics(self) -> dict[str, Any]:
        """Content of ``metrics.json``, empty if the model was never evaluated."""
        path = self.path / METRICS
        return json.loads(path.read_text()) if path.is_file() else {}

    def network(self) -> Network:
        """Load the network, in evaluation mode.

        Raises
        ------
        ModelError
            A file is missing, truncated, or does not fit the other.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from cryslator_flows.translator.network import Network, NetworkConfig

        config, path = self.config(), self.path / WEIGHTS
        try:
            network = Network(NetworkConfig(**config.network))  # type: ignore[arg-type]
            network.load_state_dict(load_file(path))
        except (OSError, SafetensorError, RuntimeError, TypeError) as error:
            first = str(error).strip().splitlines()[0]
            raise ModelError(f"{path}: damaged or truncated weights ({first}); install the model again") from error
        return network.eval().requires_grad_(False)


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
        known = ", ".join(models) or "none found; set CRYSLATOR_MODEL_DIRS to the folder that holds them"
        raise ModelError(f"model {str(name)!r}: unknown; choose from: {known}")
    return models[str(name)]


def save_model(folder: Path, weights: dict[str, Tensor], network: Network, elements: list[str]) -> ModelFolder:
    """Write configuration and weights of a model.

    Parameters
    ----------
    folder : Path
        The model's folder; its name is the model's.
    weights : dict
        State of the network.
    network : Network
        The network, for its shape.
    elements : list of str
        Elements of the training data.

    Returns
    -------
    ModelFolder
        What was written.
    """
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    config = ModelConfig(name=folder.name, network=asdict(network.config), elements=elements)
    (folder / WEIGHTS).write_bytes(save({name: value.contiguous() for name, value in weights.items()}))
    (folder / CONFIG).write_text(config.model_dump_json(indent=2) + "\n")
    logger.info("wrote %s", folder)
    return ModelFolder(folder)
