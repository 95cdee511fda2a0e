"""Checks of XSF, CSSR and SHELX files for content that pymatgen's readers assume or ignore."""

from __future__ import annotations

import re

from cryslator_flows.crystals.check import check_count
from cryslator_flows.crystals.outside import check_occupancy
from cryslator_flows.errors import StructureError


def _check_xsf(head: str) -> int | None:
    """Check the start of an XSF file for properties that pymatgen assumes.

    Return the number of atoms that the file states.
    """
    counts = re.findall(r"^[^\S\n]*(PRIM|CONV)COORD[^\n]*\n[^\S\n]*(\d{1,18})", head, flags=re.MULTILINE)
    for _, count in counts:
        check_count(int(count))
    if re.search(r"^[^\S\n]*(SLAB|POLYMER)\b", head, flags=re.MULTILINE):
        raise StructureError("not periodic in three directions; give a cell with vacuum as CRYSTAL", "not periodic")
    return next((int(count) for kind, count in counts if kind == "PRIM"), None)


def _check_cssr(text: str) -> int | None:
    """Check a CSSR file for symmetry and Cartesian positions, which pymatgen ignores.

    Return the number of atoms that the file states.
    """
    lines = [*text.splitlines(), "", "", ""]
    group = re.search(r"SPGR\s*=\s*(\d+)", lines[1])
    if group is not None and int(group[1]) > 1:
        raise StructureError(
            f"line 2: space group {group[1]}, which pymatgen does not apply; write all atoms as space group 1",
            "unknown space group",
        )
    atoms, kind = [*lines[2].split(), "", ""][:2]
    if kind == "1":
        raise StructureError("line 3: Cartesian positions (1); write fractional ones (0)", "Cartesian positions")
    return int(atoms) if atoms.isdigit() else None


def _check_res(text: str) -> int | None:
    """Check a SHELX file for symmetry and occupancies, which pymatgen ignores."""
    atoms = False
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        key = words[0].upper() if words else ""
        if key == "SYMM" or (key == "LATT" and len(words) > 1 and words[1] not in ("-1", "1")):
            raise StructureError(
                f"line {number}: {line.strip()!r}, symmetry which pymatgen does not apply; convert it to CIF",
                "unknown space group",
            )
        if atoms and len(words) > 5 and check_occupancy(words[5], f"line {number}") not in (1, 11):
            raise StructureError(f"line {number}: occupancy {words[5]}; convert it to CIF", "disordered")
        atoms = (atoms or key == "SFAC") and key != "END"
    return None


# Check of each format. It takes the start of a file and returns the number of atoms that the file states.
CHECKS = {"xsf": _check_xsf, "cssr": _check_cssr, "res": _check_res}
