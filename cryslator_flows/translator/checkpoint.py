"""Checkpoints of fits: arrays in an ``.npz`` file, never pickles. Torch and numpy only."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cryslator_flows.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write arrays; the file is replaced in one move, so that a stop leaves the old or the new one.

    Raises
    ------
    StoreError
        The disk is full, say; the old file is left as it was.
    """
    scratch = path.with_name(path.name + ".partial")
    try:
        with scratch.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); free some space, then give the same command again, which "
            "continues from what was written before"
        ) from error


def moments_to_arrays(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Any]:
    """State of an optimiser as named arrays."""
    state = optimizer.state_dict()["state"]
    return {
        f"{prefix}/{index}/{name}": value.cpu().numpy() for index, row in state.items() for name, value in row.items()
    }


def restore_moments(optimizer: torch.optim.Optimizer, moments: dict[int, dict[str, Tensor]]) -> None:
    """Inverse of `moments_to_arrays`."""
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
