"""Checkpoints of fits: arrays in an ``.npz`` file, never pickles. Torch, which needs filelock, and numpy only."""

from __future__ import annotations

import json
import zipfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from cryslator_flows.errors import DataError, StoreError
from cryslator_flows.system.whole_files import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray


@contextmanager
def locked(file: Path, aim: str) -> Iterator[None]:
    """Hold the lock on a file. Create the file and its folder if missing.

    Raises
    ------
    StoreError
        Another process holds the lock, or the file cannot be written.
    """
    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise StoreError(f"{file}: held by another process; wait until it ends to {aim}") from error
    except OSError as error:
        raise StoreError(f"{file}: cannot be written ({error.strerror}); name another folder") from error
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink(missing_ok=True)
        lock.release()


def sole_training(run_dir: Path) -> AbstractContextManager[None]:
    """Limit a run folder to one training at a time.

    Raises
    ------
    StoreError
        Another training runs in the folder, or the folder cannot be written.
    """
    return locked(run_dir / "train.lock", "train in this folder, or name another one with --run-dir")


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write arrays. After a stop, the old or the new file is complete, and the same command continues from it.

    Raises
    ------
    StoreError
        The file cannot be written, for example on a full disk. The old file is unchanged.
    """
    with whole_file(path) as file:
        np.savez(file, **arrays)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of `write_arrays`.

    Raises
    ------
    DataError
        The file is missing, damaged, packed (it may fill the memory) or holds pickles.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("packed")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # damaged bytes raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: damaged ({reason}); remove it, then give the same command again") from error


def damaged_checkpoint(path: Path, error: Exception) -> DataError:
    """Return the error about a checkpoint with missing parts or another shape."""
    reason = "weights of another network" if isinstance(error, RuntimeError) else " ".join(str(error).split())
    return DataError(f"{path}: damaged checkpoint ({reason}); remove it to restart")


def check_recipe(path: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Check that a checkpoint belongs to a recipe and its data.

    Parameters
    ----------
    path : Path
        The checkpoint.
    there, here : dict
        Settings and digests of the checkpoint, and of the training that reads it. Only settings of the latter count.

    Raises
    ------
    DataError
        The checkpoint belongs to another recipe or to other data. The message names the first difference.
    """
    if differs := _unlike(there, json.loads(json.dumps(here))):
        raise DataError(
            f"{path}: checkpoint of another recipe ({differs}); restore the recipe, or remove the checkpoint to restart"
        )


def _unlike(there: Any, here: Any, name: str = "") -> str | None:
    """Return the first setting in which two recipes differ; None if none does."""
    if isinstance(there, dict) and isinstance(here, dict):
        found = (_unlike(there.get(key), value, f"{name}.{key}".lstrip(".")) for key, value in here.items())
        return next(filter(None, found), None)
    if there == here:
        return None
    return "other training or validation pairs" if name == "pairs" else f"{name}: {there} there, {here} here"


def moments_to_arrays(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Any]:
    """Return the state of an optimiser as named arrays."""
    state = optimizer.state_dict()["state"]
    return {
        f"{prefix}/{index}/{name}": value.cpu().numpy() for index, row in state.items() for name, value in row.items()
    }


def by_prefix(arrays: dict[str, NDArray[Any]]) -> dict[str, dict[str, Tensor]]:
    """Return arrays named ``prefix/name`` as tensors, by prefix and name."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, array in arrays.items():
        prefix, _, rest = name.partition("/")
        if rest:
            groups.setdefault(prefix, {})[rest] = torch.from_numpy(array)
    return groups


def restore_moments(optimizer: torch.optim.Optimizer, arrays: dict[str, Tensor]) -> None:
    """Restore the state of an optimiser from the arrays of `moments_to_arrays`, without their prefix."""
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in arrays.items():
        index, _, key = name.partition("/")
        moments.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
