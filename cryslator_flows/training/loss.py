"""Loss function of the network."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from cryslator_flows.training.tensors import Pairs
from cryslator_flows.translator.geometry import shift_between, strain_between
from cryslator_flows.translator.graph import Crystals
from cryslator_flows.translator.network import Network, apply, mean_per_crystal
from cryslator_flows.translator.settling import deviator


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
        Bond lengths in the relaxed crystal.
    feature : float
        Difference between translated features and features of the relaxed crystal.
    """

    energy: float = 1.0
    volume: float = 1.0
    shape: float = 0.5
    shift: float = 1.0
    distance: float = 0.5
    feature: float = 0.2


@dataclass(frozen=True)
class Scales:
    """Typical size of strain and, in angstrom, of displacements. The losses are divided by them."""

    strain: float
    shift: float


def measure_scales(pairs: Pairs) -> Scales:
    """Return the mean absolute target of both kinds over the training pairs."""
    strain = strain_between(pairs.unrelaxed_lattices, pairs.relaxed_lattices)
    shift = shift_between(pairs.unrelaxed, pairs.relaxed)
    return Scales(
        strain=max(float(strain.diagonal(dim1=1, dim2=2).abs().mean()), 1e-3),
        shift=max(float(shift.norm(dim=-1).mean()), 1e-3),
    )


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of values [n] by weights [n]; zero if all weights are zero."""
    return (values * weights).sum() / weights.sum().clamp(min=1e-12)


def loss_terms(network: Network, teacher: Network, inputs: Crystals, pairs: Pairs, scales: Scales) -> dict[str, Tensor]:
    """Return all terms of the loss of one batch by name. Structural terms are divided by their scales.

    Parameters
    ----------
    network, teacher : Network
        The network and the running average of its weights.
    inputs : Crystals
        Crystals to translate.
    pairs : Pairs
        Pairs of the inputs.
    scales : Scales
        Output of `measure_scales`.
    """
    relaxed = pairs.relaxed
    prediction = network(inputs)
    strain = strain_between(inputs.lattices, relaxed.lattices)
    shift = shift_between(inputs, relaxed)
    true = apply(replace(prediction, strain=strain, shift=shift), inputs)
    with torch.no_grad():
        edges = teacher.find_edges(true)
        goal = teacher.features(true, edges)
        bonds = edges.vectors(true).norm(dim=-1)
    lengths = edges.vectors(apply(prediction, inputs)).norm(dim=-1)

    def trace(tensor: Tensor) -> Tensor:
        return tensor.diagonal(dim1=1, dim2=2).sum(-1)

    orbits = inputs.orbits
    settled = pairs.settled.to(strain.dtype)  # [crystals]
    here = settled[orbits.owner] * orbits.size  # [orbits]
    displaced = mean_per_crystal((prediction.shift - shift).norm(dim=-1), inputs)
    unlike = smooth_l1_loss(prediction.translated, goal, reduction="none").mean(dim=1)
    known = ~pairs.energy.isnan()
    scale = prediction.energy_scale[known]
    likelihood = (prediction.energy - pairs.energy)[known].abs() / scale + scale.log()
    return {
        "energy": likelihood.mean() if known.any() else prediction.energy.sum() * 0,
        "volume": weighted_mean((trace(prediction.strain) - trace(strain)).abs(), settled) / (3 * scales.strain),
        "shape": weighted_mean(deviator(prediction.strain - strain).abs().sum((1, 2)), settled) / (3 * scales.strain),
        "shift": weighted_mean(displaced, settled) / scales.shift,
        "distance": weighted_mean((lengths - bonds).abs(), here[orbits.of[edges.receivers]]) / scales.shift,
        "feature": weighted_mean(unlike, here),
    }
