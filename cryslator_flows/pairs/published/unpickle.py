"""Pickles of other people, read without running anything that they name."""

from __future__ import annotations

import pickle
from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.core import Lattice, Structure

from cryslator_flows.errors import DataError, one_line

if TYPE_CHECKING:
    from pathlib import Path


class PickledObject:
    """Stands for an object of pymatgen: its attributes as pickled, and no behaviour of its own."""

    __slots__ = ("arguments", "state")
    arguments: tuple[Any, ...]
    state: dict[str, Any]

    def __new__(cls, *arguments: Any) -> PickledObject:
        """Keep what the object is made from."""
        record = super().__new__(cls)
        record.arguments = arguments
        return record

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class StructureRecord(PickledObject):
    """Stands for a `Structure`."""

    __slots__ = ()

    def build(self) -> Structure:
        """The structure.

        Raises
        ------
        Exception
            Something is missing or of another kind: what was pickled can hold anything.
        """
        sites = [site.state for site in self.state["_sites"]]
        species = [
            {specie.symbol(): amount for specie, amount in site["_species"].state["_data"].items()} for site in sites
        ]
        lattice = Lattice(self.state["_lattice"].state["_matrix"])
        return Structure(lattice, species, [site["_frac_coords"] for site in sites])


class SpecieRecord(PickledObject):
    """Stands for an `Element`, which is made from its symbol, or for a `Species`, which has one."""

    __slots__ = ()

    def symbol(self) -> str:
        """Symbol of the element; oxidation states are left out."""
        return str(self.arguments[0] if self.arguments else self.state["_el"].arguments[0])


def number_type(code: str, *flags: bool) -> np.dtype[Any]:
    """`numpy.dtype` for numbers alone."""
    kind = np.dtype(code, *flags)
    if kind.kind not in "biuf":
        raise pickle.UnpicklingError(f"it wants an array of the type {code!r}")
    return kind


def latin1(text: str, encoding: str) -> bytes:
    """How numbers of an array are written in old protocols."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it wants the encoding {encoding!r}")
    return text.encode(encoding)


PYMATGEN = {
    "Structure": StructureRecord,
    "IStructure": StructureRecord,
    "Lattice": PickledObject,
    "PeriodicSite": PickledObject,
    "Composition": PickledObject,
    "Element": SpecieRecord,
    "Species": SpecieRecord,
    "Specie": SpecieRecord,
}
# What makes arrays and numbers of pickles lies in private modules of NumPy, under other names in each version.
NUMPY = {
    "_reconstruct": np.zeros(1).__reduce__()[0],
    "_frombuffer": np.zeros(1).__reduce_ex__(5)[0],
    "scalar": np.float64(0).__reduce__()[0],
    "ndarray": np.ndarray,
    "dtype": number_type,
}
PYTHON = {
    ("_codecs", "encode"): latin1,
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
    ("builtins", "list"): list,
    ("builtins", "dict"): dict,
}


class RestrictedUnpickler(pickle.Unpickler):
    """An unpickler that knows structures, arrays, containers and numbers, and refuses all else.

    An object of pymatgen comes as a `Record`: no code of pymatgen runs, and pickles of all its versions can be read.
    """

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a class or function that the pickle names.

        Raises
        ------
        pickle.UnpicklingError
            It is not among those that are allowed.
        """
        package = module.split(".")[0]
        found: Any = PYTHON.get((module, name))
        if package == "pymatgen":
            found = PYMATGEN.get(name)
        elif package == "numpy":
            found = NUMPY.get(name)
        if found is None:
            raise pickle.UnpicklingError(f"it wants {module}.{name}")
        return found


def read_pickle(path: Path) -> Any:
    """Read a pickle of structures and numbers; anything else in it is refused.

    Parameters
    ----------
    path : Path
        The file; all of it is read into memory.

    Returns
    -------
    Any
        What it holds, with a `StructureRecord` for each `Structure`.

    Raises
    ------
    DataError
        The file is no pickle or damaged, or names a class or function that is not allowed.
    """
    try:
        with path.open("rb") as file:
            return RestrictedUnpickler(file).load()
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path}: refused as a pickle ({one_line(error)}), nothing in it was run; only structures of pymatgen, "
            "arrays and numbers are read, so download the file from its source again"
        ) from error
    # Bytes that are no pickle can raise anything.
    except Exception as error:
        raise DataError(f"{path}: cannot be read as a pickle ({one_line(error)}); download it again") from error
