"""The X-Mn-O pairs published with the paper.

S. Kim, J. Noh, T. Jin, J. Lee and Y. Jung, npj Comput. Mater. 9, 142 (2023); data at Zenodo, record 8081655.

The archive was not available when this was written. Its layout is known from code that reads it:
``source/data_GCN_xmno.py``, ``source/data_cell.py`` and ``4-3.combine_cell_pos.py`` of the paper
(github.com/kaist-amsg/Cryslator), ``preprocess_xmno.py`` of github.com/guaguabujianle/DeepRelax, and
``read_xmno.py`` of github.com/ShbYu/HotRelax.

- A folder ``cifs_xmno`` of 28,579 pairs ``ID_unrelaxed.cif`` and ``ID_relaxed.cif``. An example of an identifier is
  ``mp-9600_pox_cu_ba``. It seems to name a template by its identifier in the Materials Project, and the substitution.
- Tables without a header, in this folder or in ``jsons_xmno_rcut6`` beside it. ``id_prop_relaxed.csv`` has rows of
  ``ID_relaxed`` and the formation energy in eV/atom. The tables of the split, ``id_prop_train_all.csv``,
  ``id_prop_val_all.csv`` and ``id_prop_test_all.csv``, also have rows of ``ID_unrelaxed``. HotRelax calls them
  ``train.txt``, ``valid.txt`` and ``test.txt``.
- Graphs and coordinates as JSON and NumPy files, which are not needed here.

The tables hold the split of the structure predictors. The paper's code draws the split of the generator from
``id_prop_relaxed.csv``: shuffled, 80/10/10.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cryslator_flows.errors import DataError
from cryslator_flows.pairs.published.archive import ARCHIVES, unpacked
from cryslator_flows.pairs.published.cif_folder import find_pairs, read_rows, to_number, visible_files
from cryslator_flows.pairs.raw import Dropped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cryslator_flows.pairs.raw import RawPair

TABLE = re.compile(r"id_prop.*\.(csv|txt)|(train|val|valid|test)\.(csv|txt)", flags=re.IGNORECASE)
SPLIT = re.compile(r"(?<![a-z])(train|val|test)(?:id|idation|ing)?(?![a-z])")
ROW = re.compile(r"(?P<name>.+?)(_(?P<which>unrelaxed|relaxed))?(\.cif)?", flags=re.IGNORECASE)
RELAXED, SEED = "id_prop_relaxed.csv", 1234
TEMPLATE = re.compile(r"(mp-\d+)_")
ROUNDING = 1e-3  # eV/atom, between two tables
SUFFIXES = (".cif", ".csv", ".txt", *ARCHIVES)


@dataclass
class Known:
    """The energies and splits of one pair in the tables."""

    energies: list[float] = field(default_factory=list)
    splits: set[str] = field(default_factory=set)


def read_xmno(path: Path | str, report: Callable[[str], None] = lambda _: None) -> Iterator[RawPair | Dropped]:
    """Yield the pairs of the paper's X-Mn-O release.

    Folders may be nested, and names may have large or small letters. Tables may have a header and further columns. The
    formation energy comes from rows of the relaxed crystal. A pair without a formation energy is kept. If no table
    holds the split, it is drawn as in the paper's code for its generator, see `draw_splits`.

    Parameters
    ----------
    path : Path or str
        The folder, or the downloaded archive (``.zip``, ``.tar.gz``).
    report : callable
        Called with a step that takes long.

    Yields
    ------
    RawPair or Dropped
        Pairs in alphabetical order. Columns: ``formation_energy_per_atom`` in eV/atom; ``split`` (train, val or test);
        ``template``, the identifier of the template in the Materials Project, if the name begins with one.

    Raises
    ------
    DataError
        The archive is damaged, a table cannot be read, or no pair is found.
    """
    path = Path(path)
    with unpacked(path, SUFFIXES, report) as folder:
        files = visible_files(folder)
        pairs = find_pairs(files)
        if not pairs:
            inside = [file.name for file in files if file.name.lower().endswith(ARCHIVES)]
            fix = f"unpack {inside[0]} first" if inside else "give the folder or archive that holds them"
            raise DataError(f"{path}: no files ..._unrelaxed.cif and ..._relaxed.cif in it; {fix}")
        tables = [file for file in files if TABLE.fullmatch(file.name)]
        all_known = read_tables(tables)
        if not any(known.splits for known in all_known.values()):
            for table in tables:
                if table.name.lower() == RELAXED:
                    draw_splits(table, all_known)
        for key, pair in pairs.items():
            known = all_known.get(key, Known())
            if len(known.splits) > 1:
                yield Dropped(pair.name, "tables put it into several splits")
            elif known.energies and max(known.energies) - min(known.energies) > ROUNDING:
                yield Dropped(pair.name, "tables give it several formation energies")
            else:
                yield pair.read(columns_of(pair.name, known))


def columns_of(name: str, known: Known) -> dict[str, Any]:
    """Return the known columns of a pair."""
    template = TEMPLATE.match(name)
    columns = {
        "formation_energy_per_atom": known.energies[0] if known.energies else None,
        "split": next(iter(known.splits), None),
        "template": template[1] if template else None,
    }
    return {column: value for column, value in columns.items() if value is not None}


def read_tables(tables: Iterable[Path]) -> dict[str, Known]:
    """Read formation energies and splits from the ``id_prop`` tables, by the pair's name in small letters.

    Raises
    ------
    DataError
        A table cannot be read.
    """
    known: dict[str, Known] = {}
    for table in tables:
        split = SPLIT.search(table.stem.lower())
        rows = read_rows(table)
        column = energy_column(rows[0]) if rows else 1
        for row in rows:
            match = ROW.fullmatch(row[0])
            if match is None:
                continue
            entry = known.setdefault(match["name"].casefold(), Known())
            if split is not None:
                entry.splits.add(split[1])
            energy = to_number(row[column]) if len(row) > column else None
            # A row of the unrelaxed crystal may hold the energy of the unrelaxed crystal.
            if energy is not None and (match["which"] or "relaxed").lower() == "relaxed":
                entry.energies.append(energy)
    return known


def draw_splits(table: Path, known: dict[str, Known]) -> None:
    """Add to `known` the split that the paper's code draws for its generator.

    NumPy's legacy generator with the seed 1234 shuffles the rows of the table. Of N rows, the first int(0.8 N) are
    train, the next int(0.1 N) val, the others test.
    """
    matches = [ROW.fullmatch(row[0]) for row in read_rows(table)]
    names = [match["name"].casefold() for match in matches if match and match["which"]]
    np.random.RandomState(SEED).shuffle(names)
    train, val = int(len(names) * 0.8), int(len(names) * 0.1)
    for index, name in enumerate(names):
        known[name].splits.add("train" if index < train else "val" if index < train + val else "test")


def energy_column(first: list[str]) -> int:
    """Return the column of the formation energy: the second, unless a header names another column."""
    named = [index for index, cell in enumerate(first) if "formation" in cell.lower()]
    return named[0] if named else 1
