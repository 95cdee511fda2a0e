"""The recipe of a model: what it is trained from and how."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from cryslator_flows.errors import DataError
from cryslator_flows.schemas import StrictModel
from cryslator_flows.translator.fit import FitConfig
from cryslator_flows.translator.network import NetworkConfig


class CardText(StrictModel):
    """Parts of a model card that are not measured."""

    aim: str = Field("Not stated.", description="What the model is for")
    data: str = Field("Not stated.", description="What it was trained on, with source")
    licence: str = Field("Not stated.", description="Licence of the weights")
    limits: str = Field("Not stated.", description="Where it must not be trusted")


class Recipe(StrictModel):
    """What a model is trained from and how; the file ``recipe.yaml`` of a model folder."""

    name: str = Field(description="Name of the model, that of its folder", pattern=r"^[a-z0-9][a-z0-9.-]*$")
    train: Path = Field(description="Training pairs, .jsonl or .jsonl.gz")
    val: Path = Field(description="Pairs for model selection, .jsonl or .jsonl.gz")
    test: Path | None = Field(None, description="Pairs the finished model is scored on, once")
    relaxed: Path | None = Field(None, description="Relaxed crystals to denoise; rows of other splits are left out")
    card: CardText = Field(default_factory=lambda: CardText(), description="What the model card says in words")
    network: NetworkConfig = Field(default_factory=NetworkConfig, description="Shape of the network")
    fit: FitConfig = Field(default_factory=FitConfig, description="How the network is fitted")

    @classmethod
    def from_file(cls, path: Path, data_dir: Path | None = None) -> Recipe:
        """Read a recipe; relative paths in it count from `data_dir`, or from its own folder.

        Raises
        ------
        DataError
            The file cannot be read or a field is wrong; the message names both.
        """
        try:
            content = yaml.safe_load(path.read_text())
            recipe = cls.model_validate(content)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise DataError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "recipe"
            raise DataError(f"{path}, {where}: {first['msg']}; fields: {', '.join(cls.model_fields)}") from error
        for name in ("train", "val", "test", "relaxed"):
            if (value := getattr(recipe, name)) is not None:
                setattr(recipe, name, (data_dir or path.parent) / value)
        return recipe
