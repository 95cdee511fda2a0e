"""What the network is trained to get right."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryslator_flows.translator.graph import Crystals, find_edges
from cryslator_flows.translator.network import Network, Prediction, apply, mean_per_crystal
from cryslator_flows.translator.pairs import Pairs, shift_between, strain_between


@dataclass(frozen=True)
class LossWeights:
    """Weight of each term of the loss.

    Parameters
    ----------
    energy : float
        Negative log-likelihood of the formation energy under a Laplace distribution.
    volume, shape : float
        Trace and deviator of the strain.
    shift : float
        Displacements.
    distance : float
        Bond lengths of the relaxed crystal.
    feature : float
        Translated features against those of the relaxed crystal.
    """

    energy: float = 1.0
    volume: float = 1.0
    shape: float = 0.5
    shift: float = 1.0
    distance: float = 0.5
    feature: float = 0.2


@dataclass(frozen=True)
class Scales:
    """Typical size of each target, by which its loss is divided."""

    energy: float
    strain: float
    shift: float


def measure_scales(pairs: Pairs) -> Scales:
    """Mean absolute target of every kind over the training pairs."""
    known = pairs.energy[~pairs.energy.isnan()]
    strain = strain_between(pairs.unrelaxed_lattices, pairs.relaxed_lattices)
    shift = shift_between(pairs.unrelaxed, pairs.relaxed)
    return Scales(
        energy=float((known - known.mean()).abs().mean()) if len(known) else 1.0,
        strain=max(float(strain.diagonal(dim1=1, dim2=2).abs().mean()), 1e-3),
        shift=max(float(shift.norm(dim=-1).mean()), 1e-3),
    )


def loss_terms(
    network: Network, teacher: Network, inputs: Crystals, pairs: Pairs, scales: Scales
) -> tuple[dict[str, Tensor], Prediction]:
    """Every term of the loss of one batch, each divided by its scale.

    Parameters
    ----------
    network, teacher : Network
        The network and the running average of its weights.
    inputs : Crystals
        Crystals to translate.
    pairs : Pairs
        The pairs they were drawn from.
    scales : Scales
        Of `measure_scales`.

    Returns
    -------
    dict, Prediction
        Scalars by name, and the prediction they belong to.
    """
    relaxed = pairs.relaxed
    prediction = network(inputs)
    strain = strain_between(inputs.lattices, relaxed.lattices)
    shift = shift_between(inputs, relaxed)
    target = replace(prediction, strain=strain, shift=shift)

    def trace(tensor: Tensor) -> Tensor:
        return tensor.diagonal(dim1=1, dim2=2).sum(-1)

    def deviator(tensor: Tensor) -> Tensor:
        return tensor - trace(tensor)[:, None, None] / 3 * torch.eye(3, device=tensor.device)

    known = ~pairs.energy.isnan()
    scale = prediction.energy_scale[known]
    energy = (prediction.energy - pairs.energy)[known].abs() / scale + scale.log()
    terms = {
        "energy": energy.mean() if known.any() else prediction.energy.sum() * 0,
        "volume": (trace(prediction.strain) - trace(strain)).abs().mean() / (3 * scales.strain),
        "shape": deviator(prediction.strain - strain).abs().sum((1, 2)).mean() / (3 * scales.strain),
        "shift": mean_per_crystal((prediction.shift - shift).norm(dim=-1), inputs).mean() / scales.shift,
        "distance": _distance_loss(network, apply(prediction, inputs), apply(target, inputs)) / scales.shift,
    }
    with torch.no_grad():
        goal = teacher(relaxed).encoded
    terms["feature"] = torch.nn.functional.smooth_l1_loss(prediction.translated, goal)
    return terms, prediction


def _distance_loss(network: Network, predicted: Crystals, true: Crystals) -> Tensor:
    """Mean error of the bond lengths of the relaxed crystal, in angstrom."""
    with torch.no_grad():
        edges = find_edges(true, network.config.cutoff, network.config.neighbors)
    return (edges.vectors(predicted).norm(dim=-1) - edges.vectors(true).norm(dim=-1)).abs().mean()
