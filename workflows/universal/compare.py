"""Compare widths and passes at equal process time, on validation pairs.

Example: python workflows/universal/compare.py runs/train-cryslator-universal/prepared.npz --minutes 12

Each width is fitted for so many minutes of process time on one thread, its learning rate decaying over them. Each fit
starts from scratch. Rows that are there already stay.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from cryslator_flows.training.fit import Fit, read_settings, thin
from cryslator_flows.training.tensors import load_arrays
from cryslator_flows.training.validation import validate

WIDTHS = 128, 192, 256
VALIDATION = 1500


class BoundedFit(Fit):
    """A fit that ends after some process time, validation apart."""

    bound = 0.0
    began = 0.0
    apart = 0.0

    @property
    def done(self) -> float:
        """Share of the process time that is spent, 0 to 1."""
        return min(1.0, (time.process_time() - self.began - self.apart) / self.bound)

    def validate(self) -> dict[str, float]:
        """Errors on the validation pairs, off the clock."""
        began = time.process_time()
        found = super().validate()
        self.apart += time.process_time() - began
        return found


def main() -> None:
    """Fit each width and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "prepared", type=Path, help="tensor file of `cryslator train` with the recipe beside this script"
    )
    parser.add_argument("--minutes", type=float, default=12.0, help="process time of each fit")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--rows", type=Path, default=Path(__file__).with_name("compared.json"), help="file to write to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    file = arguments.rows
    rows = json.loads(file.read_text()) if file.is_file() else []
    arrays = load_arrays(arguments.prepared)
    network, config = read_settings(arrays)
    for width in arguments.widths:
        shape = replace(network, width=width, vectors=width // 4, passes=1)
        fit = BoundedFit(arrays, shape, config, "cpu")
        fit.validation = thin(fit.validation, VALIDATION / len(fit.validation), seed=0)
        fit.bound, fit.began = 60 * arguments.minutes, time.process_time()
        while fit.done < 1:
            fit.run_epoch()
        weights = sum(weight.numel() for weight in fit.network.parameters())
        for passes in (1, 2, 3):
            fit.average.config = replace(shape, passes=passes)
            began = time.process_time()
            found = validate(fit.average, fit.validation)
            row = {
                "width": width,
                "passes": passes,
                "weights": weights,
                "minutes": arguments.minutes,
                "steps": fit.step,
                "seconds": time.process_time() - began,
                **found,
            }
            print(json.dumps(row), flush=True)
            rows.append(row)
            file.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
