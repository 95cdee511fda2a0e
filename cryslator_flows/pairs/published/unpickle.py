"""Safe reading of foreign pickles, without running code that they name."""

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
    """A stand-in for an object of pymatgen: its pickled attributes, without its behaviour."""

    __slots__ = ("arguments", "state")
    arguments: tuple[Any, ...]
    state: dict[str, Any]

    def __new__(cls, *arguments: Any) -> PickledObject:
        """Keep the arguments of the object."""
        record = super().__new__(cls)
        record.arguments = arguments
        return record

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class StructureRecord(PickledObject):
    """A stand-in for a `Structure`."""

    __slots__ = ()

    def build(self) -> Structure:
        """Build the structure.

        Raises
        ------
        Exception
            An attribute is missing or of another kind: a pickle can hold any object.
        """
        sites = [site.state for site in self.state["_sites"]]
        species = [
            {specie.symbol(): amount for specie, amount in site["_species"].state["_data"].items()} for site in sites
        ]
        lattice = Lattice(self.state["_lattice"].state["_matrix"])
        return Structure(lattice, species, [site["_frac_coords"] for site in sites])


class SpecieRecord(PickledObject):
    """A stand-in for an `Element`, which is made from its symbol, or for a `Species`, which has a symbol."""

    __slots__ = ()

    def symbol(self) -> str:
        """Symbol of the element, without oxidation state."""
        return str(self.arguments[0] if self.arguments else self.state["_el"].arguments[0])


def number_type(code: str, *flags: bool) -> np.dtype[Any]:
    """Return a `numpy.dtype`; refuse types other than numbers."""
    kind = np.dtype(code, *flags)
    if kind.kind not in "biuf":
        raise pickle.UnpicklingError(f"it wants an array of the type {code!r}")
    return kind


def latin1(text: str, encoding: str) -> bytes:
    """Encode text to bytes, as old protocols write numbers of arrays."""
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
# The functions that make arrays and numbers lie in private modules of NumPy, with other names in each version.
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
    """An unpickler that accepts structures, arrays, containers and numbers, and refuses all else.

    An object of pymatgen becomes a `PickledObject`: no code of pymatgen runs, and pickles of all its versions work.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a class or function that the pickle names.

        Raises
        ------
        pickle.UnpicklingError
            The class or function is not allowed.
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
    """Read a pickle of structures and numbers; refuse all else.

    Parameters
    ----------
    path : Path
        The file; all of it is read into memory.

    Returns
    -------
    Any
        Its content, with a `StructureRecord` for each `Structure`.

    Raises
    ------
    DataError
        The file is not a pickle or is damaged, or it names a class or function that is not allowed.
    """
    try:
        with path.open("rb") as file:
            return RestrictedUnpickler(file).load()
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path}: refused as a pickle ({one_line(error)}), nothing in it was run; only structures of pymatgen, "
            "arrays and numbers are read, so download the file from its source again"
        ) from error
    # Damaged bytes can raise any error.
    except Exception as error:
        raise DataError(f"{path}: cannot be read as a pickle ({one_line(error)}); download it again") from error
