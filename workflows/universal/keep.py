"""Keep a checkpoint of a long training in a file of half the size, and take the training up again from it.

Example: python workflows/universal/keep.py save runs/train-cryslator-universal/checkpoint.npz kept.npz

`load` with the two files the other way round makes a checkpoint of what was kept. The moments of the optimiser are kept
in half precision. The best weights are those of the running average, until the next validation. So the training goes on
as before, but not to the last digit.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from cryslator_flows.training.checkpoint import write_arrays

SECOND_MOMENT = "exp_avg_sq"


def save(checkpoint: Path, kept: Path) -> None:
    """Write the small file."""
    with np.load(checkpoint, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files if not name.startswith("best/")}
    for name, value in arrays.items():
        if name.startswith("optimizer/") and value.size > 1:
            # Second moments are too small for half precision; their roots are not.
            arrays[name] = (np.sqrt(value) if name.endswith(SECOND_MOMENT) else value).astype(np.float16)
    write_arrays(kept, arrays)


def load(kept: Path, checkpoint: Path) -> None:
    """Write the checkpoint."""
    with np.load(kept, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for name, value in arrays.items():
        if value.dtype == np.float16:
            full = value.astype(np.float32)
            arrays[name] = np.square(full) if name.endswith(SECOND_MOMENT) else full
    arrays |= {
        name.replace("average/", "best/"): value for name, value in arrays.items() if name.startswith("average/")
    }
    state = json.loads(str(arrays["state"]))
    arrays["state"] = np.array(json.dumps({**state, "best": float("inf")}))
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(checkpoint, arrays)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("save", "load"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    {"save": save, "load": load}[arguments.what](arguments.source, arguments.target)


if __name__ == "__main__":
    main()
