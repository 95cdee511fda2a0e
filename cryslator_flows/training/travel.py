"""Models inside documents, for workers that share no disk."""

from __future__ import annotations

import base64
from pathlib import Path

from cryslator_flows.documents.rounds import TunedModel
from cryslator_flows.errors import ModelError
from cryslator_flows.training.new_model import new_model
from cryslator_flows.translator.model_folder import MODEL_FILES, ModelFolder, version_of, write_files


def pack_model(model: ModelFolder, base: str) -> TunedModel:
    """Put the files that translate into a document. It takes some 6 MB for a model like ``cryslator-universal``.

    Parameters
    ----------
    model : ModelFolder
        The model.
    base : str
        Name of the base of the fine-tuning.
    """
    return TunedModel(
        name=model.config().name,
        version=model.version(),
        base=base,
        files={name: base64.b64encode(model.read(name)).decode() for name in MODEL_FILES},
    )


def unpack_model(model: TunedModel, folder: Path) -> ModelFolder:
    """Write a model from a document into a folder of its name.

    Parameters
    ----------
    model : TunedModel
        The model.
    folder : Path
        Parent of the model's folder.

    Raises
    ------
    ModelError
        The files differ from the packed files, or the name is not a folder name. No file is written.
    """
    if Path(model.name).name != model.name or model.name[:1] in ("", "."):
        raise ModelError(f"model {model.name!r}: no name of a folder; the document was not written by a campaign")
    try:
        content = {name: base64.b64decode(model.files[name], validate=True) for name in MODEL_FILES}
        found = version_of(content)
    except (KeyError, ValueError):
        found = "unreadable"
    if found != model.version:
        raise ModelError(
            f"model {model.name!r}: its files are of version {found}, not {model.version}; the document was damaged, "
            "run the job that learnt it again"
        )
    with new_model(folder / model.name) as place:
        write_files(place, content)
    return ModelFolder(folder / model.name)
