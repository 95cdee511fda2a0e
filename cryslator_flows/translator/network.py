"""The network of the translator: unrelaxed crystal in, translated features, energy, strain and shifts out.

The idea is from S. Kim, J. Noh, T. Jin, J. Lee and Y. Jung, npj Comput. Mater. 9, 142 (2023). Encode the
unrelaxed crystal, translate its features to features of the relaxed crystal, read energy and structure off the
translated features. Here every part is equivariant, so that symmetry is kept by construction. Torch only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from cryslator_flows.translator.geometry import shift_between, strain_between
from cryslator_flows.translator.graph import Crystals, Edges, envelope, find_edges
from cryslator_flows.translator.surroundings import ATOMS_IN_CACHE, Neighbors, Surroundings, distinct_bonds

MAX_ATOMIC_NUMBER = 118


@dataclass(frozen=True)
class NetworkConfig:
    """Settings that fix the shape of the network.

    Parameters
    ----------
    width, vectors : int
        Scalar and vector channels of an atom.
    encoder_layers, translator_layers : int
        Interactions before and after the encoded features.
    cutoff : float
        Largest distance of a neighbour in angstrom.
    neighbors : int
        Neighbour number at which an atom's reach ends.
    radial : int
        Gaussians of each ratio of lengths. Lengths have twice as many.
    element_properties : int
        Columns of the element table.
    passes : int
        Number of translations of a crystal, each from the result of the last pass.
    """

    width: int = 128
    vectors: int = 32
    encoder_layers: int = 3
    translator_layers: int = 2
    cutoff: float = 6.0
    neighbors: int = 20
    radial: int = 16
    element_properties: int = 7
    passes: int = 1


@dataclass(frozen=True)
class Prediction:
    """Prediction of the network for a batch.

    Parameters
    ----------
    energy : Tensor
        Formation energy, [crystals] in eV/atom.
    energy_scale : Tensor
        Scale of the Laplace distribution around `energy`, [crystals] in eV/atom.
    strain : Tensor
        Symmetric logarithmic strain H; the translated cell is L exp(H), [crystals, 3, 3].
    shift : Tensor
        Displacements in the frame of the input, mean zero in each crystal, [atoms, 3] in angstrom.
    encoded, translated : Tensor
        Scalar features of each orbit of equivalent atoms before and after the translation, [orbits, width].
    """

    energy: Tensor
    energy_scale: Tensor
    strain: Tensor
    shift: Tensor
    encoded: Tensor
    translated: Tensor


def mean_per_crystal(values: Tensor, crystals: Crystals) -> Tensor:
    """Average atom values over each crystal, [atoms, ...] -> [crystals, ...]."""
    total = values.new_zeros(len(crystals.n_atoms), *values.shape[1:]).index_add_(0, crystals.owner, values)
    return total / crystals.n_atoms.view(-1, *[1] * (values.dim() - 1))


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return two linear layers with a SiLU between them."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))


class Gaussians(nn.Module):
    """Expansion of a length in Gaussians on a fixed grid, [n] -> [n, count]."""

    centers: Tensor

    def __init__(self, start: float, stop: float, count: int) -> None:
        super().__init__()
        self.register_buffer("centers", torch.linspace(start, stop, count), persistent=False)
        self.width = (stop - start) / (count - 1)

    def forward(self, length: Tensor) -> Tensor:
        """Expand."""
        return torch.exp(-0.5 * ((length[:, None] - self.centers) / self.width) ** 2)


class Interaction(nn.Module):
    """One round of messages and updates on scalar and vector atom features.

    After K. Schuett, O. Unke and M. Gastegger, "Equivariant message passing for the prediction of tensorial
    properties and molecular spectra", ICML 2021 (PaiNN), equations 7 to 10, with layer norm on the scalars.
    """

    def __init__(self, width: int, vectors: int, neighbors: int) -> None:
        super().__init__()
        self.parts = [width, vectors, vectors]
        self.norm = nn.LayerNorm(width)
        self.source = mlp(width, width, width + 2 * vectors)
        self.filter = nn.Linear(width, width + 2 * vectors)
        self.mix = nn.Linear(vectors, 2 * vectors, bias=False)
        self.update = mlp(width + vectors, width, width + 2 * vectors)
        self.inner = nn.Linear(vectors, width, bias=False)
        self.scale = neighbors**-0.5

    def forward(self, s: Tensor, v: Tensor, around: Surroundings) -> tuple[Tensor, Tensor]:
        """Return new scalars and vectors of every orbit."""
        source, filters = self.source(self.norm(s)), self.filter(around.bonds)
        turned = around.orbits.turn(v).flatten(1)  # [atoms, 3G]
        sums = [self.messages(source, filters, turned, near) for near in around.parts]
        to_s, to_v = (torch.cat(parts) for parts in zip(*sums, strict=True))
        s, v = s + self.scale * to_s, v + self.scale * to_v

        left, right = self.mix(v).chunk(2, dim=-1)  # [orbits, 3, G] each
        norm = (left.square().sum(dim=1) + 1e-8).sqrt()
        add, inner, gate = self.update(torch.cat([self.norm(s), norm], dim=-1)).split(self.parts, dim=-1)
        return s + add + self.inner(inner * (left * right).sum(dim=1)), v + gate[:, None, :] * right

    def messages(self, source: Tensor, filters: Tensor, turned: Tensor, near: Neighbors) -> tuple[Tensor, Tensor]:
        """Return sums of the messages from neighbours, scalars [orbits, F] and vectors [orbits, 3, G]."""
        message = near.of_orbits(source) * near.of_bonds(filters)  # [orbits, places, F + 2G]
        to_s, along, carried = message.split(self.parts, dim=-1)
        there = near.of_senders(turned).unflatten(-1, (3, -1))  # [orbits, places, 3, G]
        carried = near.sum((there * carried[:, :, None, :]).flatten(2)).unflatten(-1, (3, -1))
        return near.sum(to_s), near.sum_along(along) + carried


class Network(nn.Module):
    """Encoder, translator and heads.

    Parameters
    ----------
    config : NetworkConfig
        Shape of the network.
    element_table : Tensor or None
        Standardised element properties, [119, element_properties], stored with the weights.
    element_radii : Tensor or None
        Radii for the comparison with bond lengths, [119] in angstrom.
    element_volumes : Tensor or None
        Volume of an atom of each element in relaxed crystals, [119] in cubic angstrom.
    """

    element_table: Tensor
    element_radii: Tensor
    element_volumes: Tensor

    def __init__(
        self,
        config: NetworkConfig,
        element_table: Tensor | None = None,
        element_radii: Tensor | None = None,
        element_volumes: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        width, rows = config.width, MAX_ATOMIC_NUMBER + 1
        table = torch.zeros(rows, config.element_properties) if element_table is None else element_table
        self.register_buffer("element_table", table)
        self.register_buffer("element_radii", torch.ones(rows) if element_radii is None else element_radii)
        self.register_buffer("element_volumes", torch.ones(rows) if element_volumes is None else element_volumes)

        self.embedding = nn.Embedding(rows, width)
        self.properties = mlp(config.element_properties + 1, width, width)
        self.by_length = Gaussians(0.5, config.cutoff, 2 * config.radial)
        self.by_radii = Gaussians(0.5, 2.5, config.radial)
        self.by_density = Gaussians(0.5, 2.5, config.radial)
        self.edge = nn.Sequential(nn.Linear(4 * config.radial, width), nn.SiLU())
        shape = width, config.vectors, config.neighbors
        self.encoder = nn.ModuleList(Interaction(*shape) for _ in range(config.encoder_layers))
        self.translator = nn.ModuleList(Interaction(*shape) for _ in range(config.translator_layers))
        self.norm = nn.LayerNorm(width)
        self.energy_head = mlp(width, width, 1)
        self.scale_head = mlp(width, width, 1)
        self.volume_head = mlp(width, width, 1)
        self.ends = nn.Linear(width, 2 * width, bias=False)
        self.between = nn.Linear(width, width)
        self.shape_head = nn.Linear(width, 1)
        self.gate_head = mlp(width, width, config.vectors)
        self.shift_head = nn.Linear(config.vectors, 1, bias=False)
        for head in (cast("nn.Linear", self.volume_head[-1]), self.shape_head):
            nn.init.normal_(head.weight, std=1e-2)

    def growth(self, crystals: Crystals) -> Tensor:
        """Return the linear strain that scales each cell to the sum of its element volumes, [crystals]."""
        expected = mean_per_crystal(self.element_volumes[crystals.numbers], crystals) * crystals.n_atoms
        return torch.log(expected / crystals.volumes) / 3

    def find_edges(self, crystals: Crystals) -> Edges:
        """Find the neighbours of every atom with the cutoff and neighbour number of this network."""
        return find_edges(crystals, self.config.cutoff, self.config.neighbors)

    def look_around(self, crystals: Crystals, edges: Edges) -> Surroundings:
        """Return the surroundings of one atom of every orbit of a batch."""
        orbits = crystals.orbits
        vectors = edges.vectors(crystals)
        length = vectors.norm(dim=-1)  # [edges]
        weight = envelope(length, edges.reach[edges.receivers])
        bonds, shown = distinct_bonds(length, edges, crystals, self.config.cutoff)
        features = self.bond_features(length[shown], edges.receivers[shown], edges.senders[shown], crystals)

        receivers = orbits.of[edges.receivers]
        count = torch.bincount(receivers, minlength=len(orbits.shown))
        places = max(1, int(count.max()))
        first = torch.cumsum(count, 0) - count
        place = torch.arange(len(length), device=count.device) - first[receivers] + receivers * places

        def spread(values: Tensor) -> Tensor:
            """Return values of edges at their places, with zero elsewhere."""
            return values.new_zeros(len(count) * places, *values.shape[1:]).index_copy(0, place, values)

        near = Neighbors(
            senders=spread(edges.senders),
            orbits=spread(orbits.of[edges.senders]),
            bonds=spread(bonds),
            weight=spread(weight).view(-1, 1, places),
            direction=spread(vectors / length[:, None]).view(-1, places, 3),
        )
        atoms_at_once = len(count) if length.is_cuda else ATOMS_IN_CACHE
        return Surroundings(orbits, features, tuple(near.split(atoms_at_once)))

    def bond_features(self, length: Tensor, receivers: Tensor, senders: Tensor, crystals: Crystals) -> Tensor:
        """Return features of bonds from their length and the elements and the crystal of their ends, [bonds, F]."""
        spacing = (crystals.volumes / crystals.n_atoms) ** (1 / 3)
        radii = self.element_radii[crystals.numbers]
        lengths = [
            self.by_length(length),
            self.by_radii(length / (radii[receivers] + radii[senders])),
            self.by_density(length / spacing[crystals.owner[receivers]]),
        ]
        return self.edge(torch.cat(lengths, dim=-1))

    def encode(self, crystals: Crystals, edges: Edges) -> tuple[Tensor, Tensor, Surroundings]:
        """Return scalars [orbits, F] and vectors [orbits, 3, G] before any translation."""
        around = self.look_around(crystals, edges)
        numbers = crystals.numbers[around.orbits.shown]
        growth = self.growth(crystals)[around.orbits.owner, None]
        properties = torch.cat([self.element_table[numbers], 10 * growth], dim=-1)
        s = self.embedding(numbers) + self.properties(properties)
        v = s.new_zeros(len(s), 3, self.config.vectors)
        for layer in self.encoder:
            s, v = layer(s, v, around)
        return s, v, around

    def features(self, crystals: Crystals, edges: Edges) -> Tensor:
        """Return encoded scalar features of every orbit, [orbits, F]."""
        return self.norm(self.encode(crystals, edges)[0])

    def forward(self, crystals: Crystals) -> Prediction:
        """Translate a batch, in one pass."""
        s, v, around = self.encode(crystals, self.find_edges(crystals))
        encoded = self.norm(s)
        for layer in self.translator:
            s, v = layer(s, v, around)
        translated = self.norm(s)

        mean = around.orbits.mean
        log_scale = self.scale_head(mean(translated))[:, 0].clamp(-5, 3)
        return Prediction(
            energy=mean(self.energy_head(translated))[:, 0],
            energy_scale=log_scale.exp(),
            strain=self._strain(translated, around),
            shift=self._shift(translated, v, around),
            encoded=encoded,
            translated=translated,
        )

    def translate(self, crystals: Crystals) -> Prediction:
        """Translate a batch in `passes` passes, each from the result of the last one.

        Returns
        -------
        Prediction
            Total change of `crystals`, energies averaged over the passes, features before the first and after the
            last pass.
        """
        current, predictions = crystals, []
        for _ in range(self.config.passes):
            predictions.append(self(current))
            current = apply(predictions[-1], current)
        if len(predictions) == 1:
            return predictions[0]
        orbits = crystals.orbits
        return Prediction(
            energy=torch.stack([prediction.energy for prediction in predictions]).mean(dim=0),
            energy_scale=torch.stack([prediction.energy_scale for prediction in predictions]).mean(dim=0),
            strain=orbits.keep_cells(strain_between(crystals.lattices, current.lattices)),
            shift=orbits.keep_sites(shift_between(crystals, current)[orbits.shown]),
            encoded=predictions[0].encoded,
            translated=predictions[-1].translated,
        )

    def crystal_features(self, prediction: Prediction, crystals: Crystals) -> tuple[Tensor, Tensor]:
        """Return encoded and translated features of whole crystals, [crystals, F] each."""
        mean = crystals.orbits.mean
        return mean(prediction.encoded), mean(prediction.translated)

    def _shift(self, translated: Tensor, v: Tensor, around: Surroundings) -> Tensor:
        """Read the displacements off the vectors by a gated linear layer, drift removed, [atoms, 3]."""
        return around.orbits.keep_sites(self.shift_head(v * self.gate_head(translated)[:, None, :])[:, :, 0])

    def _strain(self, translated: Tensor, around: Surroundings) -> Tensor:
        """Return the strain H = mean_i a_i I + mean_ij b_ij (u u^T - I/3), [crystals, 3, 3].

        It is symmetric, covariant and size-intensive.
        """
        isotropic = around.orbits.mean(self.volume_head(translated))[:, 0]  # [crystals]
        receiving, sending = self.ends(translated).chunk(2, dim=-1)
        between = self.between(around.bonds)
        eye = torch.eye(3, dtype=receiving.dtype, device=receiving.device)
        parts = []
        for near, here in zip(around.parts, receiving.split([len(near.weight) for near in around.parts]), strict=True):
            hidden = here[:, None] + near.of_orbits(sending) + near.of_bonds(between)  # [orbits, places, F]
            along = self.shape_head(nn.functional.silu(hidden))  # [orbits, places, 1]
            parts.append(near.sum_along(along * near.direction) - near.sum(along)[:, :, None] * eye / 3)
        local = around.orbits.keep_cells(around.orbits.mean(torch.cat(parts)))
        return isotropic[:, None, None] * eye + local


def apply(prediction: Prediction, crystals: Crystals) -> Crystals:
    """Return the translated geometry: L = L_u exp(H) and f = f_u + shift L_u^-1.

    Parameters
    ----------
    prediction : Prediction
        Prediction of the network for `crystals`.
    crystals : Crystals
        The input crystals.

    Returns
    -------
    Crystals
        The translated crystals, with the same atoms in the same order.
    """
    lattices = crystals.lattices @ torch.linalg.matrix_exp(prediction.strain)
    shift = torch.einsum("ai,aij->aj", prediction.shift, torch.linalg.inv(crystals.lattices)[crystals.owner])
    return replace(crystals, lattices=lattices, frac=crystals.frac + shift)
