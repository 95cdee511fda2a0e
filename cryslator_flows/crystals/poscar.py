"""POSCAR files: pymatgen's reader, and checks of files that it would read as another crystal than VASP does."""

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
        Elements are missing or do not fit the numbers of atoms. A line has no numbers where they belong, or
        Cartesian positions come with a cell volume.
    ValueError
        pymatgen cannot read the file.
    """
    # Remove comments, which the reader takes for content. The first line is a comment.
    title, *lines = text.splitlines() or [""]
    lines = [title, *(re.split("[!#]", line, maxsplit=1)[0].rstrip() for line in lines)]
    symbols, counts, mode, start = _head(lines)
    if symbols and len(symbols) != len(counts):
        raise StructureError(
            f"line 6: {len(symbols)} elements ({' '.join(symbols)}) for {len(counts)} numbers of atoms; "
            "give one number for each element",
            "elements do not fit to atoms",
        )
    check_count(sum(counts))
    rows = [*range(2, 5), *range(start, start + sum(counts))]
    for row in rows:
        lines[row] = _with_numbers(lines, row)
    scales = _scales(lines)
    if len(scales) == 3:
        for row in rows if mode in ("c", "k") else rows[:3]:
            x, y, z, *rest = lines[row].split()
            scaled = (float(value) * scale for value, scale in zip((x, y, z), scales, strict=True))
            lines[row] = " ".join([*map(repr, scaled), *rest])
        lines[1] = "1.0"
    # After an empty line the reader expects other data.
    read = [title, *filter(None, map(str.strip, lines[1 : rows[-1] + 1]))]
    if scales[0] < 0 and mode in ("c", "k"):
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
            return Poscar.from_str("\n".join(read), read_velocities=False).structure
        except BadPoscarWarning as error:
            if symbols:
                raise
            raise StructureError(
                "no element symbols; write them on a separate line above the numbers of atoms", "no elements"
            ) from error


def _scales(lines: list[str]) -> list[float]:
    """Return the scale, the negative cell volume, or a scale for each of x, y and z."""
    try:
        scales = [float(_as_python(word)) for word in lines[1].split()]
    except (IndexError, ValueError):
        scales = []
    if len(scales) not in (1, 3) or (len(scales) == 3 and min(scales) <= 0):
        line = lines[1].strip() if len(lines) > 1 else ""
        raise StructureError(
            f"line 2: {line[:40]!r} is not a scale; give one number, or three positive ones for x, y and z",
            "wrong scale",
        )
    return scales


def _with_numbers(lines: list[str], row: int) -> str:
    """Return a line whose first three words are numbers in Python's notation."""
    words = lines[row].split() if row < len(lines) else []
    try:
        words[:3] = [_as_python(word) for word in words[:3]]
        complete = len([float(word) for word in words[:3]]) == 3
    except ValueError:
        complete = False
    if not complete:
        raise StructureError(
            f"line {row + 1}: {' '.join(words)[:40]!r}, where three numbers of the lattice or of a position belong; "
            "complete the file",
            "no numbers",
        )
    return " ".join(words)


def _as_python(number: str) -> str:
    """Return a Fortran number, whose exponent may have a D, in Python's notation."""
    return re.sub(r"(?<=[\d.])[dD](?=[+-]?\d)", "e", number)


def _head(lines: list[str]) -> tuple[list[str], list[int], str, int]:
    """Return symbols, numbers of atoms, first letter of the mode, and line index of the first position.

    Symbols and numbers may take several lines each.
    """
    symbols: list[str] = []
    counts: list[int] = []
    mode = ""
    start = len(lines)
    for start, line in enumerate(lines[5:], start=6):  # noqa: B007
        words = line.split()
        if words and all(WHOLE.fullmatch(word) for word in words) and (not symbols or len(counts) < len(symbols)):
            counts += map(int, words)
        elif not counts:
            symbols += [re.split("[/_]", word)[0] for word in words]
        elif (mode := line.strip()[:1].lower()) and mode != "s":
            break
    if not mode.isalpha():
        raise StructureError(f"line {start}: write Direct or Cartesian above the positions", "no mode")
    for symbol in symbols:
        if not Element.is_valid_symbol(symbol):
            raise StructureError(f"line 6: {symbol!r} is not an element symbol; fix it", "no element")
    return symbols, counts, mode, start
