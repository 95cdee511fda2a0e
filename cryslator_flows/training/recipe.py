"""Recipe of a model: its data and settings."""

from __future__ import annotations

from dataclasses import asdict
from math import isqrt
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from cryslator_flows.config import StrictModel, read_strict
from cryslator_flows.system.store_specs import absolute
from cryslator_flows.training.fit_settings import FitConfig
from cryslator_flows.training.reference_fit import ReferenceFitConfig
from cryslator_flows.training.round_tuning import REPLAY_SHARE
from cryslator_flows.translator.model_folder import FORMATION_ENERGY, check_network
from cryslator_flows.translator.network import NetworkConfig
from cryslator_flows.translator.reference.reference_network import ReferenceConfig


class CardText(StrictModel):
    """Parts of a model card that are not measured."""

    aim: str = Field("Not stated.", description="Purpose of the model")
    data: str = Field("Not stated.", description="Training data, with source")
    licence: str = Field("Not stated.", description="Licence of the weights")
    limits: str = Field("Not stated.", description="Crystals for which the model must not be trusted")
    deviations: list[str] = Field(default_factory=list, description="Differences from the paper that it follows")


# Smallest side of a crystal feature as an image. The first convolution removes two, and norms need several numbers.
SMALLEST_IMAGE = 4
Shape = TypeVar("Shape", NetworkConfig, ReferenceConfig)


def _check_shape(shape: Shape) -> Shape:
    check_network(asdict(shape))
    if isinstance(shape, ReferenceConfig) and not _is_image(shape.feature):
        raise ValueError(f"network.feature: {shape.feature} is not a square number from 16, such as 64 or 256")
    return shape


def _is_image(feature: int) -> bool:
    """Return True if a crystal feature forms a square image of a size that the generator can take."""
    return isqrt(feature) >= SMALLEST_IMAGE and isqrt(feature) ** 2 == feature


class ReferenceRecipe(StrictModel):
    """Shape and fit of the paper's system."""

    network: Annotated[ReferenceConfig, AfterValidator(_check_shape)] = Field(default_factory=ReferenceConfig)
    fit: ReferenceFitConfig = Field(default_factory=ReferenceFitConfig)


SplitBy = Literal["formula", "crystal"]
Share = Annotated[float, Field(ge=0, lt=1)]
Files = Annotated[list[Path], BeforeValidator(lambda value: value if isinstance(value, list) else [value])]


class TuneConfig(StrictModel):
    """Settings of a fine-tuning by `cryslator train --from`, in place of `fit`."""

    replay: Path | None = Field(
        None,
        description="Old pairs, .jsonl or .jsonl.gz, that keep old knowledge: the training pairs of the base, "
        "or unrelaxed crystals (lines without `relaxed`), whose translation by the base then replaces "
        "the relaxed crystal",
    )
    replay_share: Share = Field(REPLAY_SHARE, description="Share of old pairs in a batch")
    old_val: Path | None = Field(
        None,
        description="Old pairs for model selection and calibration, beside the new ones; a tenth of the formulas of "
        "`replay` if left out",
    )
    old_test: Path | None = Field(None, description="Old pairs for scores of base and tuned model at the end")
    epochs: int = Field(20, ge=1, description="Largest number of passes over the new pairs, each of at least 50 steps")
    minutes: float | None = Field(
        None, gt=0, description="Largest training time in minutes, over all resumed runs; no bound if left out"
    )
    batch_size: int = Field(32, ge=2, description="Pairs in a step, old ones included")
    learning_rate: float = Field(3e-4, gt=0, description="Peak of the schedule: linear warm-up, then cosine decay")
    warmup_steps: int = Field(50, ge=1, description="Steps of the warm-up")
    ema_decay: float = Field(
        0.99, ge=0, lt=1, description="Decay of the running average of the weights, which starts at the base"
    )
    seed: int = Field(0, description="Seed of all random numbers and of the split of `replay`")
    threads: int = Field(0, ge=0, description="Torch threads; 0 leaves torch's choice")

    def to_fit(self) -> FitConfig:
        """Return the settings of the fit. Weight decay is off, as it pulls to zero and not to the base."""
        own = {"epochs", "minutes", "batch_size", "learning_rate", "warmup_steps", "ema_decay", "seed", "threads"}
        return FitConfig(**self.model_dump(include=own), weight_decay=0.0, denoising_share=0.0)


class Recipe(StrictModel):
    """Data and settings of a training: the file ``recipe.yaml`` of a model folder."""

    name: str = Field(description="Name of the model and of its folder", pattern=r"^[a-z0-9][a-z0-9.-]*$")
    train: Files = Field(
        default_factory=list,
        description="Training pairs, one file (.jsonl or .jsonl.gz) or a list; with `val`, or else `pairs`. Of rows "
        "with a column `split`, here and below, only rows of this part are read",
    )
    val: Files = Field(default_factory=list, description="Pairs for model selection, one file or a list")
    test: Files = Field(default_factory=list, description="Pairs for the scores of the finished model")
    pairs: Path | None = Field(
        None, description="All pairs, .jsonl or .jsonl.gz, in place of the three: split by formula of the target"
    )
    shares: tuple[Share, Share, Share] = Field(
        (0.8, 0.1, 0.1),
        description="Shares of the formulas of `pairs` for training, validation and test; one formula each at least",
    )
    split_by: SplitBy = Field(
        "formula",
        description="Items that training lines must not share with validation and test pairs: formulas, also of "
        "templates, or, for the random split of a publication, only the crystals themselves; the card then says so",
    )
    relaxed: Path | None = Field(
        None,
        description="Relaxed crystals to denoise; rows of other splits are left out. The paper's system learns from "
        "the relaxed crystals of the pairs if left out",
    )
    target: str = Field(
        FORMATION_ENERGY, description="Field of the records that is predicted beside the structure, per crystal"
    )
    unit: str = Field("eV/atom", description="Unit of the target")
    card: CardText = Field(default_factory=lambda: CardText(), description="Texts of the model card")
    network: Annotated[NetworkConfig, AfterValidator(_check_shape)] = Field(
        default_factory=NetworkConfig, description="Shape of the network"
    )
    fit: FitConfig = Field(default_factory=FitConfig, description="Settings of the fit")
    tune: TuneConfig = Field(
        default_factory=lambda: TuneConfig(), description="Settings of a fine-tuning with `--from`, in place of `fit`"
    )
    reference: ReferenceRecipe | None = Field(
        None, description="Settings to train the paper's system instead; network and fit are not used"
    )

    @model_validator(mode="after")
    def _one_source_of_pairs(self) -> Recipe:
        if self.pairs is None and not (self.train and self.val):
            raise ValueError("no pairs: name files under train and val, or one file under pairs")
        if self.pairs is not None and (self.train or self.val or self.test):
            raise ValueError("pairs is split into train, val and test; leave those out, or leave out pairs")
        if self.shares[0] == 0 or self.shares[1] == 0:
            raise ValueError("shares of training and validation must be above 0")
        return self

    @classmethod
    def from_file(cls, path: Path | str, data_dir: Path | str | None = None) -> Recipe:
        """Read a recipe. Relative paths in it refer to `data_dir`, or to the recipe's folder.

        Raises
        ------
        DataError
            The file cannot be read or a value is wrong; the message names file, line and key.
        """
        recipe, base = read_strict(path, cls), Path(data_dir or Path(path).parent)
        for part in (recipe, recipe.tune):
            for name, value in dict(part).items():
                if isinstance(value, Path):
                    setattr(part, name, absolute(value, base))
        for name in ("train", "val", "test"):
            setattr(recipe, name, [absolute(file, base) for file in getattr(recipe, name)])
        return recipe
