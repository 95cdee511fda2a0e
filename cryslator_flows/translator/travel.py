"""Models inside documents, so that they get to workers that share no disk."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from cryslator_flows.errors import ModelError
from cryslator_flows.schemas import TunedModel
from cryslator_flows.translator.pretrained import CALIBRATION, CONFIG, WEIGHTS, ModelFolder

if TYPE_CHECKING:
    from pathlib import Path

FILES = (CONFIG, WEIGHTS, CALIBRATION)


def pack_model(model: ModelFolder, base: str) -> TunedModel:
    """Put the files that translate into a document, some 6 MB for a model like ``cryslator-oxides``.

    Parameters
    ----------
    model : ModelFolder
        The model.
    base : str
        Name of the model it was fine-tuned from.
    """
    return TunedModel(
        name=model.config().name,
        version=model.version(),
        base=base,
        files={name: base64.b64encode((model.path / name).read_bytes()).decode() for name in FILES},
    )


def unpack_model(model: TunedModel, folder: Path) -> ModelFolder:
    """Write a model of a document into a folder of its name.

    Parameters
    ----------
    model : TunedModel
        The model.
    folder : Path
        Where its folder goes.

    Raises
    ------
    ModelError
        The files are not those that were packed.
    """
    path = folder / model.name
    path.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (path / name).write_bytes(base64.b64decode(model.files[name]))
    written = ModelFolder(path)
    if written.version() != model.version:
        raise ModelError(
            f"model {model.name!r}: its files are of version {written.version()}, not {model.version}; the document "
            "was damaged, run the job that learnt it again"
        )
    return written
