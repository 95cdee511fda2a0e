"""A campaign as plain files."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import numpy as np
from monty.json import MontyEncoder

from cryslator_flows.campaign.frames import CANDIDATE_COLUMNS, candidate_rows, relaxations_frame
from cryslator_flows.errors import StoreError
from cryslator_flows.relaxation.ends import converged_ends

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cryslator_flows.campaign.results import CampaignResults
    from cryslator_flows.crystals.packing import TranslatedChunk
    from cryslator_flows.schemas import RelaxationComparison


def export_campaign(results: CampaignResults, folder: Path) -> dict[Path, int]:
    """Write candidates, comparisons and structures, also of a campaign that still runs.

    Parameters
    ----------
    results : CampaignResults
        What the campaign left.
    folder : Path
        Where to; made if missing.

    Returns
    -------
    dict
        How many there are in ``candidates`` (translated candidates, lowest predicted formation energy first) and
        ``relaxations`` (a row for each candidate and start), each as ``.csv`` and as ``.jsonl``, in
        ``comparisons.jsonl`` (a `RelaxationComparison` in each line) and in the folders ``selected`` (a CIF of the
        translated structure of each selected candidate) and ``relaxed`` (a CIF of its lowest converged end).

    Raises
    ------
    CampaignError
        Enumeration has not ended, or there is no such campaign.
    StoreError
        The folder cannot be written.
    """
    comparisons = results.comparisons()
    selection = results.selection()
    chosen = set(selection.candidate_ids) if selection else set()
    chunks = results.chunks()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        candidates = folder / "candidates.csv", folder / "candidates.jsonl"
        number = write_candidates(candidates[0], _write_selected(folder, chosen, chunks), candidates[1])
        written = dict.fromkeys(candidates, number)
        relaxations = relaxations_frame(comparisons, results.rounds_of())
        relaxations.to_csv(folder / "relaxations.csv", index=False)
        relaxations.to_json(folder / "relaxations.jsonl", orient="records", lines=True)
        written |= dict.fromkeys((folder / "relaxations.csv", folder / "relaxations.jsonl"), len(relaxations))
        with (folder / "comparisons.jsonl").open("w") as lines:
            lines.writelines(f"{json.dumps(item, cls=MontyEncoder)}\n" for item in comparisons)
        written[folder / "comparisons.jsonl"] = len(comparisons)
        written[folder / "selected"] = len(chosen)
        written[folder / "relaxed"] = write_relaxed(folder / "relaxed", comparisons)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error
    return written


def write_candidates(path: Path, chunks: Iterable[TranslatedChunk], json_lines: Path | None = None) -> int:
    """Write a table of the translated candidates, lowest predicted formation energy first.

    The rows are sorted in a temporary SQLite database that SQLite moves to the disk when it grows, so that memory does
    not.

    Parameters
    ----------
    path : Path
        CSV file to write.
    chunks : iterable of TranslatedChunk
        The translated candidates.
    json_lines : Path or None
        File for the same as JSON, an object in each line.

    Returns
    -------
    int
        How many there are.
    """
    energy = CANDIDATE_COLUMNS.index("formation_energy_per_atom")
    with ExitStack() as stack:
        rows = stack.enter_context(closing(sqlite3.connect("")))
        rows.execute("CREATE TABLE candidates (energy REAL, id TEXT, row TEXT)")
        for chunk in chunks:
            cells = candidate_rows(chunk.translated)
            rows.executemany(
                "INSERT INTO candidates VALUES (?, ?, ?)", ((row[energy], row[0], json.dumps(row)) for row in cells)
            )
        table = csv.writer(stack.enter_context(path.open("w", newline="")))
        lines = stack.enter_context(json_lines.open("w")) if json_lines else None
        table.writerow(CANDIDATE_COLUMNS)
        number = 0
        for (text,) in rows.execute("SELECT row FROM candidates ORDER BY energy, id"):
            row = json.loads(text)
            table.writerow(row)
            if lines is not None:
                lines.write(json.dumps(dict(zip(CANDIDATE_COLUMNS, row, strict=True))) + "\n")
            number += 1
    return number


def _write_selected(folder: Path, chosen: set[str], chunks: Iterable[TranslatedChunk]) -> Iterator[TranslatedChunk]:
    """Hand chunks on, and write a CIF of the translated structure of each candidate chosen."""
    for chunk in chunks:
        names = chunk.translated.arrays()["candidate_id"]
        for candidate, translation in chunk.translated.take(np.flatnonzero(np.isin(names, [*chosen]))).rows():
            (folder / "selected").mkdir(exist_ok=True)
            name = f"{candidate.reduced_formula}-{translation.candidate_id}.cif"
            translation.structure.to(str(folder / "selected" / name))
        yield chunk


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
        ends = [end.structure for end in converged_ends(comparison.relaxations) if end.structure is not None]
        if ends:
            folder.mkdir(exist_ok=True)
            ends[0].to(str(folder / f"{comparison.reduced_formula}-{comparison.candidate_id}.cif"))
            number += 1
    return number
