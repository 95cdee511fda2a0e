"""What the double writes, line by line as the run goes: OUTCAR, OSZICAR and vasprun.xml."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from ase.units import GPa

from tests.support.fake_vasp.inputs import Inputs
from tests.support.fake_vasp.model import bands, density_of_states, moments

VERSION = "6.4.3-synthetic"
ORBITALS = ("s", "py", "pz", "px", "dxy", "dyz", "dz2", "dxz", "x2-y2")
# What vasprun.xml lists besides INCAR's tags, since parsers count on it.
PARAMETERS = {
    "GGA": "--",
    "METAGGA": "--",
    "LDAU": False,
    "NELMIN": 2,
    "POTIM": 0.5,
    "PREC": "Normal",
    "LHFCALC": False,
}
RULE = "-" * 83


class Outputs:
    """The files of one run, open and flushed at each line so that monitors see how it goes."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.began = time.time()
        self.energy = self.last_energy = 0.0
        self.outcar = Path("OUTCAR").open("w", buffering=1)  # noqa: SIM115
        self.oszicar = Path("OSZICAR").open("w", buffering=1)  # noqa: SIM115
        self.xml = Path("vasprun.xml").open("w", buffering=1)  # noqa: SIM115
        # VASP empties it at the start; a leftover would be of another structure.
        Path("CONTCAR").write_text("")
        self._outcar_header()
        self._xml_header()

    def say(self, line: str) -> None:
        """Print to standard output and OUTCAR."""
        print(line, flush=True)
        self.outcar.write(line + "\n")

    def electronic_step(self, step: int, iteration: int, number: int) -> None:
        """Write one electronic step; the energy nears that of the ionic step from above."""
        final = self.inputs.atoms.get_potential_energy()
        energy = final + 10.0 ** (1 - iteration * 6 / number) * (iteration < number)
        if iteration == 1:
            header = "       N       E                     dE             d eps       ncg     rms          rms(c)"
            print(header, flush=True)
            self.oszicar.write(header + "\n")
            self.xml.write(" <calculation>\n")
        change = energy - self.energy
        self.energy = energy
        line = f"DAV:{iteration:4d}    {energy:18.11E}   {change:12.5E}  {change:12.5E}  1200   {abs(change):9.3E}"
        print(line, flush=True)
        self.oszicar.write(line + "\n")
        spins = moments(self.inputs.atoms, self.inputs.tags)
        total = "" if spins is None else f"{spins.sum():14.7f}"
        self.outcar.write(
            f"\n{'-' * 39} Iteration {step:6d}({iteration:4d})  {'-' * 39}\n\n"
            f" number of electron {self.inputs.electrons:14.7f} magnetization {total}\n\n"
            f"  entropy T*S    EENTRO =       -0.00000000\n  free energy    TOTEN  = {energy:18.8f} eV\n"
        )
        self.xml.write("  <scstep>\n" + _energies(energy) + "  </scstep>\n")
        # VASP takes the last electronic step that NELM allows for unconverged.
        if iteration == number and number < self.inputs.tags["NELM"]:
            self.outcar.write(f"{'-' * 24} aborting loop because EDIFF is reached {'-' * 40}\n")

    def ionic_step(self, step: int, last: bool) -> None:
        """Write energy, forces and stress of the ions where they are now; `last` adds the bands."""
        atoms = self.inputs.atoms
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        stress = -10 / GPa * atoms.get_stress(voigt=False)  # kB, compression positive
        spins = moments(atoms, self.inputs.tags)
        magnetization = "" if spins is None else f"  mag={spins.sum():13.4f}"
        previous, self.last_energy = self.last_energy, energy
        line = f"{step:4d} F= {energy:.8E} E0= {energy:.8E}  d E ={energy - previous:.6E}{magnetization}"
        print(line, flush=True)
        self.oszicar.write(line + "\n")
        self._ionic_outcar(energy, forces, stress, spins)
        self.xml.write(_structure(atoms))
        self.xml.write(_array("forces", forces) + _array("stress", stress) + _energies(energy))
        if last:
            self._bands()
        self.xml.write(" </calculation>\n")

    def finish(self) -> None:
        """Write what VASP writes when it ends in order."""
        self.xml.write(_structure(self.inputs.atoms, "finalpos") + "</modeling>\n")
        elapsed = time.time() - self.began
        self.outcar.write(
            "\n General timing and accounting informations for this job:\n"
            f"                  Total CPU time used (sec): {elapsed:12.3f}\n"
            f"                            User time (sec): {elapsed:12.3f}\n"
            f"                          System time (sec): {0:12.3f}\n"
            f"                         Elapsed time (sec): {elapsed:12.3f}\n"
            f"                   Maximum memory used (kb): {100000:12.0f}\n"
            f"                   Average memory used (kb): {0:12.0f}\n"
        )

    def truncate(self) -> None:
        """Leave vasprun.xml in the middle of a line."""
        self.xml.write("  <scst")
        self.xml.flush()

    def _outcar_header(self) -> None:
        inputs, tags = self.inputs, self.inputs.tags
        nkpts, nbands = len(inputs.weights), inputs.n_bands
        lines = [
            f" vasp.{VERSION} 01Jan2026 (test double) complex",
            # The process number tells attempts apart that began within a second, as those of VASP never do.
            f" executed on  fake_vasp_{os.getpid()} date {time.strftime('%Y.%m.%d  %H:%M:%S')}",
            " running on    1 total cores",
            *(f" POTCAR:    {title}" for title in [*inputs.titles, *inputs.titles]),
            f"   k-points  NKPTS = {nkpts:5d}  in BZ  NKDIM = {nkpts:5d}  number of bands  NBANDS= {nbands:6d}",
            "   total plane-waves  NPLWV =  10000",
            f"   ions per type = {' '.join(map(str, inputs.counts))}",
            f"   ISPIN  = {tags['ISPIN']:6d}    spin polarized calculation?",
            f"   ENCUT  = {tags['ENCUT']:6.1f} eV",
            f"   NELM   = {tags['NELM']:6d};   NELMIN=  2; NELMDL= -5     # of ELM steps",
            f"   EDIFFG = {tags['EDIFFG']:9.2E}   stopping-criterion for IOM",
            f"   NSW    = {tags['NSW']:6d}    number of steps for IOM",
            f"   IBRION = {tags['IBRION']:6d}    ionic relax: 0-MD 1-quasi-New 2-CG",
            f"   ISIF   = {tags['ISIF']:6d}    stress and relaxation",
            f"   NELECT = {inputs.electrons:12.4f}    total number of electrons",
            " k-points in reciprocal lattice and weights: synthetic",
            *(
                "".join(f"{value:12.8f}" for value in (*kpoint, weight))
                for kpoint, weight in zip(inputs.kpoints, inputs.weights, strict=True)
            ),
        ]
        if tags.get("LDAU"):
            for name in ("LDAUL", "LDAUU", "LDAUJ"):
                values = " ".join(map(str, np.atleast_1d(tags.get(name, 0))))
                lines.append(f"   {name} for each species = {values}")
        self.outcar.write("\n".join(lines) + "\n")

    def _ionic_outcar(self, energy: float, forces: np.ndarray, stress: np.ndarray, spins: np.ndarray | None) -> None:
        atoms, tags = self.inputs.atoms, self.inputs.tags
        lines = ["", " E-fermi :   1.0000     XC(G=0):  -9.0000     alpha+bet : -7.0000", ""]
        if tags["LORBIT"] >= 10:
            lines += _moment_table("total charge", np.full(len(atoms), self.inputs.electrons / len(atoms)))
            if spins is not None:
                lines += _moment_table("magnetization (x)", spins)
        voigt = " ".join(f"{stress[i, j]:12.5f}" for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0)))
        pressure = np.trace(stress) / 3 - tags.get("PSTRESS", 0)
        lines += [
            f"  in kB  {voigt}",
            f"  external pressure = {pressure:12.2f} kB  Pullay stress = {tags.get('PSTRESS', 0):12.2f} kB",
            "",
            f"  volume of cell : {atoms.get_volume():12.2f}",
            "      direct lattice vectors                 reciprocal lattice vectors",
            *(_row((*a, *b), 13) for a, b in zip(atoms.cell.array, atoms.cell.reciprocal(), strict=True)),
            "",
            " POSITION                                       TOTAL-FORCE (eV/Angst)",
            " " + RULE,
            *(_row((*a, *b), 14, 6) for a, b in zip(atoms.positions, forces, strict=True)),
            " " + RULE,
            f"    total drift:                     {_row(forces.sum(axis=0), 14, 6)}",
            "",
            "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)",
            "  ---------------------------------------------------",
            f"  free  energy   TOTEN  = {energy:18.8f} eV",
            "",
            f"  energy  without entropy= {energy:18.8f}  energy(sigma->0) = {energy:18.8f}",
            "",
        ]
        self.outcar.write("\n".join(lines) + "\n")

    def _xml_header(self) -> None:
        inputs, atoms = self.inputs, self.inputs.atoms
        mesh = ""
        if inputs.mesh:
            units = "".join(f'<v name="genvec{i + 1}">{_row(row, 12)}</v>' for i, row in enumerate(np.eye(3)))
            mesh = (
                f'  <generation param="{inputs.style}"><v type="int" name="divisions">'
                f"{' '.join(map(str, inputs.mesh))}</v>"
                f'<v name="usershift"> 0.0 0.0 0.0</v>{units}<v name="shift"> 0.0 0.0 0.0</v></generation>\n'
            )
        symbols = atoms.get_chemical_symbols()
        kinds = np.repeat(np.arange(len(inputs.counts)), inputs.counts) + 1
        ions = "".join(f"<rc><c>{symbol}</c><c>{kind}</c></rc>\n" for symbol, kind in zip(symbols, kinds, strict=True))
        first = np.cumsum([0, *inputs.counts[:-1]])
        types = "".join(
            f"<rc><c>{count}</c><c>{symbols[i]}</c><c>1.0</c><c>{valence}</c><c>{title}</c></rc>\n"
            for count, i, valence, title in zip(inputs.counts, first, inputs.valences, inputs.titles, strict=True)
        )
        known = {**PARAMETERS, **inputs.tags, "NELECT": inputs.electrons, "NBANDS": inputs.n_bands}
        self.xml.write(
            '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n <generator>\n'
            f'  <i name="program" type="string">vasp</i>\n  <i name="version" type="string">{VERSION}</i>\n'
            '  <i name="subversion" type="string">test double</i>\n  <i name="platform" type="string">none</i>\n'
            f'  <i name="date" type="string">{time.strftime("%Y %m %d")}</i>\n'
            f'  <i name="time" type="string">{time.strftime("%H:%M:%S")}</i>\n </generator>\n'
            f" <incar>\n{_tags(inputs.incar)} </incar>\n <kpoints>\n{mesh}"
            f"{_array('kpointlist', inputs.kpoints)}{_array('weights', inputs.weights[:, None])} </kpoints>\n"
            f" <parameters>\n{_tags(known)} </parameters>\n <atominfo>\n  <atoms>{len(atoms)}</atoms>\n"
            f'  <types>{len(inputs.counts)}</types>\n  <array name="atoms"><set>\n{ions}</set></array>\n'
            f'  <array name="atomtypes"><set>\n{types}</set></array>\n </atominfo>\n{_structure(atoms, "initialpos")}'
        )

    def _bands(self) -> None:
        inputs, tags = self.inputs, self.inputs.tags
        values = bands(inputs.atoms, inputs.electrons, inputs.n_bands, inputs.kpoints, tags["ISPIN"])
        spins = "".join(
            f'<set comment="spin {spin + 1}">\n'
            + "".join(f'<set comment="kpoint {i + 1}">\n{_rows(rows)}</set>\n' for i, rows in enumerate(kpoints))
            + "</set>\n"
            for spin, kpoints in enumerate(values)
        )
        dos = density_of_states(values, inputs.weights, tags["NEDOS"])
        total = "".join(f'<set comment="spin {i + 1}">\n{_rows(rows)}</set>\n' for i, rows in enumerate(dos))
        partial = ""
        if tags["LORBIT"] >= 10:
            share = np.repeat(dos[..., 1:2] / (len(ORBITALS) * len(inputs.atoms)), len(ORBITALS), axis=-1)
            of_ion = "".join(
                f'<set comment="spin {i + 1}">\n{_rows(np.hstack([dos[i, :, :1], share[i]]))}</set>\n'
                for i in range(len(dos))
            )
            fields = "".join(f"<field>{name}</field>" for name in ("energy", *ORBITALS))
            ions = "".join(f'<set comment="ion {i + 1}">\n{of_ion}</set>\n' for i in range(len(inputs.atoms)))
            partial = f"  <partial><array>{fields}<set>\n{ions}</set></array></partial>\n"
        self.xml.write(
            f"  <eigenvalues><array><set>\n{spins}</set></array></eigenvalues>\n"
            f'  <dos>\n  <i name="efermi">  1.0000</i>\n  <total><array><set>\n{total}</set></array></total>\n'
            f"{partial}  </dos>\n"
        )


def _tags(tags: dict[str, Any]) -> str:
    kinds = {bool: ' type="logical"', int: ' type="int"', str: ' type="string"'}
    lines = []
    for name, value in tags.items():
        values = value if isinstance(value, list) else [value]
        kind = type(values[0])
        text = " ".join("FT"[item] if kind is bool else escape(str(item)) for item in values)
        letter = "v" if isinstance(value, list) and kind is not str else "i"
        lines.append(f'  <{letter}{kinds.get(kind, "")} name="{name}">{text}</{letter}>\n')
    return "".join(lines)


def _energies(energy: float) -> str:
    names = ("e_fr_energy", "e_wo_entrp", "e_0_energy")
    return "<energy>" + "".join(f'<i name="{name}">{energy:18.8f}</i>' for name in names) + "</energy>\n"


def _structure(atoms: Any, name: str | None = None) -> str:
    label = f' name="{name}"' if name else ""
    return (
        f" <structure{label}>\n  <crystal>\n{_array('basis', atoms.cell.array)}"
        f'  <i name="volume">{atoms.get_volume():.8f}</i>\n  </crystal>\n'
        f"{_array('positions', atoms.get_scaled_positions())} </structure>\n"
    )


def _array(name: str, rows: np.ndarray) -> str:
    return f'<varray name="{name}">\n' + "".join(f"<v>{_row(row, 18)}</v>\n" for row in rows) + "</varray>\n"


def _rows(rows: np.ndarray) -> str:
    return "".join(f"<r>{_row(row, 11, 4)}</r>\n" for row in rows)


def _row(values: Any, width: int, decimals: int = 8) -> str:
    return "".join(f" {value:{width}.{decimals}f}" for value in values)


def _moment_table(title: str, totals: np.ndarray) -> list[str]:
    rows = [f"{i + 1:5d}      {0:8.3f}{0:8.3f}{total:8.3f}{total:8.3f}" for i, total in enumerate(totals)]
    total = f"tot        {0:8.3f}{0:8.3f}{totals.sum():8.3f}{totals.sum():8.3f}"
    header = "# of ion       s       p       d       tot"
    return ["", f" {title}", "", header, "-" * 42, *rows, "-" * 42, total, ""]
