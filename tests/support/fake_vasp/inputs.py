"""What the double reads: INCAR, POSCAR, KPOINTS, POTCAR, and the faults it is asked to make."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import spglib
from ase import Atoms
from ase.io.vasp import read_vasp

from tests.support.fake_vasp.model import charges

DEFAULTS = {
    "ALGO": "Normal",
    "EDIFF": 1e-4,
    "IBRION": 0,
    "ISIF": 2,
    "ISMEAR": 1,
    "ISPIN": 1,
    "ISYM": 2,
    "KGAMMA": True,
    "KSPACING": 0.5,
    "LCHARG": True,
    "LORBIT": 0,
    "LWAVE": True,
    "NEDOS": 301,
    "NELM": 60,
    "NSW": 0,
    "SIGMA": 0.2,
    "SYMPREC": 1e-5,
}
FAULTS = ("edddav", "brions", "scf", "scf_all", "nsw", "crash")


@dataclass
class Inputs:
    """Everything that decides a run."""

    incar: dict[str, Any]  # INCAR as it is
    tags: dict[str, Any]  # with VASP's defaults
    atoms: Atoms
    titles: list[str]  # one for each species, as in POTCAR
    counts: list[int]  # ions of each species
    valences: list[float]  # electrons of each species' ion
    style: str  # how the k-points came about, as vasprun.xml says it
    mesh: tuple[int, ...]
    kpoints: np.ndarray  # [k-points, 3], fractional
    weights: np.ndarray  # [k-points], their sum is one
    warm: bool  # there is a WAVECAR to start from
    faults: frozenset[str]
    sleep: float  # seconds for each ionic step

    @property
    def electrons(self) -> float:
        return float(self.tags.get("NELECT", np.dot(self.counts, self.valences)))

    @property
    def n_bands(self) -> int:
        return int(self.tags.get("NBANDS", np.ceil(self.electrons / 2) + max(4, len(self.atoms) // 2)))


def read_inputs() -> Inputs:
    """Read the inputs in the current directory.

    Raises
    ------
    ValueError
        The double does not do what they ask for.
    """
    incar = read_incar(Path("INCAR").read_text())
    tags = {**DEFAULTS, "EDIFFG": 10 * incar.get("EDIFF", DEFAULTS["EDIFF"]), **incar}
    if tags["NSW"] == 0:
        tags["IBRION"] = -1
    if tags["IBRION"] not in (-1, 1, 2, 3) or tags["ISIF"] not in (0, 1, 2, 3, 4, 8):
        raise ValueError(f"IBRION = {tags['IBRION']} with ISIF = {tags['ISIF']} is not modelled")
    atoms = read_vasp("POSCAR")
    charges(atoms)
    numbers, counts = _runs(atoms.get_chemical_symbols())
    titles, valences, cutoffs = read_potcar(Path("POTCAR").read_text())
    if [title.split()[1].split("_")[0] for title in titles] != numbers:
        raise ValueError(f"POTCAR has {titles}, POSCAR {numbers}")
    tags.setdefault("ENCUT", max(cutoffs))
    warm = Path("WAVECAR").exists() and Path("WAVECAR").stat().st_size > 0 and tags.get("ISTART", 1) > 0
    tags.setdefault("ISTART", int(warm))
    style, mesh, kpoints, weights = read_kpoints(atoms, tags)
    faults, sleep = read_faults()
    if "nsw" in faults and tags["NSW"] > 0:
        tags["NSW"] = min(3, tags["NSW"])
    return Inputs(
        incar, tags, atoms, titles, counts, valences, style, mesh, kpoints, weights, warm, frozenset(faults), sleep
    )


def read_incar(text: str) -> dict[str, Any]:
    """Tags of INCAR; lists where a tag has several values."""
    tags = {}
    for statement in re.split(r"[\n;]", re.sub(r"[#!].*", "", text)):
        name, equals, value = statement.partition("=")
        if equals:
            values = [item for token in value.split() for item in _values(token)]
            tags[name.strip().upper()] = values[0] if len(values) == 1 else values
    return tags


def _values(token: str) -> list[Any]:
    if match := re.fullmatch(r"(\d+)\*(.+)", token):
        return _values(match[2]) * int(match[1])
    if token.upper().strip(".") in ("TRUE", "FALSE", "T", "F"):
        return [token.upper().strip(".")[0] == "T"]
    for kind in (int, float):
        try:
            return [kind(token)]
        except ValueError:
            pass
    return [token]


def read_potcar(text: str) -> tuple[list[str], list[float], list[float]]:
    """Titles, valence electrons and cutoffs in eV of the potentials."""
    titles = [title.strip() for title in re.findall(r"TITEL\s*=\s*(.+)", text)]
    valences = [float(value) for value in re.findall(r"ZVAL\s*=\s*([\d.]+)", text)]
    cutoffs = [float(value) for value in re.findall(r"ENMAX\s*=\s*([\d.]+)", text)]
    return titles, valences, cutoffs


def _runs(symbols: list[str]) -> tuple[list[str], list[int]]:
    starts = [i for i, symbol in enumerate(symbols) if i == 0 or symbols[i - 1] != symbol]
    return [symbols[i] for i in starts], np.diff([*starts, len(symbols)]).tolist()


def read_kpoints(atoms: Atoms, tags: dict[str, Any]) -> tuple[str, tuple[int, ...], np.ndarray, np.ndarray]:
    """Irreducible k-points from KPOINTS, or from KSPACING without that file."""
    if Path("KPOINTS").exists():
        lines = [line.split() for line in Path("KPOINTS").read_text().splitlines()]
        number, letter = int(lines[1][0]), lines[2][0][0].upper()
        if number > 0 and letter in "RF":
            rows = np.array([line[:4] for line in lines[3 : 3 + number]], dtype=float)
            return "Reciprocal", (), rows[:, :3], rows[:, 3] / rows[:, 3].sum()
        if number != 0 or letter not in "GM":
            raise ValueError(f"KPOINTS in {lines[2]} mode is not modelled")
        mesh, gamma = tuple(int(token) for token in lines[3][:3]), letter == "G"
    else:
        lengths = 2 * np.pi * np.linalg.norm(atoms.cell.reciprocal(), axis=1)
        mesh, gamma = tuple(np.maximum(1, np.ceil(lengths / tags["KSPACING"])).astype(int).tolist()), tags["KGAMMA"]
    shift = np.array([0 if gamma else int(n % 2 == 0) for n in mesh])
    # Ions with different moments are of different kinds, as for VASP.
    moments = np.broadcast_to(np.asarray(tags.get("MAGMOM", 0.0), dtype=float), len(atoms))
    kinds = np.unique([atoms.numbers, moments], axis=1, return_inverse=True)[1].ravel()
    if tags["ISYM"] > 0:
        cell = (atoms.cell.array, atoms.get_scaled_positions(), kinds)
        mapping, grid = spglib.get_ir_reciprocal_mesh(mesh, cell, is_shift=shift, symprec=tags["SYMPREC"])
    else:
        mapping, grid = spglib.get_stabilized_reciprocal_mesh(mesh, [np.eye(3, dtype="intc")], is_shift=shift)
    points, counts = np.unique(mapping, return_counts=True)
    return "Gamma" if gamma else "Monkhorst-Pack", mesh, (grid[points] + shift / 2) / mesh, counts / counts.sum()


def read_faults() -> tuple[set[str], float]:
    """Faults that this attempt has to make, and how many seconds an ionic step has to take.

    They are words in the variable FAKE_VASP_FAULTS or in the list ``faults`` of fake_vasp.json in the run directory. A
    fault happens in the first attempt in a directory only, with ``:always`` behind it in all of them.
    """
    path = Path("fake_vasp.json")
    settings = json.loads(path.read_text()) if path.exists() else {}
    counter = Path(".fake_vasp_attempts")
    earlier = len(counter.read_text()) if counter.exists() else 0
    counter.write_text("x" * (earlier + 1))
    asked = [*os.environ.get("FAKE_VASP_FAULTS", "").split(), *settings.get("faults", [])]
    names = {word.removesuffix(":always") for word in asked if earlier == 0 or word.endswith(":always")}
    if unknown := names - set(FAULTS):
        raise ValueError(f"unknown faults {sorted(unknown)}; choose from {FAULTS}")
    return names, float(settings.get("sleep", os.environ.get("FAKE_VASP_SLEEP", 0)))
