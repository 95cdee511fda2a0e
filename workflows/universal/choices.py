"""Compare passes, precision and an ensemble of two models on the validation pairs, and write a row for each.

Example: python workflows/universal/choices.py PREPARED models/cryslator-universal OLDER

PREPARED is the tensor file of the training. OLDER is another model with the same kind of network. The changes are those
of the network, before the calibration settles them.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from cryslator_flows.training.tensors import from_arrays, load_arrays
from cryslator_flows.training.validation import validate
from cryslator_flows.translator.model_folder import ModelFolder

if TYPE_CHECKING:
    from cryslator_flows.translator.graph import Crystals
    from cryslator_flows.translator.network import Prediction

PASSES = 1, 2, 3, 4


class Ensemble(nn.Module):
    """Mean of the predictions of several networks."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def translate(self, crystals: Crystals) -> Prediction:
        """Translate a batch with every network."""
        found = [member.translate(crystals) for member in self.members]
        mean = {
            name: torch.stack([getattr(prediction, name) for prediction in found]).mean(dim=0)
            for name in ("energy", "energy_scale", "strain", "shift")
        }
        return replace(found[0], **mean)


class Double(nn.Module):
    """A network in double precision."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).double()

    def translate(self, crystals: Crystals) -> Prediction:
        """Translate a batch."""
        found = self.network.translate(crystals.in_precision(torch.float64))
        single = {name: value.float() for name, value in vars(found).items()}
        return replace(found, **single)


def main() -> None:
    """Measure each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path, help="tensor file of the training")
    parser.add_argument("model", type=Path, help="folder of the model")
    parser.add_argument("older", type=Path, help="folder of the other member of the ensemble")
    parser.add_argument("--rows", type=Path, default=Path(__file__).with_name("choices.json"), help="file to write to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pairs = from_arrays(load_arrays(arguments.prepared), "val")
    network, older = (ModelFolder(path).network() for path in (arguments.model, arguments.older))
    kinds: dict[str, nn.Module] = {}
    for passes in PASSES:
        kinds[f"{passes} passes"] = copy.deepcopy(network)
        kinds[f"{passes} passes"].config = replace(network.config, passes=passes)
    kinds["2 passes, double precision"] = Double(network)
    kinds["2 passes, older model"] = older
    kinds["2 passes, mean of both models"] = Ensemble([network, older])
    rows = []
    for name, kind in kinds.items():
        began = time.process_time()
        # Two translations of every pair: from the unrelaxed and from the relaxed crystal.
        found = validate(kind, pairs)
        seconds = time.process_time() - began
        rows.append({"kind": name, "pairs": len(pairs), "seconds": seconds, **found})
        print(json.dumps(rows[-1]), flush=True)
        arguments.rows.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
