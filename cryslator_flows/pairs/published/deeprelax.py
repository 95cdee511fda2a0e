"""Data in the layout of DeepRelax, which E3Relax shares.

Z. Yang et al., arXiv:2404.00865. README and ``preprocess_custom.py`` of github.com/guaguabujianle/DeepRelax describe
the layout. A folder holds ``train.csv``, ``val.csv`` and ``test.csv``, each with a column ``atoms_id``. Beside them a
folder ``CIF`` holds ``ID_unrelaxed.cif`` and ``ID_relaxed.cif``. The test set may lack relaxed crystals. Its
``preprocess_mp.py`` reads the same layout with the column ``mp_id`` and files ``ID_U.cif`` and ``ID_R.cif``. The
layout has no energies. Here, columns of the tables with names of columns of pairs are read too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cryslator_flows.errors import DataError
from cryslator_flows.pairs.published.archive import unpacked
from cryslator_flows.pairs.published.cif_folder import (
    LONG,
    SHORT,
    CifPair,
    find_pairs,
    read_rows,
    to_number,
    visible_files,
)
from cryslator_flows.pairs.raw import Dropped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cryslator_flows.pairs.raw import RawPair

TABLES = {"train.csv": "train", "val.csv": "val", "test.csv": "test"}
PATTERNS = {"atoms_id": LONG, "mp_id": SHORT}
ENERGIES = ("formation_energy_per_atom", "energy_per_atom")


def read_deeprelax(path: Path | str, report: Callable[[str], None] = lambda _: None) -> Iterator[RawPair | Dropped]:
    """Yield the pairs of a data folder of DeepRelax.

    Parameters
    ----------
    path : Path or str
        The folder with the tables, a folder that holds it, or an archive (``.zip``, ``.tar.gz``) of it.
    report : callable
        Called with a step that takes long.

    Yields
    ------
    RawPair or Dropped
        Pairs in the order of the tables. The column ``split`` (train, val or test) comes from the table. The columns
        ``formation_energy_per_atom`` and ``energy_per_atom``, in eV/atom, come from columns of the same name.

    Raises
    ------
    DataError
        The tables are missing, or a table lacks the column of identifiers.
    """
    path = Path(path)
    with unpacked(path, (".cif", ".csv"), report) as folder:
        files = visible_files(folder)
        tables = [Table(file) for file in find_tables(files, path)]
        root = tables[0].file.parent
        pairs = find_pairs([file for file in files if file.is_relative_to(root)], tables[0].pattern)
        splits: dict[str, set[str]] = {}
        for table in tables:
            for name in table.rows:
                splits.setdefault(name.casefold(), set()).add(table.split)
        for table in tables:
            for name, row in table.rows.items():
                if len(splits[name.casefold()]) > 1:
                    yield Dropped(name, "tables put it into several splits")
                else:
                    yield pairs.get(name.casefold(), CifPair(name)).read({"split": table.split, **table.energies(row)})
        for key, pair in pairs.items():
            if key not in splits:
                yield Dropped(pair.name, "in none of the tables")


class Table:
    """One table: its split, and its rows by identifier."""

    def __init__(self, file: Path) -> None:
        header, *rows = read_rows(file) or [[]]
        found = [name for name in PATTERNS if name in header]
        if not found:
            raise DataError(f"{file}: no column atoms_id but {', '.join(header) or 'nothing'}; rename the column")
        self.file = file
        self.split = TABLES[file.name.lower()]
        self.pattern = PATTERNS[found[0]]
        column = header.index(found[0])
        self.rows = {row[column]: dict(zip(header, row, strict=False)) for row in rows if len(row) > column}

    def energies(self, row: dict[str, str]) -> dict[str, float]:
        """Read the energies in a row, in eV/atom."""
        numbers = {column: to_number(row.get(column, "")) for column in ENERGIES}
        return {column: number for column, number in numbers.items() if number is not None}


def find_tables(files: list[Path], source: Path) -> list[Path]:
    """Find the tables of the outermost folder with tables, in the order train, val, test."""
    tables = [file for file in files if file.name.lower() in TABLES]
    if not tables:
        raise DataError(f"{source}: none of {', '.join(TABLES)} in it; give the folder with these tables and CIF/")
    depth = min(len(table.parts) for table in tables)
    folders = sorted({table.parent for table in tables if len(table.parts) == depth})
    if len(folders) > 1:
        names = " and ".join(folder.name for folder in folders[:2])
        raise DataError(f"{source}: several folders with tables in it ({names}); give one of them")
    order = list(TABLES)
    chosen = [table for table in tables if table.parent == folders[0]]
    return sorted(chosen, key=lambda table: order.index(table.name.lower()))
