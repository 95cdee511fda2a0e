"""Small data in the layouts of published sets of pairs: a few crystals of X-Mn-O, made up, with made-up energies."""

import csv
import itertools
import pickle
import random

import numpy as np
from ase.io import write
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

RADII = {"Mg": 0.72, "Ca": 1.0, "Sr": 1.18, "Ba": 1.35}


def relaxed_crystals():
    """Identifier to crystal and formation energy: four structure types, four elements."""
    for number, (element, radius) in enumerate(RADII.items()):
        size = 3.6 + 0.25 * radius
        types = {
            "mp-1": ("Pm-3m", Lattice.cubic(size), [element, "Mn", "O"], [[0] * 3, [0.5] * 3, [0.5, 0.5, 0]]),
            "mp-2": (
                "P4/mmm",
                Lattice.tetragonal(size, 1.1 * size),
                [element, "Mn", "O"],
                [[0] * 3, [0.5] * 3, [0.5, 0.5, 0]],
            ),
            "mp-3": (
                "I4/mmm",
                Lattice.tetragonal(size, 3.3 * size),
                [element, "Mn", "O", "O"],
                [[0, 0, 0.36], [0] * 3, [0, 0.5, 0], [0, 0, 0.16]],
            ),
            "mp-4": (
                "R-3m",
                Lattice.hexagonal(2.95, 15 + radius),
                [element, "Mn", "O"],
                [[0] * 3, [0, 0, 0.5], [0, 0, 0.25]],
            ),
        }
        for template, (group, lattice, species, sites) in types.items():
            crystal = Structure.from_spacegroup(group, lattice, species, sites).get_primitive_structure()
            yield (
                f"{template}_pox_cu_{element.lower()}",
                crystal,
                -2.5 - 0.2 * number - 0.01 * crystal.volume / len(crystal),
            )


def unrelaxed_from(relaxed, seed):
    """The crystal strained by some percent, its atoms displaced."""
    generator = np.random.default_rng(seed)
    strain = generator.normal(scale=0.02, size=(3, 3))
    matrix = relaxed.lattice.matrix @ (np.eye(3) + (strain + strain.T) / 2)
    moved = Structure(Lattice(matrix), relaxed.species, relaxed.frac_coords)
    shifts = generator.normal(scale=0.05, size=(len(moved), 3))
    return Structure(moved.lattice, moved.species, moved.cart_coords + shifts, coords_are_cartesian=True)


def make_pairs(n=16):
    """Rows of identifier, unrelaxed and relaxed crystal, formation energy per atom."""
    crystals = list(relaxed_crystals())
    return [
        (name if seed < len(crystals) else f"{name}_{seed}", unrelaxed_from(relaxed, seed), relaxed, energy)
        for seed, (name, relaxed, energy) in zip(range(n), itertools.cycle(crystals), strict=False)
    ]


def write_cif(structure, path):
    """As the published files were written, by ASE."""
    write(path, AseAtomsAdaptor.get_atoms(structure), format="cif")


def write_xmno(folder, pairs):
    """The release of the paper: CIF files and graphs in two folders, the tables beside the graphs; 80/10/10."""
    cifs, graphs = folder / "cifs_xmno", folder / "jsons_xmno_rcut6"
    cifs.mkdir(parents=True)
    graphs.mkdir()
    for name, unrelaxed, relaxed, _ in pairs:
        write_cif(unrelaxed, cifs / f"{name}_unrelaxed.cif")
        write_cif(relaxed, cifs / f"{name}_relaxed.cif")
        (graphs / f"{name}_relaxed.json").write_text("{}")
    (graphs / "atom_init.json").write_text("{}")
    rows = [(f"{name}_relaxed", energy) for name, *_, energy in pairs]
    write_rows(graphs / "id_prop_relaxed.csv", rows)
    shuffled = random.Random(1234).sample(rows, len(rows))
    train, val = int(0.8 * len(rows)), int(0.1 * len(rows))
    for split, part in {
        "train": shuffled[:train],
        "val": shuffled[train : train + val],
        "test": shuffled[train + val :],
    }.items():
        both = [(name.replace("relaxed", which), energy) for name, energy in part for which in ("relaxed", "unrelaxed")]
        write_rows(graphs / f"id_prop_{split}_all.csv", both)


def write_rows(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def write_deeprelax(folder, pairs):
    """The custom folder of DeepRelax's README; the last crystals are the test set and have no relaxed one."""
    (folder / "CIF").mkdir(parents=True)
    train, val = int(0.8 * len(pairs)), int(0.1 * len(pairs))
    splits = {"train": pairs[:train], "val": pairs[train : train + val], "test": pairs[train + val :]}
    for split, part in splits.items():
        write_rows(folder / f"{split}.csv", [["atoms_id"], *([name] for name, *_ in part)])
        for name, unrelaxed, relaxed, _ in part:
            write_cif(unrelaxed, folder / "CIF" / f"{name}_unrelaxed.cif")
            if split != "test":
                write_cif(relaxed, folder / "CIF" / f"{name}_relaxed.cif")


def relaxation(name, unrelaxed, relaxed, energy):
    """One entry of MPF.2021.2.8: two steps of the first relaxation, the last of the second, which comes first here."""
    middle = unrelaxed.interpolate(relaxed, nimages=2, interpolate_lattices=True)[1]
    frames = {f"{name}-0-2": relaxed, f"{name}-1-0": unrelaxed, f"{name}-1-5": middle}
    total = energy * len(relaxed)
    return {
        "structure": list(frames.values()),
        "energy": [total, total + 1, np.float64(total + 0.2)],
        "force": [np.zeros((len(relaxed), 3)).tolist()] * 3,
        "stress": [np.zeros((3, 3)).tolist()] * 3,
        "id": list(frames),
    }


def write_mpf(folder, pairs, protocol=3):
    """Both blocks of MPF.2021.2.8."""
    folder.mkdir(parents=True)
    entries = {f"mp-{number}": relaxation(f"mp-{number}", *pair[1:]) for number, pair in enumerate(pairs)}
    half = len(entries) // 2
    for block, part in enumerate((list(entries.items())[:half], list(entries.items())[half:])):
        (folder / f"block_{block}.p").write_bytes(pickle.dumps(dict(part), protocol=protocol))
