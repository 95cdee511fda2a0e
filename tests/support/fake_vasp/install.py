"""Put the double where atomate2 looks for VASP, with a tree of pseudopotential files that hold no potentials."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymatgen.core import Element

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.warm import WarmCommands

FOLDERS = ("POT_GGA_PAW_PBE", "POT_GGA_PAW_PBE_52", "POT_GGA_PAW_PBE_54", "POT_PAW_PBE_64")
SUFFIXES = ("", "_pv", "_sv", "_d", "_h", "_s", "_2", "_3")


def write_executables(folder: Path, commands: WarmCommands) -> None:
    """Write vasp_std and vasp_gam that run the double."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("vasp_std", "vasp_gam"):
        commands.write(folder / name, "tests.support.fake_vasp.vasp:main")


def write_potcars(folder: Path, elements: list[str]) -> None:
    """Write a tree for PMG_VASP_PSP_DIR: headers with the right number of electrons, then no potential at all."""
    for symbol in elements:
        element = Element(symbol)
        group = element.group
        valence = group - 10 if group > 12 else 3 if element.is_lanthanoid else group
        for suffix in SUFFIXES:
            electrons = valence + {"_pv": 6, "_sv": 8}.get(suffix, 0)
            for functional in FOLDERS:
                path = folder / functional / f"{symbol}{suffix}" / "POTCAR"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(HEADER.format(title=f"{symbol}{suffix}", symbol=symbol, electrons=float(electrons)))


HEADER = """  PAW_PBE {title} 01Jan2026
   {electrons:.14f}
 parameters from PSCTR are:
   VRHFIN ={symbol}: synthetic
   LEXCH  = PE
   EATOM  =   100.0000 eV,    7.3500 Ry

   TITEL  = PAW_PBE {title} 01Jan2026
   LULTRA =        F    use ultrasoft PP ?
   IUNSCR =        1    unscreen: 0-lin 1-nonlin 2-no
   RPACOR =    2.000    partial core radius
   POMASS =   50.000; ZVAL   = {electrons:8.3f}    mass and valenz
   RCORE  =    2.000    outmost cutoff radius
   ENMAX  =  300.000; ENMIN  =  200.000 eV
   ICORE  =        2    local potential
   LCOR   =        T    correct aug charges
   LPAW   =        T    paw PP
   EAUG   =  500.000
END of PSCTR-controll parameters
 local part
   0.0000
 End of Dataset
"""
