"""A campaign as plain files."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from monty.json import MontyEncoder

from cryslator_flows.campaign.frames import CANDIDATE_COLUMNS, candidate_rows, relaxations_frame
from cryslator_flows.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cryslator_flows.campaign.results import CampaignResults
    from cryslator_flows.crystals.packing import TranslatedChunk
    from cryslator_flows.schemas import RelaxationComparison


def export_campaign(results: CampaignResults, folder: Path) -> dict[Path, int]:
    """Write candidates, comparisons and relaxed structures, also of a campaign that still runs.

    Parameters
    ----------
    results : CampaignResults
        What the campaign left.
    folder : Path
        Where to; made if missing.

    Returns
    -------
    dict
        How many there are in ``candidates.csv`` (translated candidates, lowest predicted formation energy first),
        ``relaxations.csv`` (a row for each candidate and start), ``comparisons.jsonl`` (a `RelaxationComparison` in
        each line) and the folder ``relaxed`` (a CIF of the lowest converged end of each candidate).

    Raises
    ------
    CampaignError
        Enumeration has not ended, or there is no such campaign.
    StoreError
        The folder cannot be written.
    """
    comparisons = results.comparisons()
    chunks = results.chunks()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = {folder / "candidates.csv": write_candidates(folder / "candidates.csv", chunks)}
        relaxations = relaxations_frame(comparisons)
        relaxations.to_csv(folder / "relaxations.csv", index=False)
        written[folder / "relaxations.csv"] = len(relaxations)
        with (folder / "comparisons.jsonl").open("w") as lines:
            lines.writelines(f"{json.dumps(item, cls=MontyEncoder)}\n" for item in comparisons)
        written[folder / "comparisons.jsonl"] = len(comparisons)
        written[folder / "relaxed"] = write_relaxed(folder / "relaxed", comparisons)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error
    return written


def write_candidates(path: Path, chunks: Iterable[TranslatedChunk]) -> int:
    """Write a table of the translated candidates, lowest predicted formation energy first.

    The rows are sorted in a temporary SQLite database that SQLite moves to the disk when it grows, so that memory does
    not.

    Parameters
    ----------
    path : Path
        CSV file to write.
    chunks : iterable of TranslatedChunk
        The translated candidates.

    Returns
    -------
    int
        How many there are.
    """
    energy = CANDIDATE_COLUMNS.index("formation_energy_per_atom")
    with closing(sqlite3.connect("")) as rows, path.open("w", newline="") as file:
        rows.execute("CREATE TABLE candidates (energy REAL, id TEXT, row TEXT)")
        for chunk in chunks:
            cells = candidate_rows(chunk.translated)
            rows.executemany(
                "INSERT INTO candidates VALUES (?, ?, ?)", ((row[energy], row[0], json.dumps(row)) for row in cells)
            )
        table = csv.writer(file)
        table.writerow(CANDIDATE_COLUMNS)
        number = 0
        for (row,) in rows.execute("SELECT row FROM candidates ORDER BY energy, id"):
            table.writerow(json.loads(row))
            number += 1
    return number


def write_relaxed(folder: Path, comparisons: list[RelaxationComparison]) -> int:
    """Write a CIF of the lowest converged end of each candidate.

    Parameters
    ----------
    folder : Path
        Where to; made if there is one to write.
    comparisons : list of RelaxationComparison
        The relaxed candidates.

    Returns
    -------
    int
        How many there are.
    """
    number = 0
    for comparison in comparisons:
        ends = [
            (item.energy_per_atom, item.structure)
            for item in comparison.relaxations
            if item.structure is not None and item.energy_per_atom is not None and item.cost and item.cost.converged
        ]
        if ends:
            _, lowest = min(ends, key=lambda end: end[0])
            folder.mkdir(exist_ok=True)
            lowest.to(str(folder / f"{comparison.reduced_formula}-{comparison.candidate_id}.cif"))
            number += 1
    return number
