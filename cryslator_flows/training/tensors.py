"""Training pairs as flat arrays, and random training batches from them. Torch and numpy only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cryslator_flows.training.checkpoint import read_arrays
from cryslator_flows.translator.geometry import shift_between, strain_between
from cryslator_flows.translator.graph import Crystals
from cryslator_flows.translator.orbits import Symmetry

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Pairs:
    """Unrelaxed and relaxed crystals with the same atoms in the same order, concatenated.

    Parameters
    ----------
    n_atoms : Tensor
        Atoms of each pair, [pairs].
    numbers : Tensor
        Atomic numbers, [atoms].
    unrelaxed_lattices, relaxed_lattices : Tensor
        Rows are lattice vectors, [pairs, 3, 3] in angstrom.
    unrelaxed_frac, relaxed_frac : Tensor
        Fractional coordinates, [atoms, 3].
    energy : Tensor
        Formation energy of the relaxed crystal, [pairs] in eV/atom. NaN where unknown.
    settled : Tensor
        True if the relaxed structure is known. Otherwise only the energy is learnt, [pairs].
    symmetry : Symmetry
        Common symmetry of both crystals of each pair.
    """

    n_atoms: Tensor
    numbers: Tensor
    unrelaxed_lattices: Tensor
    relaxed_lattices: Tensor
    unrelaxed_frac: Tensor
    relaxed_frac: Tensor
    energy: Tensor
    settled: Tensor
    symmetry: Symmetry

    def __len__(self) -> int:
        return len(self.n_atoms)

    def take(self, rows: Tensor) -> Pairs:
        """Return the pairs at `rows`, in that order."""
        starts = torch.cumsum(self.n_atoms, 0) - self.n_atoms
        size = self.n_atoms[rows]
        local = torch.arange(int(size.sum())) - torch.repeat_interleave(torch.cumsum(size, 0) - size, size)
        atoms = torch.repeat_interleave(starts[rows], size) + local
        per_atom = {"numbers", "unrelaxed_frac", "relaxed_frac"}
        taken = {name: value[atoms if name in per_atom else rows] for name, value in self.tensors.items()}
        return Pairs(**taken, symmetry=self.symmetry.take(rows, atoms))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Return all fields except the symmetry, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "symmetry"}

    @property
    def unrelaxed(self) -> Crystals:
        """The unrelaxed crystals."""
        return Crystals(self.unrelaxed_lattices, self.unrelaxed_frac, self.numbers, self.n_atoms, self.symmetry)

    @property
    def relaxed(self) -> Crystals:
        """The relaxed crystals."""
        return Crystals(self.relaxed_lattices, self.relaxed_frac, self.numbers, self.n_atoms, self.symmetry)

    def to(self, device: torch.device | str) -> Pairs:
        """Return a copy on another device."""
        moved = {name: value.to(device) for name, value in self.tensors.items()}
        return Pairs(**moved, symmetry=self.symmetry.to(device))


def to_arrays(pairs: Pairs, prefix: str) -> dict[str, NDArray[np.generic]]:
    """Return arrays for `numpy.savez`, with names that begin with `prefix`."""
    columns = {**pairs.tensors, **vars(pairs.symmetry)}
    return {f"{prefix}/{name}": value.numpy() for name, value in columns.items()}


def load_arrays(path: Path) -> dict[str, Tensor]:
    """Read every array of an ``.npz`` file as tensors.

    Raises
    ------
    DataError
        The file is missing, damaged or holds pickles.
    """
    return {name: torch.from_numpy(array) for name, array in read_arrays(path).items()}


def digest(*parts: Pairs) -> str:
    """Return the SHA-256 of all columns of some pairs except the symmetry, which follows from them."""
    found = hashlib.sha256()
    for part in parts:
        for column in part.tensors.values():
            found.update(column.contiguous().numpy().tobytes())
    return found.hexdigest()


def from_arrays(arrays: dict[str, Tensor], prefix: str) -> Pairs:
    """Restore pairs from the arrays of `to_arrays`, loaded by `load_arrays`."""
    symmetry = Symmetry(**{field.name: arrays[f"{prefix}/{field.name}"] for field in fields(Symmetry)})
    names = [field.name for field in fields(Pairs) if field.name != "symmetry"]
    return Pairs(**{name: arrays[f"{prefix}/{name}"] for name in names}, symmetry=symmetry)


def concatenate(first: Pairs, second: Pairs) -> Pairs:
    """Join two sets of pairs."""

    def joined(one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: torch.cat([value, other[name]]) for name, value in one.items()}

    symmetry = Symmetry(**joined(vars(first.symmetry), vars(second.symmetry)))
    return Pairs(**joined(first.tensors, second.tensors), symmetry=symmetry)


def relaxed_inputs(pairs: Pairs) -> Pairs:
    """Return pairs whose input is the relaxed crystal itself."""
    return replace(pairs, unrelaxed_lattices=pairs.relaxed_lattices, unrelaxed_frac=pairs.relaxed_frac)


def with_energy(pairs: Pairs) -> Pairs:
    """Return the pairs with a known formation energy."""
    return pairs.take(torch.nonzero(~pairs.energy.isnan()).flatten())


def symmetric_noise(count: int, generator: torch.Generator) -> Tensor:
    """Return random symmetric matrices with unit-variance entries, [count, 3, 3]."""
    noise = torch.randn(count, 3, 3, generator=generator)
    return (noise + noise.transpose(-1, -2)) / 2**0.5


@dataclass(frozen=True)
class Augmentation:
    """Settings for making the input of a training example from its pair.

    Parameters
    ----------
    unrelaxed, relaxed : float
        Shares of examples that start from the unrelaxed and from the relaxed crystal. The others start from a random
        point between the two, with noise.
    strain_noise : float
        Standard deviation of the strain noise.
    shift_noise : float
        Standard deviation of the displacement noise in angstrom.
    denoising_strain, denoising_shift : float
        Noise for relaxed crystals without a partner, which are used only for denoising.
    """

    unrelaxed: float = 0.55
    relaxed: float = 0.15
    strain_noise: float = 0.01
    shift_noise: float = 0.03
    denoising_strain: float = 0.04
    denoising_shift: float = 0.10

    def draw(self, pairs: Pairs, denoise: Tensor, generator: torch.Generator) -> Crystals:
        """Draw the inputs of one batch.

        Parameters
        ----------
        pairs : Pairs
            The pairs of the batch.
        denoise : Tensor
            True if the pair is a relaxed crystal twice, to denoise, [pairs].
        generator : torch.Generator
            Source of the random numbers.

        Returns
        -------
        Crystals
            One input for each pair.
        """
        unrelaxed, relaxed = pairs.unrelaxed, pairs.relaxed
        owner = unrelaxed.owner
        draw = torch.rand(len(pairs), generator=generator)
        along = torch.rand(len(pairs), generator=generator)
        between = draw >= self.unrelaxed + self.relaxed
        along = torch.where(draw < self.unrelaxed, torch.zeros_like(along), along)
        along = torch.where((draw >= self.unrelaxed) & ~between, torch.ones_like(along), along)
        strain_noise = torch.where(between, self.strain_noise, 0.0)
        shift_noise = torch.where(between, self.shift_noise, 0.0)
        strain_noise = torch.where(denoise, self.denoising_strain * along, strain_noise)
        shift_noise = torch.where(denoise, self.denoising_shift * along, shift_noise)

        # Noise keeps the symmetry, as substitution does.
        orbits = unrelaxed.orbits
        strain = strain_between(unrelaxed.lattices, relaxed.lattices) * along[:, None, None]
        shift = shift_between(unrelaxed, relaxed) * along[owner, None]
        shift = shift + torch.randn(shift.shape, generator=generator) * shift_noise[owner, None]
        noise = (symmetric_noise(len(pairs), generator) * strain_noise[:, None, None]).to(strain.dtype)
        strain, noise = (torch.linalg.matrix_exp(orbits.keep_cells(part)) for part in (strain, noise))
        shift = orbits.keep_sites(shift[orbits.shown])
        frac = unrelaxed.frac + torch.einsum("ai,aij->aj", shift, torch.linalg.inv(unrelaxed.lattices)[owner])
        return replace(unrelaxed, lattices=unrelaxed.lattices @ strain @ noise, frac=frac)
