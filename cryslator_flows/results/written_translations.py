"""Files of translations: the ending of the name decides the format."""

from __future__ import annotations

import csv
import gzip
import json
import re
import sys
from contextlib import contextmanager
from io import StringIO
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Structure

from cryslator_flows.crystals.moments import moments_of
from cryslator_flows.crystals.source_files import TRANSLATED_TABLE
from cryslator_flows.crystals.substitution import site_elements
from cryslator_flows.documents.candidates import TRANSLATED
from cryslator_flows.errors import StoreError, StructureError
from cryslator_flows.results.export import cell
from cryslator_flows.system.whole_files import check_output, whole_file, whole_folder, whole_text, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    from cryslator_flows.translator.translator import TranslationResult

    Write = Callable[[str, TranslationResult], None]

STDOUT = "-"
# A POSCAR has no moments: the table has them, in Bohr magnetons, in the order of the POSCAR.
TABLE_COLUMNS = ["folder", "source", "formula", "n_atoms", *TRANSLATED, "magmom", "error"]


class TranslationOutput:
    """The output of translations: one file, standard output, or a folder.

    Parameters
    ----------
    target : str
        ``.jsonl`` and ``.ndjson`` have a JSON line for each input, as has standard output (``-``). ``.cif`` has a data
        block for each translation, ``.extxyz`` and ``.xyz`` a frame. All may end in ``.gz``. A name without an ending
        is a folder, which gets a folder with a POSCAR for each translation, and a table.
    overwrite : bool
        Replace a file with content, or a folder of an earlier output.

    Raises
    ------
    StoreError
        The name has another ending.
    """

    def __init__(self, target: str, overwrite: bool = False) -> None:
        self.path, self.overwrite = Path(target), overwrite
        self.is_stdout = target == STDOUT
        self.is_packed = self.path.suffix.lower() == ".gz"
        ending = Path(self.path.stem).suffix.lower() if self.is_packed else self.path.suffix.lower()
        is_stream = self.is_stdout or (self.path.exists() and not self.path.is_file() and not self.path.is_dir())
        self.text = _json_line if is_stream else TEXTS.get(ending)
        self.is_folder = self.text is None and (self.path.is_dir() or target.endswith("/") or not ending)
        if self.text is None and not self.is_folder:
            raise StoreError(
                f"{target}: ends in {ending!r}; end the name in one of {ENDINGS}, also with .gz, or give a new folder"
            )

    @property
    def has_errors(self) -> bool:
        """True if the output has the errors about inputs too."""
        return self.is_folder or self.text is _json_line

    def check(self, source: Path) -> None:
        """Refuse an output that cannot be written, is the input or is there already, before work begins.

        Raises
        ------
        StoreError
            The path cannot be the output.
        """
        if self.is_stdout:
            return
        if self.is_folder and self.path.is_dir():
            if any(not _is_own(path.relative_to(self.path)) for path in self.path.rglob("*") if not path.is_dir()):
                raise StoreError(
                    f"{self.path}: is a folder with files; give a new folder, or the name of a file to write"
                )
            if source.resolve().is_relative_to(self.path.resolve()):
                raise StoreError(f"{self.path}: is read by this command; give another folder to write")
            is_taken = any(self.path.iterdir())
        else:
            check_output(self.path, source)
            if self.is_folder and self.path.exists():
                raise StoreError(f"{self.path}: is a file; give a new folder, or end the name in one of {ENDINGS}")
            is_taken = self.path.is_file() and self.path.stat().st_size > 0
        if is_taken and not self.overwrite:
            raise StoreError(f"{self.path}: exists; replace it with --overwrite, or give another name")

    @contextmanager
    def opened(self) -> Iterator[Write]:
        """Yield the function that writes one result with its name. The output appears when all are written.

        Raises
        ------
        StoreError
            The output cannot be written.
        """
        numbers = count(1)
        if self.text is None:
            with whole_folder(self.path, self.overwrite) as folder:
                rows: list[list[object]] = []
                yield lambda name, result: rows.append(_in_folder(folder, next(numbers), name, result))
                _write_table(folder / TRANSLATED_TABLE, rows)
            return
        text = self.text
        with self._file() as file:
            yield lambda name, result: print(text(next(numbers), name, result), end="", file=file)

    @contextmanager
    def _file(self) -> Iterator[IO[str]]:
        if self.is_stdout:
            yield sys.stdout
        elif self.is_packed:
            with (
                whole_file(self.path) as raw,
                gzip.open(raw, "wt", encoding="utf-8", errors="backslashreplace") as file,
            ):
                yield file
        else:
            with whole_text(self.path) as file:
                yield file


def _json_line(_: int, name: str, result: TranslationResult) -> str:
    content: dict[str, object] = {"source": name}
    if isinstance(result, StructureError):
        content["error"] = str(result)
    else:
        content |= {"structure": result.structure.as_dict(), **result.model_dump(include={*TRANSLATED})}
    return json.dumps(content) + "\n"


def _cif_block(number: int, name: str, result: TranslationResult) -> str:
    from pymatgen.io.cif import CifWriter

    if isinstance(result, StructureError):
        return ""
    structure = result.structure
    moments = _moments(structure)
    if moments is not None:
        structure = structure.copy(site_properties={"magmom": moments})
    block = str(CifWriter(structure, write_magmoms=moments is not None))
    head = f"# {_one_line(name)}: {result.formation_energy_per_atom:.4f} eV/atom\n"
    return head + re.sub(r"^data_.*$", f"data_{number}_{structure.reduced_formula}", block, count=1, flags=re.MULTILINE)


def _xyz_frame(_: int, name: str, result: TranslationResult) -> str:
    from ase.io.extxyz import write_xyz
    from pymatgen.io.ase import AseAtomsAdaptor

    if isinstance(result, StructureError):
        return ""
    atoms = AseAtomsAdaptor.get_atoms(_plain(result.structure), msonable=False)
    fields = result.model_dump(include={*TRANSLATED})
    fields["unknown_elements"] = " ".join(result.unknown_elements)
    atoms.info = {"source": _one_line(name)} | {key: value for key, value in fields.items() if value not in ("", None)}
    text = StringIO()
    write_xyz(text, [atoms])
    return text.getvalue()


TEXTS = {
    ".jsonl": _json_line, ".ndjson": _json_line, ".cif": _cif_block, ".extxyz": _xyz_frame, ".xyz": _xyz_frame
}  # fmt: skip

ENDINGS = ", ".join(TEXTS)


def _in_folder(folder: Path, number: int, name: str, result: TranslationResult) -> list[object]:
    """Write the POSCAR of a translation, and return its row of the table."""
    from pymatgen.io.vasp import Poscar

    if isinstance(result, StructureError):
        return ["", name, *[""] * (len(TRANSLATED) + 3), str(result)]
    structure = _plain(result.structure)
    place = f"{number}-{structure.reduced_formula}"
    comment = f"{_one_line(name)}: {result.formation_energy_per_atom:.4f} eV/atom"
    poscar = Poscar(structure, comment, sort_structure=True)
    write_whole(folder / place / "POSCAR", poscar.get_str(significant_figures=16))
    fields = [_in_cell(getattr(result, field)) for field in TRANSLATED]
    moments = np.ravel(poscar.structure.site_properties.get("magmom", [])).tolist()
    return [place, name, structure.reduced_formula, len(structure), *fields, _in_cell(moments), ""]


def _is_own(path: Path) -> bool:
    """Return True for the path of a file that `_in_folder` writes, relative to the folder."""
    return str(path) == TRANSLATED_TABLE or (len(path.parts) == 2 and path.name == "POSCAR")


def _in_cell(value: object) -> object:
    return " ".join(map(str, value)) if isinstance(value, list) else value


def _write_table(path: Path, rows: list[list[object]]) -> None:
    with whole_text(path) as file:
        table = csv.writer(file)
        table.writerow(TABLE_COLUMNS)
        table.writerows(map(cell, row) for row in rows)


def _one_line(name: str) -> str:
    return " ".join(name.split())


def _plain(structure: Structure) -> Structure:
    """Return a structure of elements without oxidation states and isotopes, with its moments."""
    moments = _moments(structure)
    properties = {} if moments is None else {"magmom": moments}
    return Structure(structure.lattice, site_elements(structure), structure.frac_coords, site_properties=properties)


def _moments(structure: Structure) -> list[object] | None:
    """Return the moments of a structure, zero where a site has none; None without moments."""
    moments = moments_of(structure)
    return None if moments is None else [0.0 if moment is None else moment for moment in moments]
