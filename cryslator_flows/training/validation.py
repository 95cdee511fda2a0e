"""Errors of a network on pairs, measured during a fit. Torch only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cryslator_flows.translator.geometry import shift_between
from cryslator_flows.translator.network import Network, apply, mean_per_crystal

if TYPE_CHECKING:
    from cryslator_flows.training.tensors import Pairs


@torch.no_grad()
def validate(network: Network, pairs: Pairs) -> dict[str, float]:
    """Return errors of the translation of the unrelaxed crystals.

    Parameters
    ----------
    network : Network
        The network.
    pairs : Pairs
        Validation pairs.

    Returns
    -------
    dict
        ``energy_mae`` in eV/atom; ``volume_error`` as a fraction; ``displacement`` in angstrom, averaged over
        atoms, then pairs. ``score`` is the mean of the three, each over the error of copying the input, and for
        the energy over its mean absolute deviation. ``relaxed_volume`` and ``relaxed_displacement`` are the
        changes of the relaxed crystals by translation.
    """
    device = next(network.parameters()).device
    rows: dict[str, list[Tensor]] = {
        name: [] for name in ("energy", "volume", "shift", "volume0", "shift0", "volume1", "shift1")
    }
    for chunk in torch.arange(len(pairs)).split(256):
        batch = pairs.take(chunk)
        unrelaxed, relaxed = batch.unrelaxed.to(device), batch.relaxed.to(device)
        prediction = network.translate(unrelaxed)
        known = ~batch.energy.isnan()
        rows["energy"].append((prediction.energy.cpu() - batch.energy)[known].abs())
        kept = apply(network.translate(relaxed), relaxed)
        for suffix, crystals in (("", apply(prediction, unrelaxed)), ("0", batch.unrelaxed), ("1", kept)):
            there = crystals.to("cpu")
            rows["volume" + suffix].append((there.volumes / batch.relaxed.volumes - 1).abs())
            moved = shift_between(batch.relaxed, there).norm(dim=-1)
            rows["shift" + suffix].append(mean_per_crystal(moved, there))
    mean = {name: float(torch.cat(part).mean()) for name, part in rows.items()}
    energies = pairs.energy[~pairs.energy.isnan()]
    spread = float((energies - energies.mean()).abs().mean())
    # Errors of copying the input. Pairs with small differences must not inflate the score.
    copied = [max(value, 1e-3) for value in (spread, mean["volume0"], mean["shift0"])]
    errors = mean["energy"], mean["volume"], mean["shift"]
    return {
        "energy_mae": mean["energy"],
        "volume_error": mean["volume"],
        "displacement": mean["shift"],
        "score": sum(error / copy for error, copy in zip(errors, copied, strict=True)) / 3,
        "relaxed_volume": mean["volume1"],
        "relaxed_displacement": mean["shift1"],
    }
