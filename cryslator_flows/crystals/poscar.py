"""POSCAR files: pymatgen's reader, and what it would read as another crystal than VASP does."""

from __future__ import annotations

import re
import warnings

from pymatgen.core import Element, Structure
from pymatgen.io.vasp.inputs import BadPoscarWarning, Poscar

from cryslator_flows.crystals.check import check_count
from cryslator_flows.errors import StructureError

WHOLE = re.compile(r"\d+")


def read_poscar(text: str) -> Structure:
    """Read the crystal of a POSCAR, or of the head of a CHGCAR or LOCPOT.

    Parameters
    ----------
    text : str
        The content of the file.

    Raises
    ------
    StructureError
        Elements are missing or do not fit to the numbers of atoms, or Cartesian positions come with a cell volume.
    ValueError
        pymatgen cannot read it.
    """
    lines = text.splitlines()
    symbols, counts, mode = _head(lines)
    if symbols and len(symbols) != len(counts):
        raise StructureError(
            f"line 6: {len(symbols)} elements ({' '.join(symbols)}) for {len(counts)} numbers of atoms; "
            "give one number for each element",
            "elements do not fit to atoms",
        )
    check_count(sum(counts))
    if float(lines[1]) < 0 and mode in ("c", "k"):
        raise StructureError(
            "line 2: a cell volume (negative scale) with Cartesian positions, which pymatgen does not scale; "
            "write the positions as Direct",
            "negative scale",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", "Elements in POSCAR cannot be determined", BadPoscarWarning)
        try:
            # Volumetric data follow a blank line.
            return Poscar.from_str(text, read_velocities=False).structure
        except BadPoscarWarning as error:
            if symbols:
                raise
            raise StructureError(
                "no element symbols; write them on a line of their own above the numbers of atoms", "no elements"
            ) from error


def _head(lines: list[str]) -> tuple[list[str], list[int], str]:
    """Return symbols, numbers of atoms, both of which may take several lines, and the first letter of the mode."""
    symbols: list[str] = []
    counts: list[int] = []
    mode = ""
    for line in lines[5:]:
        words = line.split("!")[0].split()
        if words and all(WHOLE.fullmatch(word) for word in words) and (not symbols or len(counts) < len(symbols)):
            counts += map(int, words)
        elif not counts:
            symbols += [re.split("[/_]", word)[0] for word in words]
        elif (mode := line.strip()[:1].lower()) and mode != "s":
            break
    for symbol in symbols:
        if not Element.is_valid_symbol(symbol):
            raise StructureError(f"line 6: {symbol!r} is no element symbol; fix it", "no element")
    return symbols, counts, mode
