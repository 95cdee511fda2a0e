"""The physics of the double: charged spheres for the ions, formulas for everything electronic."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import Bohr, Hartree
from scipy.special import erfc

CUTOFF, DAMPING = 8.0, 0.22  # angstrom, 1/angstrom
IONICITY = 0.55  # share of the formal charge of an anion
ANIONS = {"F": 1, "Cl": 1, "Br": 1, "I": 1, "O": 2, "S": 2, "Se": 2, "N": 3}
CATIONS = {
    **dict.fromkeys(("Li", "Na", "K", "Rb", "Cs"), 1),
    **dict.fromkeys(("Mg", "Ca", "Sr", "Ba", "Ni", "Co", "Zn"), 2),
    **dict.fromkeys(("Ti", "Zr", "Hf", "Si", "Ge", "Sn", "Mn"), 4),
}
CORE, CORE_RANGE = 0.5, 0.25  # eV, angstrom: repulsion of cation and anion at the distance that their radii give
ANION_CORE, ANION_CONTACT = 0.05, 2.6  # eV, angstrom: of two ions of like charge


class IonicCrystal(Calculator):
    """Point charges (damped, shifted to zero at the cutoff) with exponential repulsion.

    Perovskites, rutile and the like are minima of it, with volumes near the real ones.
    """

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        first, second, distance, vector = neighbor_list("ijdD", atoms, CUTOFF)
        charge, anion = charges(atoms)
        coulomb = Hartree * Bohr * charge[first] * charge[second]
        at_cutoff = erfc(DAMPING * CUTOFF) / CUTOFF
        slope_at_cutoff = at_cutoff / CUTOFF + _damping(CUTOFF) / CUTOFF
        screened = erfc(DAMPING * distance) / distance
        energy = coulomb * (screened - at_cutoff + slope_at_cutoff * (distance - CUTOFF))
        slope = coulomb * (slope_at_cutoff - screened / distance - _damping(distance) / distance)
        radii = covalent_radii[atoms.numbers]
        unlike = anion[first] != anion[second]
        contact = np.where(unlike, 0.92 * (radii[first] + radii[second]), ANION_CONTACT)
        core = np.where(unlike, CORE, ANION_CORE) * np.exp((contact - distance) / CORE_RANGE)
        itself = Hartree * Bohr * np.sum(charge**2) * (at_cutoff / 2 + DAMPING / np.sqrt(np.pi))
        pull = ((slope - core / CORE_RANGE) / distance)[:, None] * vector
        self.results = {
            "energy": 0.5 * float(np.sum(energy + core)) - itself,
            "forces": np.array([np.bincount(first, pull[:, axis], len(atoms)) for axis in range(3)]).T,
            "stress": full_3x3_to_voigt_6_stress(0.5 * vector.T @ pull / atoms.get_volume()),
        }


def _damping(distance):
    return 2 * DAMPING / np.sqrt(np.pi) * np.exp(-((DAMPING * distance) ** 2))


def charges(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Charges of the ions, in all zero, and which of them are anions.

    Raises
    ------
    ValueError
        The crystal lacks cations or anions.
    """
    symbols = atoms.get_chemical_symbols()
    anion = np.isin(symbols, list(ANIONS))
    if anion.all() or not anion.any():
        raise ValueError(f"{atoms.get_chemical_formula()}: only crystals of cations and anions are modelled")
    charge = np.array([-IONICITY * ANIONS[name] if name in ANIONS else CATIONS.get(name, 3) for name in symbols])
    charge[~anion] *= -charge[anion].sum() / charge[~anion].sum()
    return charge, anion


def electronic_steps(incar: dict, displacement: float | None, warm: bool) -> int:
    """How many electronic steps an ionic step takes.

    Parameters
    ----------
    incar : dict
        Tags of INCAR.
    displacement : float or None
        Largest distance that an atom or the end of a lattice vector went since the last ionic step, in angstrom; None
        for the first ionic step.
    warm : bool
        Whether there is a WAVECAR to start from.
    """
    if displacement is not None:
        return int(np.clip(np.ceil(4 + 3 * np.log10(1 + 100 * displacement)), 4, 11))
    hard = 2 * (incar["ISPIN"] == 2) + 3 * bool(incar.get("LDAU")) + 2 * ("METAGGA" in incar)
    return 6 if warm else 10 + hard


def moments(atoms: Atoms, incar: dict) -> np.ndarray | None:
    """Magnetic moment of each ion in Bohr magnetons, nine tenths of INCAR's; None without spin."""
    if incar["ISPIN"] != 2:
        return None
    return 0.9 * np.broadcast_to(np.asarray(incar.get("MAGMOM", 1.0), dtype=float), len(atoms))


def bands(atoms: Atoms, electrons: float, n_bands: int, kpoints: np.ndarray, spins: int) -> np.ndarray:
    """Bands with a gap that shrinks as the crystal gets denser, cosine-shaped between the k-points.

    Returns
    -------
    np.ndarray
        [spins, k-points, bands, 2]: energy in eV and occupation, 0 or 1.
    """
    occupied = int(np.ceil(electrons / 2))
    gap = 0.5 + 0.25 * atoms.get_volume() / len(atoms)
    level = np.arange(n_bands)
    energy = np.where(level < occupied, -0.3 * (occupied - 1 - level), gap + 0.3 * (level - occupied))
    wave = 0.1 * np.cos(2 * np.pi * kpoints).sum(axis=1)
    energies = energy + np.where(level < occupied, 1, -1) * (wave[:, None] - 0.3)
    occupation = np.broadcast_to(level < occupied, energies.shape)
    return np.stack([np.stack([energies + 0.2 * spin, occupation], axis=-1) for spin in range(spins)])


def density_of_states(eigenvalues: np.ndarray, weights: np.ndarray, points: int) -> np.ndarray:
    """Gaussian-broadened density of states, [spins, points, 3]: energy in eV, states/eV, integrated states."""
    energies = eigenvalues[..., 0]
    grid = np.linspace(energies.min() - 1, energies.max() + 1, points)
    result = []
    for spin in energies:
        counts = np.zeros(points)
        for kpoint, weight in zip(spin, weights, strict=True):
            counts += np.histogram(
                kpoint, bins=points, range=(grid[0], grid[-1]), weights=np.full(len(kpoint), weight)
            )[0]
        width = max(1, round(0.1 / (grid[1] - grid[0])))
        kernel = np.exp(-0.5 * (np.arange(-3 * width, 3 * width + 1) / width) ** 2)
        density = np.convolve(counts, kernel / kernel.sum(), mode="same") / (grid[1] - grid[0])
        result.append(np.stack([grid, density, np.cumsum(density) * (grid[1] - grid[0])], axis=-1))
    return np.array(result)
