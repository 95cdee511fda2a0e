"""Model folders that are written completely or not at all."""

from __future__ import annotations

import logging
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cryslator_flows.errors import CryslatorError, StoreError
from cryslator_flows.training.checkpoint import locked
from cryslator_flows.translator.model_folder import (
    CARD,
    CONFIG,
    CURVE,
    FEATURE_MAP,
    FEATURE_NUMBERS,
    METRICS,
    MODEL_FILES,
    RECIPE,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

# Files of one training. Other files in the folder are kept.
OWN_FILES = {*MODEL_FILES, METRICS, CARD, RECIPE, CURVE, FEATURE_MAP, FEATURE_NUMBERS}


def check_place(folder: Path) -> None:
    """Check that a model may be written to a folder.

    Raises
    ------
    StoreError
        The folder has files, but neither a model nor a recipe.
    """
    try:
        there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    except OSError as error:
        raise StoreError(f"{folder}: cannot be read as a folder ({error.strerror}); name another one") from error
    if there and not there & {CONFIG, RECIPE}:
        raise StoreError(f"{folder}: holds files but no model; name another folder, or remove it")


@contextmanager
def new_model(folder: Path) -> Iterator[Path]:
    """Yield a folder to build a model in. It replaces `folder` when all files are written.

    Until then an existing model stays unchanged, even if the process is killed.

    Parameters
    ----------
    folder : Path
        The model's folder. Its name is the name of the model.

    Yields
    ------
    Path
        The folder to write to.

    Raises
    ------
    StoreError
        The folder cannot be written, contains something else, or another process builds the same model.
    """
    check_place(folder)
    folder = folder.resolve()
    partial, old = (folder.with_name(f".{folder.name}.{end}") for end in ("partial", "old"))
    with locked(folder.with_name(f".{folder.name}.lock"), "write a model there"):
        try:
            if old.exists() and not folder.exists():
                old.rename(folder)  # a process ended between the two renames below
            for left in (partial, old):
                shutil.rmtree(left, ignore_errors=True)
            partial.mkdir()
            for path in folder.iterdir() if folder.exists() else ():
                if path.name not in OWN_FILES:
                    (shutil.copytree if path.is_dir() else shutil.copy2)(path, partial / path.name)
            yield partial
            if folder.exists():
                folder.rename(old)
            partial.rename(folder)
        except OSError as error:
            if isinstance(error, CryslatorError):
                raise
            raise StoreError(f"{folder}: cannot be written ({error.strerror}); name another folder") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    logger.info("wrote %s", folder)
