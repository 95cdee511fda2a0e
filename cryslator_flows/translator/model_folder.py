"""Model folders: search, content, reading and writing."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationError

from cryslator_flows.config import StrictModel
from cryslator_flows.errors import ModelError, nearest
from cryslator_flows.settings import SETTINGS
from cryslator_flows.system.whole_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from cryslator_flows.translator.calibration import Calibration
    from cryslator_flows.translator.network import Network
    from cryslator_flows.translator.reference.reference_network import ReferenceNetwork

CONFIG, WEIGHTS, CALIBRATION = "config.json", "model.safetensors", "calibration.safetensors"
METRICS, CARD, RECIPE = "metrics.json", "README.md", "recipe.yaml"
CURVE, FEATURE_MAP, FEATURE_NUMBERS = "curve.png", "feature-map.png", "feature-map.json"
# Files that determine a translation, in the order of the version's hash.
MODEL_FILES = WEIGHTS, CALIBRATION, CONFIG
FORMAT_VERSION = 2
FORMATION_ENERGY = "formation_energy_per_atom"
# The largest network within the limits below takes 2 GiB.
LARGEST_FILE = 4 * 2**30

# Range of each number of a network. Numbers beyond it fill the memory or take endless time.
LIMITS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("width", "vectors", "cell_width", "position_width", "feature"), (1, 1024)),
    **dict.fromkeys(("encoder_layers", "layers", "cell_layers", "position_layers"), (1, 20)),
    "translator_layers": (0, 20),
    "cutoff": (1, 12),
    "neighbors": (1, 200),
    "radial": (2, 256),
    "element_properties": (1, 100),
    "passes": (1, 20),
    "channels": (1, 128),
}

ModelType = Literal["cryslator", "cryslator-2023"]
NetworkNumbers = dict[str, bool | int | float]


def check_network(numbers: NetworkNumbers) -> NetworkNumbers:
    """Return the arguments of a network if all lie within `LIMITS`, without options that are off.

    Models of version 0.1 name such an option, which is gone.

    Raises
    ------
    ValueError
        A number is missing, too small or too large.
    """
    for name, value in numbers.items():
        if name in LIMITS:
            least, most = LIMITS[name]
            kind = int | float if name == "cutoff" else int
            if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
                what = "number" if name == "cutoff" else "whole number"
                raise ValueError(f"network.{name}: {value!r} is not a {what} from {least} to {most}")
    return {name: value for name, value in numbers.items() if value is not False}


class ModelConfig(StrictModel):
    """Content of a model folder's ``config.json``."""

    # The message of the network's check contains the name of the number.
    model_config = ConfigDict(allow_inf_nan=True)

    model_type: ModelType = Field("cryslator", description="Kind of network: today's, or the paper's system")
    format_version: int = Field(FORMAT_VERSION, description="Layout of the folder")
    name: str = Field(description="Name of the model and of its folder")
    target: str = Field(FORMATION_ENERGY, description="Quantity that is predicted beside the structure")
    unit: str = Field("eV/atom", description="Unit of the target")
    network: Annotated[NetworkNumbers, AfterValidator(check_network)] = Field(
        description="Arguments of NetworkConfig or ReferenceConfig"
    )
    elements: list[str] = Field(description="Elements in the training data of the model")


def version_of(content: Mapping[str, bytes]) -> str:
    """Return the first 12 digits of the SHA-256 of weights, calibration and configuration."""
    digest = hashlib.sha256()
    for name in MODEL_FILES:
        digest.update(content[name])
    return digest.hexdigest()[:12]


@dataclass(frozen=True)
class ModelFolder:
    """Model on disk.

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
            content = json.loads(self.read(CONFIG))
            if isinstance(content, dict) and content.get("format_version") != FORMAT_VERSION:
                raise ModelError(
                    f"{path}, format_version: this version of cryslator-flows reads models of format {FORMAT_VERSION}, "
                    f"this one has {content.get('format_version')}; "
                    f"retrain it with `cryslator train {self.path / RECIPE}`, or install the version that wrote it"
                )
            return ModelConfig.model_validate(content)
        except (ValueError, RecursionError) as error:
            if isinstance(error, ModelError):
                raise
            detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise ModelError(f"{path}: cannot be read ({detail}); install or train the model again") from error

    def read(self, name: str) -> bytes:
        """Read a file of the model.

        Raises
        ------
        ModelError
            The file is missing, not a regular file, or larger than any model.
        """
        path = self.path / name
        try:
            size = path.stat().st_size
            if path.is_file() and size <= LARGEST_FILE:
                return path.read_bytes()
            reason = f"{size:,} bytes" if path.is_file() else "not a regular file"
        except OSError as error:
            reason = str(error.strerror)
        raise ModelError(f"{path}: cannot be read ({reason}); install or train the model again")

    def version(self) -> str:
        """Return the version, see `version_of`.

        Raises
        ------
        ModelError
            A file cannot be read, or ``metrics.json`` was written for other files.
        """
        found = version_of({name: self.read(name) for name in MODEL_FILES})
        stated = self.metrics().get("model_version", found)
        if stated != found:
            raise ModelError(
                f"{self.path}: {WEIGHTS}, {CALIBRATION} or {CONFIG} changed after the model was measured (they are "
                f"version {found}, {METRICS} is of {stated}); install or train the model again"
            )
        return found

    def metrics(self) -> dict[str, Any]:
        """Return the content of ``metrics.json``; empty if the model was never evaluated.

        Raises
        ------
        ModelError
            The file is damaged.
        """
        if not (self.path / METRICS).exists():
            return {}
        try:
            content = json.loads(self.read(METRICS))
        except (ValueError, RecursionError) as error:
            if isinstance(error, ModelError):
                raise
            content = None
        if not isinstance(content, dict):
            raise ModelError(f"{self.path / METRICS}: damaged, no JSON object; install or train the model again")
        return content

    def network(self) -> Network | ReferenceNetwork:
        """Load the network, in evaluation mode.

        Raises
        ------
        ModelError
            A file is missing, truncated, or does not fit another file.
        """
        from cryslator_flows.translator.network import Network, NetworkConfig
        from cryslator_flows.translator.reference.reference_network import ReferenceConfig, ReferenceNetwork

        config = self.config()
        network: Network | ReferenceNetwork
        try:
            if config.model_type == "cryslator":
                network = Network(NetworkConfig(**config.network))  # type: ignore[arg-type]
            else:
                network = ReferenceNetwork(ReferenceConfig(**config.network))  # type: ignore[arg-type]
        except (TypeError, RuntimeError) as error:
            raise ModelError(f"{self.path / CONFIG}, network: {error}; install or train the model again") from error
        state = self.tensors(WEIGHTS)
        try:
            network.load_state_dict({name: value.float() if value.is_floating_point() else value
                                     for name, value in state.items()})  # fmt: skip
        except RuntimeError as error:
            first = str(error).strip().splitlines()[0]
            raise ModelError(
                f"{self.path / WEIGHTS}: weights of another network ({first}); install the model again"
            ) from error
        # The network makes its tables in torch's default precision, which may differ.
        return network.float().eval().requires_grad_(False)

    def calibration(self) -> Calibration:
        """Load the calibration on the validation pairs.

        Raises
        ------
        ModelError
            The file is missing, truncated or incomplete.
        """
        from cryslator_flows.translator.calibration import Calibration

        path = self.path / CALIBRATION
        try:
            found = Calibration.from_state(self.tensors(CALIBRATION))
        except KeyError as error:
            raise ModelError(
                f"{path}: lacks {error}; run `cryslator calibrate {self.path} --data DIR` with the folder of its "
                "validation pairs, or install the model again"
            ) from error
        config = self.config().network
        width = config.get("feature", config.get("width"))
        shapes = {"scale": (3,), "quantiles": (6, 2), "limit": (), "widest": (), "element_volumes": (119,)}
        wrong = [name for name, shape in shapes.items() if getattr(found, name).shape != shape]
        if wrong or found.known.dim() != 2 or found.known.shape[1] != width:
            raise ModelError(f"{path}: {(wrong or ['known'])[0]} has another shape; install or train the model again")
        return found

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Read the tensors of a file of the model, by name.

        Raises
        ------
        ModelError
            The file is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return load(self.read(name))
        except SafetensorError as error:
            first = str(error).strip().splitlines()[0]
            raise ModelError(
                f"{self.path / name}: damaged or truncated weights ({first}); install the model again"
            ) from error


def model_roots() -> list[Path]:
    """Return the folders that may hold models: the user's own, the installed package's, the checkout's."""
    package = Path(str(files("cryslator_flows")))
    return [*SETTINGS.model_dirs, package / "models", package.parent / "models"]


def list_models() -> dict[str, ModelFolder]:
    """Return all models by name. Of two models with one name, the first root's is returned."""
    found: dict[str, ModelFolder] = {}
    for root in model_roots():
        for config in sorted(root.glob(f"[!.]*/{CONFIG}")):
            found.setdefault(config.parent.name, ModelFolder(config.parent))
    return found


def find_model(name: str | Path) -> ModelFolder:
    """Find a model by name, or by the path of its folder.

    Raises
    ------
    ModelError
        No such model exists. The message names the models found.
    """
    folder = Path(name)
    with suppress(OSError):  # a name may be too long for a file
        if (folder / CONFIG).is_file():
            return ModelFolder(folder)
    models = list_models()
    if str(name) not in models:
        known = nearest(folder.name, models)
        if not models:
            known = "none found; set CRYSLATOR_MODEL_DIRS to the folder that holds them"
        elif len(folder.parts) > 1:
            known = f"no such model folder; by name, {known}"
        raise ModelError(f"model {str(name)!r}: unknown; {known}")
    return models[str(name)]


def save_model(folder: Path, config: ModelConfig, weights: dict[str, Tensor], calibration: Calibration) -> ModelFolder:
    """Write configuration, weights and calibration of a model into a folder from `new_model`.

    Parameters
    ----------
    folder : Path
        The folder.
    config : ModelConfig
        Content of ``config.json``.
    weights : dict
        State of the network.
    calibration : Calibration
        Calibration on the validation pairs.

    Returns
    -------
    ModelFolder
        The model that was written.
    """
    from safetensors.torch import save

    content = {
        name: save({key: value.cpu().contiguous() for key, value in state.items()})
        for name, state in ((WEIGHTS, weights), (CALIBRATION, calibration.state()))
    }
    content[CONFIG] = (config.model_dump_json(indent=2) + "\n").encode()
    write_files(folder, content)
    return ModelFolder(folder)


def write_files(folder: Path, content: Mapping[str, bytes]) -> None:
    """Write files of a model, each atomically.

    Raises
    ------
    StoreError
        A file cannot be written.
    """
    for name, data in content.items():
        write_whole(folder / name, data)
