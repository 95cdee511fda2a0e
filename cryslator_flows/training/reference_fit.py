"""Fit the paper's system to a prepared tensor file, stage by stage, on any machine with torch and numpy.

``python -m cryslator_flows.training.reference_fit prepared.npz RUN_DIR`` does the whole fit. ``cryslator train``
calls the same function and then writes the model folder. All stages share one split. Each keeps the weights that
are best on the validation pairs.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cryslator_flows.errors import CryslatorError
from cryslator_flows.training.checkpoint import sole_training
from cryslator_flows.training.fit_settings import torch_threads
from cryslator_flows.training.reference_stages import (
    EnergyStage,
    StageProgress,
    StructureStage,
    TrainingStage,
    TranslationStage,
)
from cryslator_flows.training.tensors import (
    Pairs,
    concatenate,
    digest,
    from_arrays,
    load_arrays,
    relaxed_inputs,
    with_energy,
)
from cryslator_flows.translator.reference.feature_translation import Discriminator
from cryslator_flows.translator.reference.reference_network import BASELINES, ReferenceConfig, ReferenceNetwork

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@dataclass(frozen=True)
class ReferenceFitConfig:
    """Settings of the fit of the paper's system.

    Parameters
    ----------
    energy_minutes : float
        Training time of each of the three graph convolution networks, in minutes.
    translation_minutes, cell_minutes, position_minutes : float
        Training time of the generator and of the two structure predictors, in minutes.
    generator_rate, discriminator_rate : float
        Learning rates. Defaults are the rates of the paper.
    feature_noise : float
        Standard deviation of the Gaussian noise on unrelaxed features. The paper does not state its value.
    threads : int
        Torch threads. 0 leaves torch's choice.
    """

    energy_minutes: float = 60.0
    translation_minutes: float = 120.0
    cell_minutes: float = 60.0
    position_minutes: float = 60.0
    generator_rate: float = 1e-4
    discriminator_rate: float = 3e-6
    feature_noise: float = 0.01
    threads: int = 0


@torch.no_grad()
def encode(network: ReferenceNetwork, pairs: Pairs, device: str) -> Tensor:
    """Return crystal features of pairs' inputs by the encoder for relaxed crystals, [pairs, feature]."""
    parts = []
    for rows in torch.arange(len(pairs)).split(256):
        crystals = pairs.take(rows).to(device).unrelaxed
        parts.append(network.baseline("R").eval().encode(crystals, network.find_edges(crystals)))
    return torch.cat(parts)


@torch.no_grad()
def encode_and_translate(network: ReferenceNetwork, pairs: Pairs, device: str) -> tuple[Pairs, Tensor, Tensor]:
    """Return pairs with the encoded and translated features of their inputs."""
    encoded = encode(network, pairs, device)
    translated = torch.cat([network.generator.translate(part) for part in encoded.split(256)])
    return pairs, encoded, translated


def fit_reference(
    prepared: Path, run_dir: Path, report: Callable[[StageProgress], None]
) -> tuple[ReferenceNetwork, list[TrainingStage]]:
    """Fit all stages, or continue a stopped run.

    Parameters
    ----------
    prepared : Path
        File of `cryslator_flows.training.prepare.prepare`, which has the settings.
    run_dir : Path
        Folder with one checkpoint for each stage.
    report : callable
        Called after every epoch of a stage.

    Returns
    -------
    ReferenceNetwork, list of TrainingStage
        The finished system and its stages.

    Raises
    ------
    DataError
        A checkpoint in `run_dir` belongs to another recipe or to other data, or a file is damaged.
    """
    arrays = load_arrays(prepared)
    settings = json.loads(bytes(arrays.pop("settings").tolist()))["reference"]
    config = ReferenceFitConfig(**settings["fit"])
    with torch_threads(config.threads):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.manual_seed(0)
        network = ReferenceNetwork(ReferenceConfig(**settings["network"])).to(device)
        discriminator = Discriminator(network.config.channels).to(device)
        train, val, relaxed = (from_arrays(arrays, name) for name in ("train", "val", "relaxed"))
        recipe = {**settings, "pairs": digest(train, val, relaxed)}
        run_dir.mkdir(parents=True, exist_ok=True)
        stages: list[TrainingStage] = []

        def run(stage: TrainingStage) -> None:
            stage.run(run_dir / f"{stage.name}.npz", recipe, report)
            stages.append(stage)

        known, known_val = with_energy(train), with_energy(val)
        inputs = {
            "R": (with_energy(relaxed), relaxed_inputs(known_val)),
            "U": (known, known_val),
            "R+U": (
                concatenate(known, with_energy(relaxed)),
                concatenate(known_val, relaxed_inputs(known_val)),
            ),
        }
        for name in BASELINES:
            run(EnergyStage(name, network, *inputs[name], config.energy_minutes, device))

        features, features_val = (
            (encode(network, pairs, device), encode(network, relaxed_inputs(pairs), device)) for pairs in (train, val)
        )
        rates = config.generator_rate, config.discriminator_rate
        minutes, noise = config.translation_minutes, config.feature_noise
        run(TranslationStage(network.generator, discriminator, features, features_val, minutes, rates, noise))

        both = encode_and_translate(network, concatenate(train, relaxed), device)
        both_val = encode_and_translate(network, concatenate(val, relaxed_inputs(val)), device)
        run(StructureStage("cell", network, both, both_val, config.cell_minutes, device))
        run(StructureStage("position", network, both, both_val, config.position_minutes, device))
        return network.eval(), stages


if __name__ == "__main__":
    try:
        with sole_training(Path(sys.argv[2])):
            fit_reference(Path(sys.argv[1]), Path(sys.argv[2]), lambda progress: print(progress.describe(), flush=True))
    except CryslatorError as error:
        sys.exit(f"Error: {error}")
