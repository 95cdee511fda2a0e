"""The recipe of a model: what it is trained from and how."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from cryslator_flows.schemas import StrictModel
from cryslator_flows.translator.fit import FitConfig
from cryslator_flows.translator.network import NetworkConfig
from cryslator_flows.translator.pretrained import FORMATION_ENERGY
from cryslator_flows.translator.reference.fit import ReferenceFitConfig
from cryslator_flows.translator.reference.network import ReferenceConfig
from cryslator_flows.yaml_files import read_strict


class CardText(StrictModel):
    """Parts of a model card that are not measured."""

    aim: str = Field("Not stated.", description="What the model is for")
    data: str = Field("Not stated.", description="What it was trained on, with source")
    licence: str = Field("Not stated.", description="Licence of the weights")
    limits: str = Field("Not stated.", description="Where it must not be trusted")
    deviations: list[str] = Field(default_factory=list, description="Where it departs from the paper it follows")


class ReferenceRecipe(StrictModel):
    """Shape of the paper's system, and how it is fitted."""

    network: ReferenceConfig = Field(default_factory=ReferenceConfig)
    fit: ReferenceFitConfig = Field(default_factory=ReferenceFitConfig)


class Recipe(StrictModel):
    """What a model is trained from and how; the file ``recipe.yaml`` of a model folder."""

    name: str = Field(description="Name of the model, that of its folder", pattern=r"^[a-z0-9][a-z0-9.-]*$")
    train: Path = Field(description="Training pairs, .jsonl or .jsonl.gz")
    val: Path = Field(description="Pairs for model selection, .jsonl or .jsonl.gz")
    test: Path | None = Field(None, description="Pairs the finished model is scored on, once")
    relaxed: Path | None = Field(None, description="Relaxed crystals to denoise; rows of other splits are left out")
    target: str = Field(
        FORMATION_ENERGY, description="Field of the records that is predicted beside the structure, per crystal"
    )
    unit: str = Field("eV/atom", description="Unit of the target")
    card: CardText = Field(default_factory=lambda: CardText(), description="What the model card says in words")
    network: NetworkConfig = Field(default_factory=NetworkConfig, description="Shape of the network")
    fit: FitConfig = Field(default_factory=FitConfig, description="How the network is fitted")
    reference: ReferenceRecipe | None = Field(
        None, description="Train the paper's system instead; network and fit are not used"
    )

    @classmethod
    def from_file(cls, path: Path, data_dir: Path | None = None) -> Recipe:
        """Read a recipe; relative paths in it count from `data_dir`, or from its own folder.

        Raises
        ------
        DataError
            The file cannot be read or a field is wrong; the message names both.
        """
        recipe = read_strict(path, cls)
        for name in ("train", "val", "test", "relaxed"):
            if (value := getattr(recipe, name)) is not None:
                setattr(recipe, name, (data_dir or path.parent) / value)
        return recipe
