"""Checkpoints of fits: arrays in an ``.npz`` file, never pickles. Torch and numpy only."""

from __future__ import annotations

import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cryslator_flows.errors import DataError
from cryslator_flows.whole_files import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write arrays; a stop leaves the old file or the new one, from which the same command continues.

    Raises
    ------
    StoreError
        The disk is full, say; the old file is left as it was.
    """
    with whole_file(path) as file:
        np.savez(file, **arrays)


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Name a checkpoint that cannot be read.

    Raises
    ------
    DataError
        It is damaged.
    """
    try:
        yield
    except DataError:
        raise
    except (OSError, ValueError, KeyError, EOFError, TypeError, RuntimeError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: damaged checkpoint ({reason}); remove it to restart") from error


def moments_to_arrays(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Any]:
    """State of an optimiser as named arrays."""
    state = optimizer.state_dict()["state"]
    return {
        f"{prefix}/{index}/{name}": value.cpu().numpy() for index, row in state.items() for name, value in row.items()
    }


def restore_moments(optimizer: torch.optim.Optimizer, moments: dict[int, dict[str, Tensor]]) -> None:
    """Inverse of `moments_to_arrays`."""
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
