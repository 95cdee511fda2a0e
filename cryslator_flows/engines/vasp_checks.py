"""Checks of VASP makers before the first job: the command, the POTCARs, the tags of INCAR."""

from __future__ import annotations

import inspect
import shlex
import shutil
from copy import copy
from difflib import get_close_matches
from os.path import expandvars
from typing import TYPE_CHECKING

from atomate2.vasp.run import JobType, run_vasp
from pymatgen.core import SETTINGS, Lattice, Structure
from pymatgen.io.vasp.inputs import Incar, PotcarSingle

from cryslator_flows.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from atomate2.vasp.jobs.base import BaseVaspMaker

POTCAR_FOLDER = "PMG_VASP_PSP_DIR"
# Keys of user_incar_settings that pymatgen turns into tags.
OF_PYMATGEN = ("EDIFF_PER_ATOM",)


def missing_commands(makers: Iterable[BaseVaspMaker]) -> list[str]:
    """Return the commands of VASP whose program this machine lacks.

    Parameters
    ----------
    makers : iterable of BaseVaspMaker
        From `vasp_makers`. Of a command like ``srun vasp_std`` only the first word is checked. Jobs of type ``direct``
        give their command to a shell and pass.
    """
    default = inspect.signature(run_vasp).parameters["vasp_cmd"].default
    kwargs = [maker.run_vasp_kwargs for maker in makers]
    commands = {item.get("vasp_cmd", default) for item in kwargs if item.get("job_type") != JobType.DIRECT}
    return [command for command in sorted(commands) if _program(command) is None]


def _program(command: str) -> str | None:
    try:
        words = shlex.split(expandvars(command))
    except ValueError:
        # A quote that does not end, with which custodian would fail too.
        return None
    return shutil.which(words[0]) if words else None


def missing_potcars(makers: Iterable[BaseVaspMaker], elements: Iterable[str]) -> dict[str, str]:
    """Return why this machine lacks the POTCARs of some elements.

    Parameters
    ----------
    makers : iterable of BaseVaspMaker
        From `vasp_makers`.
    elements : iterable of str
        Symbols of the elements.

    Returns
    -------
    dict
        Name of a POTCAR with its set, as in ``Fe_pv of PBE_54``, to the reason.
    """
    missing: dict[str, str] = {}
    checked: set[tuple[str, str]] = set()
    for maker in makers:
        for element in sorted(elements):
            generator = copy(maker.input_set_generator)
            generator.structure = Structure(Lattice.cubic(4), [element], [[0, 0, 0]])
            functional = str(generator.user_potcar_functional)
            try:
                (symbol,) = generator.potcar_symbols
            except KeyError:
                missing[f"{element} of {functional}"] = f"{type(generator).__name__} names no POTCAR of {element}"
                continue
            if (symbol, functional) not in checked:
                checked.add((symbol, functional))
                try:
                    PotcarSingle.from_symbol_and_functional(symbol, functional)
                except (OSError, ValueError) as error:
                    missing[f"{symbol} of {functional}"] = one_line(error)
    return missing


def potcar_place() -> str:
    """Return the folder of the POTCARs in words."""
    folder = SETTINGS.get(POTCAR_FOLDER)
    return f"{POTCAR_FOLDER} is not set" if folder is None else f"{POTCAR_FOLDER}={folder}"


def unknown_tags(makers: Iterable[BaseVaspMaker]) -> dict[str, str | None]:
    """Return the tags in the user's INCAR settings that pymatgen does not know, each with the nearest known tag.

    Parameters
    ----------
    makers : iterable of BaseVaspMaker
        From `vasp_makers`.
    """
    tags = {str(tag).upper() for maker in makers for tag in maker.input_set_generator.user_incar_settings}
    unknown = sorted(tags - {*Incar.INCAR_PARAMS, *OF_PYMATGEN})
    return {tag: next(iter(get_close_matches(tag, Incar.INCAR_PARAMS, n=1, cutoff=0.8)), None) for tag in unknown}
