"""MPF.2021.2.8, the relaxations of the Materials Project on which M3GNet was trained.

C. Chen and S. P. Ong, Nat. Comput. Sci. 2, 718 (2022); data at figshare, article 19470599: ``block_0.p`` and
``block_1.p``.

The files were not available when this was written. By the text of the article, each file is a pickled dictionary. It
maps an identifier of the Materials Project to a dictionary of lists, with one item for each frame. The lists are
``structure`` (pymatgen), ``energy`` (of the cell, in eV), ``force`` (eV/angstrom), ``stress`` (kbar) and ``id``. An
``id`` is ``IDENTIFIER-CALCULATION-STEP``; the calculation is 1 for the first and 0 for the second of a double
relaxation. By the paper, frames are the first and middle ionic steps of the first relaxation and the last step of the
second. There are 187,687 frames of 62,783 crystals. Their structures are from a pymatgen before August 2022, which
today's pymatgen cannot use unchanged (issues 20 and 51 of materialyzeai/m3gnet).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cryslator_flows.errors import DataError
from cryslator_flows.pairs.published.archive import ARCHIVES, unpacked
from cryslator_flows.pairs.published.cif_folder import visible_files
from cryslator_flows.pairs.published.unpickle import StructureRecord, read_pickle
from cryslator_flows.pairs.raw import Dropped, RawPair
from cryslator_flows.pairs.sources.trajectory import evenly_spaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymatgen.core import Structure

PICKLES = (".p", ".pkl", ".pickle")
FRAME = re.compile(r".*-(?P<calculation>\d+)-(?P<step>\d+)")


@dataclass(frozen=True)
class Frame:
    """One ionic step; `energy` is the energy of the cell, in eV."""

    structure: Structure
    energy: float


def read_mpf(
    path: Path | str, intermediates: int = 0, report: Callable[[str], None] = lambda _: None
) -> Iterator[RawPair | Dropped]:
    """Yield pairs of the first and last frame of each relaxation in MPF.2021.2.8.

    Parameters
    ----------
    path : Path or str
        A block, the folder of both, or the archive from figshare. Blocks are read one after the other, each whole.
        This takes about eight times the size of a block in memory.
    intermediates : int
        Number of evenly spaced frames between first and last that make further pairs of the same target.
    report : callable
        Called with a step that takes long.

    Yields
    ------
    RawPair or Dropped
        The column ``energy_per_atom``, in eV/atom, is the energy of the last frame without the corrections of the
        Materials Project. The data have no formation energies.

    Raises
    ------
    DataError
        A block is missing, is damaged or does not hold such a dictionary. Or it names a class that is not a structure
        or array.
    """
    path = Path(path)
    if path.is_file() and not path.name.lower().endswith(ARCHIVES):
        yield from read_block(path, intermediates, report)
        return
    with unpacked(path, PICKLES, report) as folder:
        blocks = [file for file in visible_files(folder) if file.name.lower().endswith(PICKLES)]
        if not blocks:
            raise DataError(f"{path}: no block_0.p or block_1.p in it; give the files or the folder that holds them")
        for block in blocks:
            yield from read_block(block, intermediates, report)


def read_block(block: Path, intermediates: int, report: Callable[[str], None]) -> Iterator[RawPair | Dropped]:
    """Yield the pairs of one pickle."""
    report(f"reading {block.name}")
    content = read_pickle(block)
    report("")
    if not isinstance(content, dict):
        raise DataError(f"{block}: holds a {type(content).__name__}, not a dictionary by identifier; give block_0.p")
    for key in list(content):
        # Used items are freed, so that memory does not grow.
        name, entry = str(key), content.pop(key)
        try:
            frames = in_order(entry)
        # A pickle can hold any object.
        except Exception:
            yield Dropped(name, "frames are damaged or incomplete")
            continue
        if len(frames) < 2:
            yield Dropped(name, "fewer than two frames")
            continue
        last = frames[-1]
        columns = {"energy_per_atom": last.energy / len(last.structure)}
        yield RawPair(name, name, frames[0].structure, last.structure, columns)
        for index in evenly_spaced(len(frames), intermediates):
            yield RawPair(f"{name}, frame {index}", name, frames[index].structure, last.structure, columns)


def in_order(entry: dict[str, list[Any]]) -> list[Frame]:
    """Sort frames from the first to the last step by identifier; keep the order if identifiers have another form.

    Raises
    ------
    Exception
        Lists are missing or of unequal length, or a frame lacks a structure or an energy.
    """
    frames = []
    for structure, energy in zip(entry["structure"], entry["energy"], strict=True):
        if not isinstance(structure, StructureRecord):
            raise TypeError("no structure")
        frames.append(Frame(structure.build(), float(energy)))
    if not np.isfinite([frame.energy for frame in frames]).all():
        raise ValueError("an energy is not a number")
    matches = [FRAME.fullmatch(str(name)) for name in entry.get("id", [])]
    places = [(-int(match["calculation"]), int(match["step"])) for match in matches if match]
    if len(places) == len(frames):
        frames = [frames[index] for index in sorted(range(len(frames)), key=places.__getitem__)]
    return frames
